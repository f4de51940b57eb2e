"""The sigmoidal family: sigmoid, tanh, softsign, tanhshrink."""

import jax

from jaxact import _kernels as kernels
from jaxact._activation import activation
from jaxact._dtypes import BOOLEAN, COMPLEX, FLOATS, INTEGERS, WIDE_UNSIGNED


@activation(FLOATS | COMPLEX, to_float32=BOOLEAN | INTEGERS | WIDE_UNSIGNED)
def sigmoid(x: jax.Array, /) -> jax.Array:
    r"""Logistic sigmoid.

    .. math:: \operatorname{sigmoid}(x) = \frac{1}{1 + e^{-x}}, \qquad
              \operatorname{sigmoid}'(x) = \frac{e^{-|x|}}{(1 + e^{-|x|})^2}

    The derivative keeps its tails: torch computes it as :math:`y (1 - y)`, which is 0 for :math:`x > 17`.

    Args:
        x: Array of any shape and any dtype; booleans and integers are computed in float32.

    Returns:
        Array of the shape of ``x``; of its dtype if that is a float or complex one, else float32.

    Raises:
        TypeError: If ``x`` is no array or number.

    Example:
        >>> import jax.numpy as jnp, jaxact
        >>> print(jnp.array_str(jaxact.sigmoid(jnp.array([-1.0, 2.0, -3.0, 4.0, 0.0])), precision=4))
        [0.2689 0.8808 0.0474 0.982  0.5   ]

    See Also:
        :func:`torch.sigmoid`, :class:`torch.nn.Sigmoid`

    References:
        Verhulst, "Notice sur la loi que la population suit dans son accroissement", 1838.
    """
    return kernels.sigmoid.sigmoid(x)


@activation(FLOATS | COMPLEX, to_float32=BOOLEAN | INTEGERS | WIDE_UNSIGNED, widen=False)
def tanh(x: jax.Array, /) -> jax.Array:
    r"""Hyperbolic tangent.

    .. math:: \tanh(x) = \frac{e^x - e^{-x}}{e^x + e^{-x}}, \qquad
              \tanh'(x) = \frac{4 e^{-2|x|}}{(1 + e^{-2|x|})^2}

    The derivative keeps its tails: torch computes it as :math:`1 - y^2`, which is 0 for :math:`|x| > 9`.

    Args:
        x: Array of any shape and any dtype; booleans and integers are computed in float32.

    Returns:
        Array of the shape of ``x``; of its dtype if that is a float or complex one, else float32.

    Raises:
        TypeError: If ``x`` is no array or number.

    Example:
        >>> import jax.numpy as jnp, jaxact
        >>> print(jnp.array_str(jaxact.tanh(jnp.array([-1.0, 2.0, -3.0, 4.0, 0.0])), precision=4))
        [-0.7616  0.964  -0.9951  0.9993  0.    ]

    See Also:
        :func:`torch.tanh`, :class:`torch.nn.Tanh`

    References:
        LeCun, Bottou, Orr and Müller, "Efficient BackProp", 1998.
    """
    return kernels.tanh.tanh(x)


@activation(FLOATS | COMPLEX, to_float32=INTEGERS)
def softsign(x: jax.Array, /) -> jax.Array:
    r"""Algebraic sigmoid.

    .. math:: \operatorname{softsign}(x) = \frac{x}{1 + |x|}, \qquad
              \operatorname{softsign}'(x) = \frac{1}{(1 + |x|)^2}

    Args:
        x: Array of any shape, of a float, complex or signed integer dtype or uint8; integers are computed in
            float32.

    Returns:
        Array of the shape of ``x``; of its dtype if that is a float or complex one, else float32.

    Raises:
        TypeError: If ``x`` is no array or number, or of another dtype.

    Example:
        >>> import jax.numpy as jnp, jaxact
        >>> print(jaxact.softsign(jnp.array([-1.0, 0.0, 3.0])))
        [-0.5   0.    0.75]

    See Also:
        :func:`torch.nn.functional.softsign`, :class:`torch.nn.Softsign`

    References:
        Turian, Bergstra and Bengio, "Quadratic features and deep architectures for chunking", NAACL 2009.
    """
    return kernels.softsign.softsign(x)


@activation(FLOATS | COMPLEX, to_float32=INTEGERS | WIDE_UNSIGNED)
def tanhshrink(x: jax.Array, /) -> jax.Array:
    r"""What the hyperbolic tangent leaves.

    .. math:: \operatorname{tanhshrink}(x) = x - \tanh(x), \qquad
              \operatorname{tanhshrink}'(x) = \tanh^2(x)

    Args:
        x: Array of any shape, of a float, complex or integer dtype; integers are computed in float32.

    Returns:
        Array of the shape of ``x``; of its dtype if that is a float or complex one, else float32.

    Raises:
        TypeError: If ``x`` is no array or number, or boolean.

    Example:
        >>> import jax.numpy as jnp, jaxact
        >>> print(jnp.array_str(jaxact.tanhshrink(jnp.array([-1.0, 0.0, 3.0])), precision=4))
        [-0.2384  0.      2.0049]

    See Also:
        :func:`torch.nn.functional.tanhshrink`, :class:`torch.nn.Tanhshrink`

    References:
        The PyTorch documentation of :class:`torch.nn.Tanhshrink`.
    """
    return kernels.tanhshrink.tanhshrink(x)

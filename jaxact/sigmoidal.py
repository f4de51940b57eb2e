"""The sigmoidal family: sigmoid, tanh."""

import jax

from jaxact._boundary import BOOLEAN, COMPLEX, FLOATS, INTEGERS, WIDE_UNSIGNED, activation
from jaxact._numerics import sigmoidal as kernels


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
        >>> print(jaxact.sigmoid(jnp.array([-1.0, 2.0, -3.0, 4.0, 0.0])).round(4))
        [0.2689 0.8808 0.0474 0.982  0.5   ]

    See Also:
        :func:`torch.sigmoid`, :class:`torch.nn.Sigmoid`

    References:
        Verhulst, "Notice sur la loi que la population suit dans son accroissement", 1838.
    """
    return kernels.sigmoid(x)


@activation(FLOATS | COMPLEX, to_float32=BOOLEAN | INTEGERS | WIDE_UNSIGNED)
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
        >>> print(jaxact.tanh(jnp.array([-1.0, 2.0, -3.0, 4.0, 0.0])).round(4))
        [-0.7616  0.964  -0.9951  0.9993  0.    ]

    See Also:
        :func:`torch.tanh`, :class:`torch.nn.Tanh`

    References:
        LeCun, Bottou, Orr and Müller, "Efficient BackProp", 1998.
    """
    return kernels.tanh(x)

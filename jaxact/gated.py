"""The gated family, in which the input scales a gate: silu, gelu, mish, glu."""

import jax
import jax.numpy as jnp

from jaxact import _kernels as kernels
from jaxact._activation import Static, activation
from jaxact._checks import canonical_dim
from jaxact._dtypes import COMPLEX, FLOATS


@activation(FLOATS | COMPLEX)
def silu(x: jax.Array, /) -> jax.Array:
    r"""Sigmoid linear unit, also called swish.

    .. math:: \operatorname{silu}(x) = x \operatorname{sigmoid}(x) = \frac{x}{1 + e^{-x}}

    Args:
        x: Array of any shape, of a float or complex dtype.

    Returns:
        Array of the shape and dtype of ``x``.

    Raises:
        TypeError: If ``x`` is no array or number, or of another dtype.

    Example:
        >>> import jax.numpy as jnp, jaxact
        >>> print(jnp.array_str(jaxact.silu(jnp.array([-1.0, 0.0, 2.0])), precision=4))
        [-0.2689  0.      1.7616]

    See Also:
        :func:`torch.nn.functional.silu`, :class:`torch.nn.SiLU`

    References:
        Elfwing, Uchibe and Doya, "Sigmoid-weighted linear units for neural network function approximation in
        reinforcement learning", Neural Networks 107, 2018; Hendrycks and Gimpel, arXiv 1606.08415.
    """
    return kernels.silu.silu(x)


@activation()
def gelu(x: jax.Array, /, approximate: Static[str] = "none") -> jax.Array:
    r"""Gaussian error linear unit.

    .. math:: \operatorname{gelu}(x) = x \, \Phi(x) = \frac{x}{2} \Bigl(1 + \operatorname{erf} \frac{x}{\sqrt 2}\Bigr)

    or, with ``approximate="tanh"``,

    .. math:: \frac{x}{2} \Bigl(1 + \tanh \bigl(\sqrt{2 / \pi}\,(x + 0.044715\,x^3)\bigr)\Bigr)

    Args:
        x: Array of any shape, of a float dtype.
        approximate: "none" for the exact function, "tanh" for the approximation.

    Returns:
        Array of the shape and dtype of ``x``.

    Raises:
        TypeError: If ``x`` is no array or number or not of a float dtype, or ``approximate`` is no string.
        ValueError: If ``approximate`` is neither "none" nor "tanh".

    Example:
        >>> import jax.numpy as jnp, jaxact
        >>> x = jnp.array([-1.0, 0.0, 2.0])
        >>> print(jnp.array_str(jaxact.gelu(x), precision=4))
        [-0.1587  0.      1.9545]
        >>> print(jnp.array_str(jaxact.gelu(x, approximate="tanh"), precision=4))
        [-0.1588  0.      1.9546]

    See Also:
        :func:`torch.nn.functional.gelu`, :class:`torch.nn.GELU`. :func:`jax.nn.gelu` approximates by default.

    References:
        Hendrycks and Gimpel, "Gaussian error linear units (GELUs)", arXiv 1606.08415.
    """
    if not isinstance(approximate, str):
        raise TypeError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    if approximate == "none":
        return kernels.gelu.gelu(x)
    if approximate == "tanh":
        return kernels.gelu.gelu_tanh(x)
    raise ValueError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")


@activation()
def mish(x: jax.Array, /) -> jax.Array:
    r"""Self-regularized gated unit.

    .. math:: \operatorname{mish}(x) = x \tanh(\operatorname{softplus}(x)) = x \tanh(\log(1 + e^x))

    Args:
        x: Array of any shape, of a float dtype.

    Returns:
        Array of the shape and dtype of ``x``.

    Raises:
        TypeError: If ``x`` is no array or number, or not of a float dtype.

    Example:
        >>> import jax.numpy as jnp, jaxact
        >>> print(jnp.array_str(jaxact.mish(jnp.array([-1.0, 0.0, 2.0])), precision=4))
        [-0.3034  0.      1.944 ]

    See Also:
        :func:`torch.nn.functional.mish`, :class:`torch.nn.Mish`

    References:
        Misra, "Mish: a self regularized non-monotonic activation function", BMVC 2020.
    """
    return kernels.mish.mish(x)


@activation()
def glu(x: jax.Array, /, dim: Static[int] = -1) -> jax.Array:
    r"""Gated linear unit.

    .. math:: \operatorname{glu}(a, b) = a \operatorname{sigmoid}(b)

    with :math:`a` and :math:`b` the first and the second half of the input along an axis.

    Args:
        x: Array of one axis or more, of a float dtype, its size along ``dim`` even.
        dim: The axis to halve, negative to count from the end.

    Returns:
        Array of the shape of ``x``, halved along ``dim``, and of its dtype.

    Raises:
        TypeError: If ``x`` is no array or not of a float dtype, or ``dim`` is no int.
        ValueError: If ``x`` has no axis, its size along ``dim`` is odd, or ``dim`` is out of range.

    Example:
        >>> import jax.numpy as jnp, jaxact
        >>> print(jnp.array_str(jaxact.glu(jnp.array([3.0, 4.0, 0.0, 1.0])), precision=4))
        [1.5    2.9242]

    See Also:
        :func:`torch.nn.functional.glu`, :class:`torch.nn.GLU`

    References:
        Dauphin, Fan, Auli and Grangier, "Language modeling with gated convolutional networks", ICML 2017.
    """
    if x.ndim == 0:
        raise ValueError("glu: input must have an axis to halve, got a 0-d array")
    axis = canonical_dim("glu", dim, x.ndim)
    if x.shape[axis] % 2:
        raise ValueError(f"glu: the size along dim={dim} must be even to be halved, got shape {x.shape}")
    return kernels.glu.glu(*jnp.split(x, 2, axis))

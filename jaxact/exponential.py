"""The exponential family: elu, selu, celu, softplus, logsigmoid."""

from typing import Any

import jax

from jaxact import _kernels as kernels
from jaxact._activation import activation
from jaxact._checks import known
from jaxact._kernels.parameters import Scalar


@activation()
def elu(x: jax.Array, /, alpha: Scalar = 1.0) -> jax.Array:
    r"""Exponential linear unit.

    .. math:: \operatorname{elu}(x) = \begin{cases} x & x > 0 \\ \alpha\,(e^x - 1) & \text{otherwise} \end{cases}

    The derivative at 0 is :math:`\alpha`.

    Args:
        x: Array of any shape, of a float dtype.
        alpha: The scale :math:`\alpha`, a number or a 0-d array.

    Returns:
        Array of the shape and dtype of ``x``.

    Raises:
        TypeError: If ``x`` is no array or number or not of a float dtype, or ``alpha`` is no real number.
        ValueError: If ``alpha`` is an array with axes.

    Example:
        >>> import jax.numpy as jnp, jaxact
        >>> print(jnp.array_str(jaxact.elu(jnp.array([-1.0, 0.0, 2.0])), precision=4))
        [-0.6321  0.      2.    ]

    See Also:
        :func:`torch.nn.functional.elu`, :class:`torch.nn.ELU`

    References:
        Clevert, Unterthiner and Hochreiter, "Fast and accurate deep network learning by exponential linear
        units", ICLR 2016.
    """
    return kernels.elu.elu(x, alpha)


@activation()
def selu(x: jax.Array, /) -> jax.Array:
    r"""Scaled exponential linear unit, which keeps mean 0 and variance 1 from layer to layer.

    .. math:: \operatorname{selu}(x) = s \begin{cases} x & x > 0 \\ \alpha\,(e^x - 1) & \text{otherwise} \end{cases}

    with :math:`s = 1.0507009873554805` and :math:`\alpha = 1.6732632423543772`. The derivative at 0 is
    :math:`s \alpha`.

    Args:
        x: Array of any shape, of a float dtype.

    Returns:
        Array of the shape and dtype of ``x``.

    Raises:
        TypeError: If ``x`` is no array or number, or not of a float dtype.

    Example:
        >>> import jax.numpy as jnp, jaxact
        >>> print(jnp.array_str(jaxact.selu(jnp.array([-1.0, 0.0, 2.0])), precision=4))
        [-1.1113  0.      2.1014]

    See Also:
        :func:`torch.nn.functional.selu`, :class:`torch.nn.SELU`

    References:
        Klambauer, Unterthiner, Mayr and Hochreiter, "Self-normalizing neural networks", NeurIPS 2017.
    """
    return kernels.elu.selu(x)


def _check_celu(_x: Any, /, alpha: Scalar) -> None:
    if known(alpha) and alpha == 0:
        raise ValueError("celu: alpha must not be 0, it divides x; jaxact.relu is the limit")


@activation(check=_check_celu)
def celu(x: jax.Array, /, alpha: Scalar = 1.0) -> jax.Array:
    r"""Continuously differentiable exponential linear unit.

    .. math:: \operatorname{celu}(x) = \begin{cases} x & x > 0 \\ \alpha\,(e^{x / \alpha} - 1) & \text{otherwise}
              \end{cases}

    The derivative at 0 is 1.

    Args:
        x: Array of any shape, of a float dtype.
        alpha: The scale :math:`\alpha \ne 0`, a number or a 0-d array.

    Returns:
        Array of the shape and dtype of ``x``.

    Raises:
        TypeError: If ``x`` is no array or number or not of a float dtype, or ``alpha`` is no real number.
        ValueError: If ``alpha`` is 0 or an array with axes.

    Example:
        >>> import jax.numpy as jnp, jaxact
        >>> print(jnp.array_str(jaxact.celu(jnp.array([-1.0, 0.0, 2.0]), 2.0), precision=4))
        [-0.7869  0.      2.    ]

    See Also:
        :func:`torch.nn.functional.celu`, :class:`torch.nn.CELU`

    References:
        Barron, "Continuously differentiable exponential linear units", 2017.
    """
    return kernels.elu.celu(x, alpha)


@activation()
def softplus(x: jax.Array, /, beta: Scalar = 1.0, threshold: Scalar = 20.0) -> jax.Array:
    r"""Smooth rectified linear unit.

    .. math:: \operatorname{softplus}(x) = \begin{cases} x & \beta x > t \\ \frac{1}{\beta} \log(1 + e^{\beta x})
              & \text{otherwise} \end{cases}

    with the threshold :math:`t`, above which the value is that of the limit and the derivative is 1.

    Args:
        x: Array of any shape, of a float dtype.
        beta: The sharpness :math:`\beta`, a number or a 0-d array.
        threshold: The threshold :math:`t`, a number or a 0-d array.

    Returns:
        Array of the shape and dtype of ``x``.

    Raises:
        TypeError: If ``x`` is no array or number or not of a float dtype, or a parameter is no real number.
        ValueError: If a parameter is an array with axes.

    Example:
        >>> import jax.numpy as jnp, jaxact
        >>> print(jnp.array_str(jaxact.softplus(jnp.array([-1.0, 0.0, 2.0])), precision=4))
        [0.3133 0.6931 2.1269]

    See Also:
        :func:`torch.nn.functional.softplus`, :class:`torch.nn.Softplus`

    References:
        Dugas, Bengio, Bélisle, Nadeau and Garcia, "Incorporating second-order functional knowledge for better
        option pricing", NeurIPS 2000.
    """
    return kernels.softplus.softplus(x, beta, threshold)


@activation()
def logsigmoid(x: jax.Array, /) -> jax.Array:
    r"""Logarithm of the logistic sigmoid.

    .. math:: \operatorname{logsigmoid}(x) = \log \frac{1}{1 + e^{-x}} = \min(x, 0) - \log(1 + e^{-|x|})

    Args:
        x: Array of any shape, of a float dtype.

    Returns:
        Array of the shape and dtype of ``x``.

    Raises:
        TypeError: If ``x`` is no array or number, or not of a float dtype.

    Example:
        >>> import jax.numpy as jnp, jaxact
        >>> print(jnp.array_str(jaxact.logsigmoid(jnp.array([-1.0, 0.0, 2.0])), precision=4))
        [-1.3133 -0.6931 -0.1269]

    See Also:
        :func:`torch.nn.functional.logsigmoid`, :class:`torch.nn.LogSigmoid`

    References:
        The PyTorch documentation of :class:`torch.nn.LogSigmoid`.
    """
    return kernels.softplus.logsigmoid(x)

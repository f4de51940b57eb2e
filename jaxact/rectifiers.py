"""The rectifiers: relu, leaky_relu."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxact._boundary import FLOATS, INTEGERS, activation


@activation(FLOATS | INTEGERS)
def relu(x: jax.Array, /) -> jax.Array:
    r"""Rectified linear unit.

    .. math:: \operatorname{relu}(x) = \max(0, x)

    The derivative is 0 for :math:`x \le 0` and 1 above; at NaN it is 1.

    Args:
        x: Array of any shape, of a float dtype, a signed integer dtype or uint8.

    Returns:
        Array of the shape and dtype of ``x``.

    Raises:
        TypeError: If ``x`` is no array or number, or of another dtype.

    Example:
        >>> import jax.numpy as jnp, jaxact
        >>> print(jaxact.relu(jnp.array([-1, 2, -3, 4, 0])))
        [0 2 0 4 0]

    See Also:
        :func:`torch.nn.functional.relu`, :class:`torch.nn.ReLU`

    References:
        Nair and Hinton, "Rectified linear units improve restricted Boltzmann machines", ICML 2010.
    """
    return _relu(x)


@jax.custom_jvp
def _relu(x: jax.Array) -> jax.Array:
    return jnp.where(x < 0, 0, x)  # a comparison, not a maximum: it keeps -0.0 and NaN, as torch does


_relu.defjvps(lambda dx, y, x: jnp.where(x <= 0, 0, dx))


@activation()
def leaky_relu(x: jax.Array, /, negative_slope: ArrayLike = 0.01) -> jax.Array:
    r"""Leaky rectified linear unit.

    .. math:: \operatorname{leaky\_relu}(x) = \begin{cases} x & x > 0 \\ s\,x & \text{otherwise} \end{cases}

    with the slope :math:`s`. At 0 and at NaN the derivative is :math:`s`.

    Args:
        x: Array of any shape, of a float dtype.
        negative_slope: The slope :math:`s`, a number or a 0-d array, which may be traced.

    Returns:
        Array of the shape and dtype of ``x``.

    Raises:
        TypeError: If ``x`` is no array or number or not of a float dtype, or the slope is no real number.
        ValueError: If the slope is an array with axes.

    Example:
        >>> import jax.numpy as jnp, jaxact
        >>> print(jaxact.leaky_relu(jnp.array([-1.0, 2.0, -3.0, 4.0, 0.0]), 0.1))
        [-0.1  2.  -0.3  4.   0. ]

    See Also:
        :func:`torch.nn.functional.leaky_relu`, :class:`torch.nn.LeakyReLU`

    References:
        Maas, Hannun and Ng, "Rectifier nonlinearities improve neural network acoustic models", ICML 2013.
    """
    return _sloped(x, negative_slope)


def _sloped(x: jax.Array, slope: ArrayLike) -> jax.Array:
    """Return x above 0 and slope * x elsewhere; `below` keeps an infinite x out of the slope's derivative."""
    below = jnp.where(x > 0, 0, x)
    return jnp.where(x > 0, x, below * slope)

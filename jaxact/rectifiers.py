"""The rectifiers: relu, relu6, leaky_relu, prelu, rrelu, threshold."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxact import _kernels as kernels
from jaxact._activation import Key, Static, activation
from jaxact._checks import known, require_representable
from jaxact._dtypes import FLOATS, INTEGERS, WIDE_UNSIGNED
from jaxact._kernels.parameters import Scalar


@activation(FLOATS | INTEGERS | WIDE_UNSIGNED)
def relu(x: jax.Array, /) -> jax.Array:
    r"""Rectified linear unit.

    .. math:: \operatorname{relu}(x) = \max(0, x)

    The derivative is 0 for :math:`x \le 0` and 1 above; at NaN it is 1.

    Args:
        x: Array of any shape, of a float or integer dtype.

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
    return kernels.piecewise.relu(x)


@activation(FLOATS | INTEGERS | WIDE_UNSIGNED)
def relu6(x: jax.Array, /) -> jax.Array:
    r"""Rectified linear unit that saturates at 6.

    .. math:: \operatorname{relu6}(x) = \min(\max(0, x), 6)

    The derivative is 1 for :math:`0 < x < 6` and 0 elsewhere, NaN included.

    Args:
        x: Array of any shape, of a float or integer dtype.

    Returns:
        Array of the shape and dtype of ``x``.

    Raises:
        TypeError: If ``x`` is no array or number, or of another dtype.

    Example:
        >>> import jax.numpy as jnp, jaxact
        >>> print(jaxact.relu6(jnp.array([-1.0, 2.0, 8.0])))
        [0. 2. 6.]

    See Also:
        :func:`torch.nn.functional.relu6`, :class:`torch.nn.ReLU6`

    References:
        Krizhevsky, "Convolutional deep belief networks on CIFAR-10", 2010.
    """
    return kernels.piecewise.clip(x, 0, 6)


@activation()
def leaky_relu(x: jax.Array, /, negative_slope: Scalar = 0.01) -> jax.Array:
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
    return kernels.piecewise.sloped(x, negative_slope)


@activation()
def prelu(x: jax.Array, /, weight: ArrayLike) -> jax.Array:
    r"""Leaky rectified linear unit with a learned slope, one for all or one for each channel.

    .. math:: \operatorname{prelu}(x) = \begin{cases} x & x > 0 \\ w_c\,x & \text{otherwise} \end{cases}

    with the slope :math:`w_c` of the channel :math:`c`. At 0 and at NaN the derivative is :math:`w_c`.

    Args:
        x: Array of any shape, of a float dtype. Its channels are axis 1, or axis 0 if there is just one axis.
        weight: The slopes: a number, a 0-d array, or a 1-d array of size 1 or of one slope for each channel;
            of the dtype of ``x``.

    Returns:
        Array of the shape and dtype of ``x``.

    Raises:
        TypeError: If ``x`` or ``weight`` is no array or number or not of a float dtype, or the dtypes differ.
        ValueError: If ``weight`` has two axes or more, or does not fit the channels.

    Example:
        >>> import jax.numpy as jnp, jaxact
        >>> print(jaxact.prelu(jnp.array([[-1.0, -2.0], [3.0, -4.0]]), jnp.array([0.5, 0.25])))
        [[-0.5 -0.5]
         [ 3.  -1. ]]

    See Also:
        :func:`torch.nn.functional.prelu`, :class:`torch.nn.PReLU`. torch takes one slope only for a 1-d input.

    References:
        He, Zhang, Ren and Sun, "Delving deep into rectifiers", ICCV 2015.
    """
    return kernels.piecewise.sloped(x, _along_channels(x, weight))


def _along_channels(x: jax.Array, weight: ArrayLike) -> jax.Array:
    """Return the slopes in a shape that broadcasts against x."""
    weight = jnp.asarray(weight)
    axis = min(1, x.ndim - 1)
    channels = x.shape[axis] if x.ndim else 1
    if weight.ndim > 1:
        raise ValueError(f"prelu: weight must have at most one axis, got an array of shape {weight.shape}")
    if weight.size not in (1, channels):
        raise ValueError(
            f"prelu: weight must hold 1 slope or one for each of the {channels} channels (axis {axis} of an input "
            f"of shape {x.shape}), got {weight.size}"
        )
    shape = [1] * x.ndim
    if weight.size != 1:
        shape[axis] = channels
    return weight.reshape(shape)


def _check_rrelu(_x: Any, /, lower: Scalar, upper: Scalar, training: bool, key: jax.Array | None) -> None:
    if known(lower, upper) and not (lower <= upper and math.isfinite(lower) and math.isfinite(upper)):
        raise ValueError(f"rrelu: the bounds must be finite and lower <= upper, got lower={lower}, upper={upper}")
    if training and key is None:
        raise ValueError("rrelu: training=True draws random slopes and needs key=, a JAX PRNG key, got None")


@activation(check=_check_rrelu)
def rrelu(
    x: jax.Array,
    /,
    lower: Scalar = 1 / 8,
    upper: Scalar = 1 / 3,
    training: Static[bool] = False,
    *,
    key: Key | None = None,
) -> jax.Array:
    r"""Leaky rectified linear unit with a random slope.

    .. math:: \operatorname{rrelu}(x) = \begin{cases} x & x > 0 \\ a\,x & \text{otherwise} \end{cases}

    In training each element draws its own slope :math:`a`, uniform between ``lower`` and ``upper``; otherwise
    :math:`a` is their mean.

    Args:
        x: Array of any shape, of a float dtype.
        lower: The least slope, a number or a 0-d array.
        upper: The largest slope, a number or a 0-d array.
        training: Whether to draw the slopes.
        key: The JAX PRNG key to draw them with; required in training. The same key draws the same slopes.

    Returns:
        Array of the shape and dtype of ``x``.

    Raises:
        TypeError: If ``x`` is no array or number or not of a float dtype, a bound is no real number, or
            ``training`` is neither True nor False.
        ValueError: If ``lower`` exceeds ``upper``, a bound is not finite, or ``key`` is missing in training.

    Example:
        >>> import jax, jax.numpy as jnp, jaxact
        >>> x = jnp.array([-24.0, 3.0])
        >>> print(jaxact.rrelu(x))
        [-5.5  3. ]
        >>> y = jaxact.rrelu(x, training=True, key=jax.random.key(0))
        >>> print(bool(-8 <= y[0] <= -3), y[1])
        True 3.0

    See Also:
        :func:`torch.nn.functional.rrelu`, :class:`torch.nn.RReLU`

    References:
        Xu, Wang, Chen and Li, "Empirical evaluation of rectified activations in convolutional network", 2015.
    """
    if training and key is not None:
        return kernels.piecewise.sloped(x, jax.random.uniform(key, x.shape, x.dtype, lower, upper))
    return kernels.piecewise.sloped(x, (lower + upper) / 2)


def _check_threshold(x: Any, /, threshold: Scalar, value: Scalar) -> None:
    require_representable("threshold", x, threshold=threshold, value=value)


@activation(FLOATS | INTEGERS, check=_check_threshold)
def threshold(x: jax.Array, /, threshold: Scalar, value: Scalar) -> jax.Array:
    r"""Replacement of what does not exceed a threshold.

    .. math:: \operatorname{threshold}(x) = \begin{cases} x & x > t \\ v & \text{otherwise} \end{cases}

    with the threshold :math:`t` and the value :math:`v`. NaN stays NaN. The derivative at :math:`t` is 0.

    Args:
        x: Array of any shape, of a float dtype, a signed integer dtype or uint8.
        threshold: The threshold :math:`t`, a number or a 0-d array; cut to an integer for integers.
        value: The value :math:`v`, a number or a 0-d array; cut to an integer for integers.

    Returns:
        Array of the shape and dtype of ``x``.

    Raises:
        TypeError: If ``x`` is no array or number or of another dtype, or a parameter is no real number.
        ValueError: If a parameter is an array with axes.
        OverflowError: If ``x`` holds integers and its dtype cannot hold a parameter.

    Example:
        >>> import jax.numpy as jnp, jaxact
        >>> print(jaxact.threshold(jnp.array([-1.0, 0.1, 0.5, 2.0]), 0.1, 20.0))
        [20.  20.   0.5  2. ]

    See Also:
        :func:`torch.nn.functional.threshold`, :class:`torch.nn.Threshold`

    References:
        The PyTorch documentation of :class:`torch.nn.Threshold`.
    """
    return jnp.where(x <= threshold, value, x)

"""The hard family, piecewise linear or quadratic: hardtanh, hardsigmoid, hardswish, hardshrink, softshrink."""

from typing import Any

import jax
import numpy as np

from jaxact import _kernels as kernels
from jaxact._activation import activation
from jaxact._checks import known
from jaxact._dtypes import FLOATS, INTEGERS, WIDE_UNSIGNED, integer_range
from jaxact._kernels.parameters import Scalar


def _check_hardtanh(x: Any, /, min_val: Scalar, max_val: Scalar) -> None:
    if not known(min_val, max_val):
        return
    if not min_val <= max_val:
        raise ValueError(f"hardtanh: min_val must not exceed max_val, got min_val={min_val}, max_val={max_val}")
    info = integer_range(x)
    if info is not None and (np.trunc(min_val) > info.max or np.trunc(max_val) < info.min):
        raise OverflowError(
            f"hardtanh: the bounds must leave numbers of the input's dtype {info.dtype}, [{info.min}, {info.max}], "
            f"got min_val={min_val}, max_val={max_val}"
        )


@activation(FLOATS | INTEGERS | WIDE_UNSIGNED, check=_check_hardtanh)
def hardtanh(x: jax.Array, /, min_val: Scalar = -1.0, max_val: Scalar = 1.0) -> jax.Array:
    r"""Identity, cut at a lower and an upper bound.

    .. math:: \operatorname{hardtanh}(x) = \min(\max(x, a), b)

    with the bounds :math:`a \le b`. The derivative is 1 for :math:`a < x < b` and 0 elsewhere, NaN included.

    Args:
        x: Array of any shape, of a float or integer dtype.
        min_val: The lower bound :math:`a`, a number or a 0-d array; for integers cut to an integer, and no bound
            where it is below the range of their dtype.
        max_val: The upper bound :math:`b`, a number or a 0-d array; for integers cut to an integer, and no bound
            where it is above the range of their dtype.

    Returns:
        Array of the shape and dtype of ``x``.

    Raises:
        TypeError: If ``x`` is no array or number or of another dtype, or a bound is no real number.
        ValueError: If ``min_val`` exceeds ``max_val``, or a bound is an array with axes.
        OverflowError: If ``x`` holds integers and the bounds leave none of its dtype.

    Example:
        >>> import jax.numpy as jnp, jaxact
        >>> print(jaxact.hardtanh(jnp.array([-3.0, -0.5, 0.25, 3.0])))
        [-1.   -0.5   0.25  1.  ]

    See Also:
        :func:`torch.nn.functional.hardtanh`, :class:`torch.nn.Hardtanh`

    References:
        Collobert, "Large scale machine learning", PhD thesis, Université Paris VI, 2004.
    """
    return kernels.piecewise.clip(x, min_val, max_val)


@activation()
def hardsigmoid(x: jax.Array, /) -> jax.Array:
    r"""Piecewise linear sigmoid.

    .. math:: \operatorname{hardsigmoid}(x) = \frac{\min(\max(x + 3, 0), 6)}{6}

    The derivative is 1/6 for :math:`-3 < x < 3` and 0 elsewhere, NaN included.

    Args:
        x: Array of any shape, of a float dtype.

    Returns:
        Array of the shape and dtype of ``x``.

    Raises:
        TypeError: If ``x`` is no array or number, or not of a float dtype.

    Example:
        >>> import jax.numpy as jnp, jaxact
        >>> print(jaxact.hardsigmoid(jnp.array([-4.0, -1.5, 0.0, 4.0])))
        [0.   0.25 0.5  1.  ]

    See Also:
        :func:`torch.nn.functional.hardsigmoid`, :class:`torch.nn.Hardsigmoid`

    References:
        Howard et al., "Searching for MobileNetV3", ICCV 2019.
    """
    return kernels.hardsigmoid.hardsigmoid(x)


@activation()
def hardswish(x: jax.Array, /) -> jax.Array:
    r"""Piecewise quadratic silu.

    .. math:: \operatorname{hardswish}(x) = x \, \frac{\min(\max(x + 3, 0), 6)}{6}

    The derivative is 0 for :math:`x \le -3`, 1 for :math:`x \ge 3` and :math:`x / 3 + 1 / 2` between.

    Args:
        x: Array of any shape, of a float dtype.

    Returns:
        Array of the shape and dtype of ``x``.

    Raises:
        TypeError: If ``x`` is no array or number, or not of a float dtype.

    Example:
        >>> import jax.numpy as jnp, jaxact
        >>> print(jaxact.hardswish(jnp.array([-4.0, -1.5, 0.0, 4.0])))
        [-0.    -0.375  0.     4.   ]

    See Also:
        :func:`torch.nn.functional.hardswish`, :class:`torch.nn.Hardswish`

    References:
        Howard et al., "Searching for MobileNetV3", ICCV 2019.
    """
    return kernels.hardswish.hardswish(x)


@activation()
def hardshrink(x: jax.Array, /, lambd: Scalar = 0.5) -> jax.Array:
    r"""Identity with an interval around 0 set to 0.

    .. math:: \operatorname{hardshrink}(x) = \begin{cases} 0 & -\lambda \le x \le \lambda \\ x & \text{otherwise}
              \end{cases}

    The derivative is 0 in the interval, ends included, and at NaN, and 1 elsewhere.

    Args:
        x: Array of any shape, of a float dtype.
        lambd: Half the width :math:`\lambda`, a number or a 0-d array; if negative, the interval is empty.

    Returns:
        Array of the shape and dtype of ``x``.

    Raises:
        TypeError: If ``x`` is no array or number or not of a float dtype, or ``lambd`` is no real number.
        ValueError: If ``lambd`` is an array with axes.

    Example:
        >>> import jax.numpy as jnp, jaxact
        >>> print(jaxact.hardshrink(jnp.array([-2.0, -0.25, 0.5, 0.75])))
        [-2.    0.    0.    0.75]

    See Also:
        :func:`torch.nn.functional.hardshrink`, :class:`torch.nn.Hardshrink`

    References:
        Donoho and Johnstone, "Ideal spatial adaptation by wavelet shrinkage", Biometrika 81, 1994.
    """
    return kernels.piecewise.hardshrink(x, lambd)


def _check_softshrink(_x: Any, /, lambd: Scalar) -> None:
    if known(lambd) and not 0 <= lambd < float("inf"):
        raise ValueError(f"softshrink: lambd must be finite and not negative, got {lambd}")


@activation(check=_check_softshrink)
def softshrink(x: jax.Array, /, lambd: Scalar = 0.5) -> jax.Array:
    r"""Shift towards 0, with an interval around 0 set to 0.

    .. math:: \operatorname{softshrink}(x) = \begin{cases} x - \lambda & x > \lambda \\ x + \lambda & x < -\lambda \\
              0 & \text{otherwise} \end{cases}

    The derivative is 0 in the interval, ends included, and at NaN, and 1 elsewhere.

    Args:
        x: Array of any shape, of a float dtype.
        lambd: Half the width :math:`\lambda \ge 0`, a number or a 0-d array.

    Returns:
        Array of the shape and dtype of ``x``.

    Raises:
        TypeError: If ``x`` is no array or number or not of a float dtype, or ``lambd`` is no real number.
        ValueError: If ``lambd`` is negative, not finite, or an array with axes.

    Example:
        >>> import jax.numpy as jnp, jaxact
        >>> print(jaxact.softshrink(jnp.array([-2.0, -0.25, 0.5, 0.75])))
        [-1.5   0.    0.    0.25]

    See Also:
        :func:`torch.nn.functional.softshrink`, :class:`torch.nn.Softshrink`

    References:
        Donoho and Johnstone, "Ideal spatial adaptation by wavelet shrinkage", Biometrika 81, 1994.
    """
    return kernels.piecewise.softshrink(x, lambd)

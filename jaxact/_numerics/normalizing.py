"""Kernels of the normalizing family.

As in torch, a row whose largest element is infinite, either way, is NaN; but for :func:`softmax_or_zero`.

What a program computes before may come here in two ways at once, so every element is :func:`rounded` before anything
is subtracted from it. Then it is one number to all that follows. The maximum only has to be near the largest element:
it cancels.

XLA computes a reduction on a CPU by a library that takes over all arithmetic next to it, one operation at a time
and each through memory, but no comparisons and nothing on bits. So the largest element of a row leaves that library by
a comparison, and an exponential, of many operations, comes to it as bits: each stays one kernel. That library's
maximum of a number and NaN is the number, so no result here may depend on a maximum to pass a NaN on. And it gives NaN
(jaxlib 0.10.2) for the matrix product of a quotient with a constant matrix of equal elements: where rows are divided by
their sum, XLA makes that a product, and along other axes ``jax.nn.softmax`` has the same flaw.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from jaxact._numerics.elementary import exp_parts, rounded, two_sum, widened

# The exponential of this is the smallest normal number of float32.
LOWEST = -87.33654


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def softmax(x: jax.Array, axis: int) -> jax.Array:
    """Return exp(x) / sum(exp(x)) along an axis, from the exponentials of the distances to the maximum.

    For float16 and bfloat16 it is the plain formula in float32, whose errors are far below their rounding.
    """
    x, m = rounded(x), _largest(x, axis)
    e = jnp.exp(widened(x) - widened(m)) if x.dtype.itemsize == 2 else _exp_distance(x, _finite(m))
    return e / jnp.sum(e, axis=axis, keepdims=True)


@softmax.defjvp
def _softmax_jvp(axis: int, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    y = softmax(x, axis)
    return y, _softmax_change(y, widened(dx), axis)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def softmin(x: jax.Array, axis: int) -> jax.Array:
    """Return softmax(-x), from the least element: for the largest of -x, XLA would write -x to memory."""
    x, m = rounded(x), rounded(jnp.min(x, axis=axis, keepdims=True, initial=jnp.inf))
    e = jnp.exp(widened(m) - widened(x)) if x.dtype.itemsize == 2 else _exp_distance(-x, -_finite(m))
    return e / jnp.sum(e, axis=axis, keepdims=True)


@softmin.defjvp
def _softmin_jvp(axis: int, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    y = softmin(x, axis)
    return y, -_softmax_change(y, widened(dx), axis)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def softmax_or_zero(x: jax.Array, axis: int) -> jax.Array:
    """Return the softmax along an axis, and zeros, also for the gradient, for rows of -inf only: float32, float64.

    It is attention's, for which a mask may leave nothing to attend to.
    """
    info = jnp.finfo(x.dtype)
    m = rounded(jnp.max(x, axis=axis, keepdims=True, initial=float(info.min)))
    e = jnp.exp(rounded(x) - m)
    total = jnp.sum(e, axis=axis, keepdims=True)
    return e / (total + float(info.tiny))  # a total is 0, for rows of -inf, or at least 1, or NaN


@softmax_or_zero.defjvp
def _softmax_or_zero_jvp(axis: int, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    y = softmax_or_zero(x, axis)
    return y, _softmax_change(y, dx, axis)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def softmax_of_quotient(x: jax.Array, divisor: jax.Array, axis: int) -> jax.Array:
    """Return softmax(x / divisor), also where the quotient overflows; x is float32 or float64, divisor a scalar.

    The largest element is subtracted first, so that its quotient is 0 and the others may be -inf. A divisor below
    the normal numbers, which may be flushed to 0, counts as the smallest of them: what is returned is 0 and 1.
    """
    return softmax((rounded(x) - _finite(_largest(x, axis))) / _normal(divisor), axis)


def _softmax_of_quotient_jvp(axis: int, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    """Divide last, and take no product of a quotient with a probability of 0: nothing overflows."""
    (x, divisor), (dx, d_divisor) = primals, tangents
    y = softmax_of_quotient(x, divisor, axis)
    divisor = _normal(divisor)
    change = jnp.zeros_like(y)
    if not isinstance(dx, SymbolicZero):
        change += _softmax_change(y, dx / divisor, axis)
    if not isinstance(d_divisor, SymbolicZero):
        quotient = jnp.where(y == 0, 0, (x - _finite(_largest(x, axis))) / divisor)
        change -= _softmax_change(y, quotient, axis) * (d_divisor / divisor)
    return y, change


softmax_of_quotient.defjvp(_softmax_of_quotient_jvp, symbolic_zeros=True)


def _normal(x: jax.Array) -> jax.Array:
    """Return ``x``, or the smallest normal number with its sign for what is smaller."""
    return jnp.copysign(jnp.maximum(jnp.abs(x), float(jnp.finfo(x.dtype).tiny)), x)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def log_softmax(x: jax.Array, axis: int) -> jax.Array:
    """Return (x - m) - log(sum(exp(x - m))) along an axis, m the maximum.

    The logarithm passes through its bits too, so that the distances are computed again in the last kernel, and not
    written to memory for it.
    """
    distance = rounded(x) - _finite(_largest(x, axis))
    return distance - rounded(jnp.log(jnp.sum(_exp(distance), axis=axis, keepdims=True)))


@log_softmax.defjvp
def _log_softmax_jvp(axis: int, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    y = log_softmax(x, axis)
    return y, dx - jnp.sum(_exp(y) * dx, axis=axis, keepdims=True)


def _largest(x: jax.Array, axis: int) -> jax.Array:
    """Return the largest element along an axis, rounded as the elements are."""
    return rounded(jnp.max(x, axis=axis, keepdims=True, initial=-jnp.inf))


def _finite(m: jax.Array) -> jax.Array:
    """Return ``m`` with NaN for what is infinite, and no NaN on the way to what is not."""
    return jnp.where(jnp.isinf(m), m - m, m)


def _softmax_change(y: jax.Array, dx: jax.Array, axis: int) -> jax.Array:
    """Return the change of probabilities y where what they are the softmax of changes by dx."""
    return y * (dx - jnp.sum(y * dx, axis=axis, keepdims=True))


def _exp_distance(x: jax.Array, m: jax.Array) -> jax.Array:
    """Return exp(x - m), x <= m, without the error that rounding the difference would make in it."""
    distance = x - m
    if x.dtype != jnp.float32:
        lowest = float(np.log(jnp.finfo(x.dtype).tiny))
        near, error = two_sum(jnp.where(distance >= lowest, x, m), -m)
        return jnp.where(distance >= lowest, jnp.exp(near) * (1 + error), jnp.exp(distance))
    near, error = two_sum(jnp.where(distance >= LOWEST, x, m), -m)
    return _with_ends(distance, _exp_bits(near, error))


@jax.custom_jvp
def _exp(x: jax.Array) -> jax.Array:
    """Return exp(x) for x <= 0, or hardly above; 0 below the normal numbers."""
    if x.dtype != jnp.float32:
        return jnp.exp(x)
    return _with_ends(x, _exp_bits(jnp.where(x >= LOWEST, x, 0)))


_exp.defjvps(lambda dx, y, x: dx * y)


def _exp_bits(x: jax.Array, low: jax.Array | None = None) -> jax.Array:
    """Return the bits of exp(x + low) for LOWEST <= x <= 87 and a small ``low``."""
    power, rest = exp_parts(x, low, bounded=True)
    exponent = lax.bitcast_convert_type(power, np.int32) - np.float32(1).view(np.int32)
    return lax.bitcast_convert_type(1 + rest, np.int32) + exponent


def _with_ends(x: jax.Array, bits: jax.Array) -> jax.Array:
    """Return what has the given bits, the exponential of x, but 0 for x < LOWEST and NaN for NaN."""
    end = lax.bitcast_convert_type(jnp.where(x < 0, 0, x), np.int32)  # NaN is neither
    return lax.bitcast_convert_type(jnp.where(x >= LOWEST, bits, end), np.float32)

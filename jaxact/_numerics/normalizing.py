"""Kernels of the normalizing family.

As in torch, a row whose largest element is infinite, either way, is NaN.

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

from jaxact._numerics.elementary import exp_parts, two_sum, widened

# The exponential of this is the smallest normal number of float32.
LOWEST = -87.33654


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def softmax(x: jax.Array, axis: int) -> jax.Array:
    """Return exp(x) / sum(exp(x)) along an axis, from the exponentials of the distances to the maximum.

    For float16 and bfloat16 it is the plain formula in float32, whose errors are far below their rounding.
    """
    if x.dtype.itemsize == 2:
        x = widened(x)
        e = jnp.exp(x - jnp.max(x, axis=axis, keepdims=True, initial=-jnp.inf))
    else:
        e = _exp_distance(x, _finite(jnp.max(x, axis=axis, keepdims=True, initial=-jnp.inf)))
    return e / jnp.sum(e, axis=axis, keepdims=True)


@softmax.defjvp
def _softmax_jvp(axis: int, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    y = softmax(x, axis)
    dx = widened(dx)
    return y, y * (dx - jnp.sum(y * dx, axis=axis, keepdims=True))


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def softmin(x: jax.Array, axis: int) -> jax.Array:
    """Return softmax(-x), from the least element: for the largest of -x, XLA would write -x to memory."""
    if x.dtype.itemsize == 2:
        x = widened(x)
        e = jnp.exp(jnp.min(x, axis=axis, keepdims=True, initial=jnp.inf) - x)
    else:
        e = _exp_distance(-x, -_finite(jnp.min(x, axis=axis, keepdims=True, initial=jnp.inf)))
    return e / jnp.sum(e, axis=axis, keepdims=True)


@softmin.defjvp
def _softmin_jvp(axis: int, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    y = softmin(x, axis)
    dx = widened(dx)
    return y, y * (jnp.sum(y * dx, axis=axis, keepdims=True) - dx)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def log_softmax(x: jax.Array, axis: int) -> jax.Array:
    """Return (x - m) - log(sum(exp(x - m))) along an axis, m the maximum.

    The c elements that equal m are counted, not added: log(c + s) = log(c) + log(1 + s / c), s the sum over
    the others. So nothing is lost where one element outweighs all others and its result is -s.
    """
    m = _finite(jnp.max(x, axis=axis, keepdims=True, initial=-jnp.inf))
    ties = x == m
    count = jnp.sum(ties, axis=axis, keepdims=True, dtype=x.dtype)
    others = jnp.sum(jnp.where(ties, 0, _exp_distance(x, m)), axis=axis, keepdims=True)
    logarithm = jnp.log(count) + jnp.log1p(others / count)
    return (x - m) - jnp.where(count > 0, logarithm, jnp.nan)


@log_softmax.defjvp
def _log_softmax_jvp(axis: int, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    y = log_softmax(x, axis)
    return y, dx - jnp.sum(_exp(y, jnp.zeros_like(y)) * dx, axis=axis, keepdims=True)


def _finite(m: jax.Array) -> jax.Array:
    """Return ``m`` with NaN for what is infinite."""
    return jnp.where(jnp.isinf(m), jnp.nan, m)


def _exp_distance(x: jax.Array, m: jax.Array) -> jax.Array:
    """Return exp(x - m), x <= m, without the error that rounding the difference would make in it."""
    distance, error = two_sum(x, -m)
    # Far down, the exponential is 0, and the error of an infinite distance is NaN.
    return _exp(distance, jnp.where(distance > -1e3, error, 0))


@jax.custom_jvp
def _exp(x: jax.Array, low: jax.Array) -> jax.Array:
    """Return exp(x + low) for x <= 0 and a small ``low``; 0 below the normal numbers."""
    if x.dtype != jnp.float32:
        return jnp.exp(x) * (1 + low)
    power, rest = exp_parts(jnp.maximum(x, LOWEST), low, bounded=True)
    exponent = lax.bitcast_convert_type(power, np.int32) - np.float32(1).view(np.int32)
    bits = lax.bitcast_convert_type(1 + rest, np.int32) + exponent
    end = lax.bitcast_convert_type(jnp.where(x < 0, 0, x), np.int32)  # NaN is neither
    return lax.bitcast_convert_type(jnp.where(x >= LOWEST, bits, end), np.float32)


_exp.defjvps(lambda dx, y, x, low: dx * y, lambda dlow, y, x, low: dlow * y)

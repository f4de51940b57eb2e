"""Kernels of the normalizing family.

As in torch, a row whose largest element is infinite, either way, is NaN.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxact._numerics.elementary import exp, exp_parts, two_sum


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def softmax(x: jax.Array, axis: int) -> jax.Array:
    """Return exp(x) / sum(exp(x)) along an axis, from the exponentials of the distances to the maximum."""
    e = _exp_distance(x, _maximum(x, axis))
    return e / jnp.sum(e, axis=axis, keepdims=True)


@softmax.defjvp
def _softmax_jvp(axis: int, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    y = softmax(x, axis)
    return y, y * (dx - jnp.sum(y * dx, axis=axis, keepdims=True))


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def log_softmax(x: jax.Array, axis: int) -> jax.Array:
    """Return (x - m) - log(sum(exp(x - m))) along an axis, m the maximum."""
    m = _maximum(x, axis)
    # The barrier keeps XLA from computing the exponentials inside its loop for the sum, which is slow on a CPU.
    total = jnp.sum(lax.optimization_barrier(_exp_distance(x, m)), axis=axis, keepdims=True)
    return (x - m) - jnp.where(jnp.isfinite(m), jnp.log(total), jnp.nan)


@log_softmax.defjvp
def _log_softmax_jvp(axis: int, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    y = log_softmax(x, axis)
    return y, dx - jnp.sum(exp(y) * dx, axis=axis, keepdims=True)


def _maximum(x: jax.Array, axis: int) -> jax.Array:
    return jnp.max(x, axis=axis, keepdims=True, initial=-jnp.inf)


def _exp_distance(x: jax.Array, m: jax.Array) -> jax.Array:
    """Return exp(x - m), x <= m, without the error that rounding the difference would make in it."""
    distance, error = two_sum(x, -m)
    # Far down, the exponential is 0, and the error of an infinite distance is NaN.
    power, rest = exp_parts(distance, jnp.where(distance > -1e3, error, 0))
    return power * (1 + rest)

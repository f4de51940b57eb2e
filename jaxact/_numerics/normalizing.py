"""Kernels of the normalizing family.

As in torch, a row whose largest element is infinite, either way, is NaN.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

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
    """Return (x - m) - log(sum(exp(x - m))) along an axis, m the maximum.

    The c elements that equal m are counted, not added: log(c + s) = log(c) + log(1 + s / c), s the sum over
    the others. So nothing is lost where one element outweighs all others and its result is -s.
    """
    m = _maximum(x, axis)
    ties = x == m
    count = jnp.sum(ties, axis=axis, keepdims=True, dtype=x.dtype)
    others = jnp.sum(jnp.where(ties, 0, _exp_distance(x, m)), axis=axis, keepdims=True)
    logarithm = jnp.log(count) + jnp.log1p(others / count)
    return (x - m) - jnp.where(jnp.isfinite(m), logarithm, jnp.nan)


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

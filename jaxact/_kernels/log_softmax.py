"""log_softmax along an axis. As in torch, a row whose largest element is infinite, either way, is NaN."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxact._kernels.compiler import out_of_reduction, rounded
from jaxact._kernels.rows import exp_of_distance, finite, largest


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def log_softmax(x: jax.Array, axis: int) -> jax.Array:
    """Return (x - m) - log(sum(exp(x - m))) along an axis, m the maximum."""
    distance = rounded(x) - finite(largest(x, axis))
    return distance - out_of_reduction(jnp.log(jnp.sum(exp_of_distance(distance), axis=axis, keepdims=True)))


@log_softmax.defjvp
def _log_softmax_jvp(axis: int, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    y = log_softmax(x, axis)
    return y, dx - jnp.sum(exp_of_distance(y) * dx, axis=axis, keepdims=True)

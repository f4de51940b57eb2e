"""softmax and softmin along an axis, softmax of a quotient, and attention's softmax.

As in torch, a row whose largest element is infinite, either way, is NaN; but for :func:`softmax_or_zero`.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from jaxact._kernels.compiler import out_of_reduction, rounded
from jaxact._kernels.floats import widened
from jaxact._kernels.rows import exp_of_difference, finite, largest


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def softmax(x: jax.Array, axis: int) -> jax.Array:
    """Return exp(x) / sum(exp(x)) along an axis, from the exponentials of the distances to the maximum.

    For float16 and bfloat16 it is the plain formula in float32, whose errors are far below their rounding.
    """
    x, m = rounded(x), largest(x, axis)
    e = jnp.exp(widened(x) - widened(m)) if x.dtype.itemsize == 2 else exp_of_difference(x, finite(m))
    return e / jnp.sum(e, axis=axis, keepdims=True)


@softmax.defjvp
def _softmax_jvp(axis: int, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    y = softmax(x, axis)
    return y, _softmax_change(y, widened(dx), axis)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def softmin(x: jax.Array, axis: int) -> jax.Array:
    """Return softmax(-x), from the least element: for the largest of -x, XLA would write -x to memory."""
    x, m = rounded(x), out_of_reduction(jnp.min(x, axis=axis, keepdims=True, initial=jnp.inf))
    e = jnp.exp(widened(m) - widened(x)) if x.dtype.itemsize == 2 else exp_of_difference(-x, -finite(m))
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
    m = out_of_reduction(jnp.max(x, axis=axis, keepdims=True, initial=float(info.min)))
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
    return softmax((rounded(x) - finite(largest(x, axis))) / _normal(divisor), axis)


def _softmax_of_quotient_jvp(axis: int, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    """Divide last, and take no product of a quotient with a probability of 0: nothing overflows."""
    (x, divisor), (dx, d_divisor) = primals, tangents
    y = softmax_of_quotient(x, divisor, axis)
    divisor = _normal(divisor)
    change = jnp.zeros_like(y)
    if not isinstance(dx, SymbolicZero):
        change += _softmax_change(y, dx / divisor, axis)
    if not isinstance(d_divisor, SymbolicZero):
        quotient = jnp.where(y == 0, 0, (x - finite(largest(x, axis))) / divisor)
        change -= _softmax_change(y, quotient, axis) * (d_divisor / divisor)
    return y, change


softmax_of_quotient.defjvp(_softmax_of_quotient_jvp, symbolic_zeros=True)


def _normal(x: jax.Array) -> jax.Array:
    """Return ``x``, or the smallest normal number with its sign for what is smaller."""
    return jnp.copysign(jnp.maximum(jnp.abs(x), float(jnp.finfo(x.dtype).tiny)), x)


def _softmax_change(y: jax.Array, dx: jax.Array, axis: int) -> jax.Array:
    """Return how the probabilities y change when the numbers that they are the softmax of change by dx."""
    return y * (dx - jnp.sum(y * dx, axis=axis, keepdims=True))

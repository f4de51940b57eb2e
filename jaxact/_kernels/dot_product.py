"""The formula of attention: the scores of queries and keys, their weights, and the weighted values.

Axes are named as in torch: L queries and S keys of E features, H heads.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jaxact._kernels.softmax import softmax_or_zero

Dropout: TypeAlias = tuple[ArrayLike, jax.Array] | None  # the probability and the PRNG key


@dataclass(frozen=True)
class Plan:
    """What is known of an attention before its arrays are.

    Attributes:
        dtype: What the arrays came as; they are widened for computing.
        precision: That of matrix products; None is the user's or the device's.
        is_causal: Whether no key comes after the query.
        grouped: Whether axis -3 counts heads, and a head of keys and values serves several of queries.
    """

    dtype: np.dtype[Any]
    precision: lax.Precision | None
    is_causal: bool = False
    grouped: bool = False

    def matmul(self, x: jax.Array, y: jax.Array) -> jax.Array:
        """Return x @ y."""
        return (grouped_matmul if self.grouped else jnp.matmul)(x, y, precision=self.precision)


@dataclass(frozen=True)
class Weighting:
    """What is done to scores on their way to weights, besides the softmax.

    Attributes:
        masks: Masks that broadcast to the scores: boolean ones, True for attend, or what is added.
        scale: What scores are multiplied by; None is 1 / sqrt(E).
        dropout: The dropout of weights.
    """

    masks: Sequence[jax.Array] = ()
    scale: ArrayLike | None = None
    dropout: Dropout = None


def formula(query: jax.Array, key: jax.Array, value: jax.Array, plan: Plan, weighting: Weighting) -> jax.Array:
    """Return the attention of arrays of one rank."""
    return plan.matmul(weights(query, key, plan, weighting), value)


def weights(query: jax.Array, key: jax.Array, plan: Plan, weighting: Weighting) -> jax.Array:
    """Return the weights after dropout, (..., L, S)."""
    return _dropped(softmax_or_zero(_scores(query, key, plan, weighting), -1), weighting.dropout)


def _scores(query: jax.Array, key: jax.Array, plan: Plan, weighting: Weighting) -> jax.Array:
    masks, scale = list(weighting.masks), weighting.scale
    if plan.is_causal:
        masks.append(causal(query.shape[-2], key.shape[-2]))
    if scale is None:
        features = max(query.shape[-1], 1)  # without any, every score is 0, as in torch
        known = isinstance(features, int)  # jax.export has symbolic dimensions
        scale = 1 / math.sqrt(features) if known else 1 / jnp.sqrt(jnp.asarray(features, query.dtype))
    scores = plan.matmul(query * scale, key.mT)
    for mask in masks:
        scores = _masked(scores, with_ndim(mask, scores.ndim))
    return scores


def causal(length: int, keys: int) -> jax.Array:
    """Return a mask of (L, S) that is True where the key does not come after the query."""
    query, key = (lax.broadcasted_iota(np.int32, (length, keys), axis) for axis in (0, 1))
    return query >= key


def _masked(scores: jax.Array, mask: jax.Array) -> jax.Array:
    """Return the scores with -inf where a boolean mask is False, or plus an additive mask."""
    if mask.dtype == bool:
        return jnp.where(mask, scores, -jnp.inf)  # unlike adding -inf, this also drops inf and NaN
    return scores + mask.astype(scores.dtype)


def _dropped(weights: jax.Array, dropout: Dropout) -> jax.Array:
    """Return the weights after dropout."""
    if dropout is None:
        return weights
    p, key = dropout
    kept = 1 - lax.convert_element_type(p, weights.dtype)
    factor = jnp.where(kept > 0, 1 / kept, 0)
    return weights * jnp.where(jax.random.bernoulli(key, kept, weights.shape), factor, 0)


def grouped_matmul(x: jax.Array, y: jax.Array, precision: lax.Precision | None) -> jax.Array:
    """Return x @ y where every head of y serves as many consecutive heads of x; axis -3 counts heads.

    The heads of x that share a head of y are stacked along the rows, so that y is not repeated.
    """
    groups = split_axis(x, x.ndim - 3, y.shape[-3])
    *batch, heads, members, rows, columns = groups.shape
    stacked = groups.reshape(*batch, heads, members * rows, columns)
    product = split_axis(jnp.matmul(stacked, y, precision=precision), x.ndim - 2, members)
    return product.reshape(*product.shape[:-4], heads * members, rows, y.shape[-1])


def split_axis(x: jax.Array, axis: int, outer: int) -> jax.Array:
    """Return x with an axis in two, the outer one of the given length. Sharded axes cannot be regrouped in one step."""
    return x.reshape(*x.shape[:axis], outer, x.shape[axis] // max(outer, 1), *x.shape[axis + 1 :])


def with_ndim(x: jax.Array, ndim: int) -> jax.Array:
    """Return x with leading axes of length 1 up to ndim, so that no rank is promoted behind one's back."""
    return lax.expand_dims(x, range(ndim - x.ndim))


def pairs_in_use(masks: Sequence[jax.Array], is_causal: bool, length: int, keys: int) -> jax.Array | None:
    """Return where a query may attend to a key by all boolean masks, or None where none leaves out any of them."""
    pairs = [mask for mask in masks if mask.dtype == bool]
    if is_causal and length != keys:  # keys may come after all queries
        pairs.append(causal(length, keys))
    return functools.reduce(jnp.logical_and, pairs) if pairs else None


def in_use(x: jax.Array, pairs: jax.Array) -> jax.Array:
    """Return x, (..., H, rows, features), with zeros for the rows that have no True in pairs, (..., H, rows, others).

    The weights of such a query, key or value are 0, but 0 times an infinity or a NaN that it may hold is NaN, in the
    value or in a gradient. Arrays that serve several batches or heads are in use where one of these uses them.
    """
    pairs = with_ndim(pairs, x.ndim)
    serving = [axis for axis, length in enumerate(x.shape[:-1]) if length == 1]
    used = pairs.any((*serving, -1), keepdims=True)
    if x.ndim > 2 and used.shape[-3] not in (1, x.shape[-3]):  # grouped heads
        used = split_axis(used, x.ndim - 3, x.shape[-3]).any(-3)
    return jnp.where(used, x, 0)

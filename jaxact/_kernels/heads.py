"""Multi-head attention, from the projections in to the projection out.

Axes are named as in torch: L queries and S keys of E features, N sequences in a batch, H heads of D features each.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxact._kernels.dot_product import Dropout, Plan, Weighting, in_use, pairs_in_use, split_axis, weights
from jaxact._kernels.fused_attention import attention


def multi_head_attention(
    arrays: dict[str, jax.Array],
    masks: dict[str, jax.Array],
    dropout: Dropout,
    plan: Plan,
    *,
    num_heads: int,
    add_zero_attn: bool,
    need_weights: bool,
    average_attn_weights: bool,
) -> tuple[jax.Array, jax.Array | None]:
    """Return the output and, if they are needed, the weights of arrays and masks by torch's names."""
    batched = arrays["query"].ndim == 3
    linear = functools.partial(_linear, precision=plan.precision)

    if not batched:
        arrays |= {side: arrays[side][:, None] for side in ("query", "key", "value")}
    length, batch, features = arrays["query"].shape
    arrays |= {side: split_axis(arrays[side], 0, batch) for side in ("static_k", "static_v") if side in arrays}
    keys = arrays["static_k"].shape[2] if "static_k" in arrays else arrays["key"].shape[0]
    appended = ("bias_k" in arrays) + add_zero_attn
    head_masks = [_head_mask(argument, mask, batch) for argument, mask in masks.items()]
    if (pairs := pairs_in_use(head_masks, plan.is_causal, length, keys)) is not None:
        arrays |= _sidesin_use(arrays, pairs, appended)
    head_masks = [_padded(mask, appended) for mask in head_masks]

    query, key, value = _projected(arrays, linear)
    if "bias_k" in arrays:
        key, value = _with_row(key, arrays["bias_k"]), _with_row(value, arrays["bias_v"])
    # Heads first from here: (N, H, L or S, D).
    query, key, value = (split_axis(x, 2, num_heads).transpose(1, 2, 0, 3) for x in (query, key, value))
    key, value = arrays.get("static_k", key), arrays.get("static_v", value)
    if add_zero_attn:
        key, value = (jnp.pad(x, [(0, 0), (0, 0), (0, 1), (0, 0)]) for x in (key, value))

    weighting = Weighting(head_masks, dropout=dropout)
    if need_weights:
        per_head = weights(query, key, plan, weighting)
        output = plan.matmul(per_head, value)
    else:
        output = attention(query, key, value, plan, weighting)
    output = output.transpose(2, 0, 1, 3).reshape(length, batch, features)
    output = linear(output, arrays["out_proj_weight"], arrays.get("out_proj_bias")).astype(plan.dtype)
    output = output if batched else output[:, 0]
    if not need_weights:
        return output, None
    returned = (per_head.mean(axis=1) if average_attn_weights else per_head).astype(plan.dtype)
    return output, returned if batched else returned[0]


def _projected(arrays: dict[str, jax.Array], linear: Callable[..., jax.Array]) -> Sequence[jax.Array]:
    """Return the projected query, key and value, each (L or S, N, E)."""
    sides = [arrays[side] for side in ("query", "key", "value")]
    if "in_proj_weight" in arrays:
        weights = jnp.split(arrays["in_proj_weight"], 3)
    else:
        weights = [arrays[f"{side}_proj_weight"] for side in "qkv"]
    biases = jnp.split(arrays["in_proj_bias"], 3) if "in_proj_bias" in arrays else [None] * 3
    return [linear(*each) for each in zip(sides, weights, biases, strict=True)]


def _linear(x: jax.Array, weight: jax.Array, bias: jax.Array | None, precision: lax.Precision | None) -> jax.Array:
    product = jnp.einsum("lne,fe->lnf", x, weight, precision=precision)
    return product if bias is None else product + bias[None, None]


def _with_row(x: jax.Array, row: jax.Array) -> jax.Array:
    """Return x of (S, N, E) with one more row, the same E numbers in the whole batch."""
    zeros = jnp.pad(x[:0], [(0, 1), (0, 0), (0, 0)])  # made from x, so that they are sharded as x is
    return jnp.concatenate([x, zeros + row.reshape(1, 1, -1)])


def _head_mask(argument: str, mask: jax.Array, batch: int) -> jax.Array:
    """Return a mask of multi_head_attention_forward as one for scores of (N, H, L, S), True for attend."""
    if argument == "key_padding_mask":
        mask = mask.reshape(batch, 1, 1, mask.shape[-1])
    else:
        mask = split_axis(mask, 0, batch) if mask.ndim == 3 else mask[None, None]
    return ~mask if mask.dtype == bool else mask


def _padded(mask: jax.Array, appended: int) -> jax.Array:
    """Return a mask of (N, H, L, S) for more keys; those that bias_k and add_zero_attn append are not masked."""
    return jnp.pad(mask, [(0, 0)] * 3 + [(0, appended)], constant_values=mask.dtype == bool)


def _sidesin_use(arrays: dict[str, jax.Array], pairs: jax.Array, appended: int) -> dict[str, jax.Array]:
    """Return queries, keys and values as in_use does, before a projection spreads what they hold to its gradient."""
    sides = {"key": pairs.mT, "value": pairs.mT} if appended else {"query": pairs, "key": pairs.mT, "value": pairs.mT}
    used = {}
    for side, mask in sides.items():
        if (static := f"static_{side[0]}") in arrays:
            used[static] = in_use(arrays[static], mask)
        else:
            heads_first = arrays[side].swapaxes(0, 1)[:, None]
            used[side] = in_use(heads_first, mask)[:, 0].swapaxes(0, 1)
    return used

"""What the arguments of attention must be, besides arrays of one dtype: masks, dropout, shapes that fit.

Axes are named as in torch: L queries and S keys of E features, N sequences in a batch, H heads of D features each.
"""

import math
from typing import Any, TypeAlias

import jax
import numpy as np
from jax import export, lax

from jaxact._checks import array, integer, prng_key, static_argument
from jaxact._dtypes import BOOLEAN, FLOAT32
from jaxact._kernels.dot_product import Dropout

Shape: TypeAlias = tuple[int, ...]


def attention_mask(name: str, argument: str, mask: Any, dtype: np.dtype) -> jax.Array:
    """Return a mask as an array, or raise unless it is boolean or of the given dtype or float32."""
    found = array(name, argument, mask)
    if found.dtype not in BOOLEAN | {dtype, FLOAT32}:
        raise TypeError(
            f"{name}: {argument} must be boolean, float32 or of the dtype of query, {dtype}, "
            f"got {found.dtype}; convert it with .astype"
        )
    return found


def dimension(name: str, argument: str, value: Any) -> int:
    """Return an int, or a symbolic dimension as it is, or raise."""
    symbolic: bool = export.is_symbolic_dim(value)
    return value if symbolic else integer(name, argument, value)


def dropout(name: str, p: Any, key: Any, training: bool = True) -> Dropout:
    """Return the probability and the key if there is anything to drop, or raise if either is unusable."""
    p = static_argument(name, p, "dropout_p")
    if not isinstance(p, (int, float)):
        raise TypeError(f"{name}: dropout_p must be a number, a probability, got {p!r}")
    if not 0 <= p <= 1:
        raise ValueError(f"{name}: dropout_p must be in [0, 1], got {p!r}")
    if p == 0 or not training:
        return None
    if key is None:
        raise ValueError(
            f"{name}: dropout_p={p!r} needs dropout_key, a JAX PRNG key, for example jax.random.key(0); "
            "outside training pass dropout_p=0.0"
        )
    return float(p), prng_key(name, key, "dropout_key")


def broadcast_shapes(*shapes: Shape) -> Shape | None:
    """Return the shape that all of the shapes broadcast to, or None if they do not."""
    try:
        return lax.broadcast_shapes(*shapes)  # of symbolic dimensions too, unlike NumPy's
    except ValueError:
        return None


def scores_shape(name: str, shapes: dict[str, Shape], enable_gqa: bool) -> Shape:
    """Return the shape of the scores, (..., L, S), or raise unless the shapes of query, key and value fit."""
    query, key, value = shapes.values()
    axes = 3 if enable_gqa else 2  # those that do not broadcast
    got = f"got query {query}, key {key}, value {value}"
    if min(map(len, (query, key, value))) < axes:
        raise ValueError(f"{name}: query, key and value must have at least {axes} axes with {enable_gqa=}, {got}")
    if query[-1] != key[-1]:
        raise ValueError(f"{name}: the last axes of query and key, E, must be of one length, {got}")
    if key[-2] != value[-2]:
        raise ValueError(f"{name}: the axes -2 of key and value, S, must be of one length, {got}")
    heads = query[-axes:-2]
    if enable_gqa and not all(_divides(side[-3], query[-3]) for side in (key, value)):
        raise ValueError(
            f"{name}: with enable_gqa=True the numbers of heads, axis -3, of key and value must divide that "
            f"of query, {got}"
        )
    batches = [shape[:-axes] for shape in (query, key, value)]
    if broadcast_shapes(*batches) is None:
        raise ValueError(
            f"{name}: the leading axes of query, key and value must broadcast, {got}; "
            "enable_gqa=True shares heads of key and value among heads of query"
        )
    return (*lax.broadcast_shapes(*batches[:2]), *heads, query[-2], key[-2])


def _divides(divisor: int, length: int) -> bool:
    return length % divisor == 0 if divisor != 0 else length == 0


def check_head_shapes(name: str, shapes: dict[str, Shape], embed_dim_to_check: int, num_heads: int) -> None:
    """Raise unless the shapes of the arguments of multi_head_attention_forward fit each other."""
    query, key, value = (shapes[side] for side in ("query", "key", "value"))
    got = f"got query {query}, key {key}, value {value}"
    if len(query) not in (2, 3) or not len(query) == len(key) == len(value):
        raise ValueError(f"{name}: query, key and value must all be (L or S, N, E) or all (L or S, E), {got}")
    if not query[1:-1] == key[1:-1] == value[1:-1]:
        raise ValueError(f"{name}: query, key and value must be of one batch size N, their axis 1, {got}")
    if key[0] != value[0]:
        raise ValueError(f"{name}: key and value must be of one length S, their axis 0, {got}")
    features = query[-1]
    if features != embed_dim_to_check:
        raise ValueError(f"{name}: query must have embed_dim_to_check={embed_dim_to_check} features, {got}")
    if num_heads < 1 or features % num_heads:
        raise ValueError(f"{name}: num_heads must divide the number of features, {features}, got {num_heads}")
    if "in_proj_weight" in shapes and not features == key[-1] == value[-1]:
        raise ValueError(
            f"{name}: key and value must have the features of query, {got}; with others pass "
            "use_separate_proj_weight=True and q_proj_weight, k_proj_weight, v_proj_weight"
        )
    if ("bias_k" in shapes) != ("bias_v" in shapes):
        given = "bias_k" if "bias_k" in shapes else "bias_v"
        raise ValueError(f"{name}: bias_k and bias_v come together, got only {given}")
    if "bias_k" in shapes and not shapes.keys().isdisjoint({"static_k", "static_v"}):
        raise ValueError(
            f"{name}: bias_k and bias_v cannot be added to static_k and static_v, pass one pair or the other"
        )

    batch, length = query[1:-1], query[:1]
    heads = math.prod(batch) * num_heads
    keys = shapes["static_k"][1:2] if "static_k" in shapes else key[:1]
    values = shapes["static_v"][1:2] if "static_v" in shapes else value[:1]
    if keys != values:
        raise ValueError(
            f"{name}: key, or static_k, and value, or static_v, must be of one length S, got {keys} and {values}"
        )
    projected = (heads, *keys, features // num_heads)
    outputs = shapes["out_proj_weight"][:1]
    accepted: dict[str, list[Shape]] = {
        "in_proj_weight": [(3 * features, features)],
        "q_proj_weight": [(features, features)],
        "k_proj_weight": [(features, key[-1])],
        "v_proj_weight": [(features, value[-1])],
        "in_proj_bias": [(3 * features,)],
        "out_proj_weight": [(*outputs, features)],
        "out_proj_bias": [outputs],
        "bias_k": [(1, 1, features), (1, features), (features,)],
        "bias_v": [(1, 1, features), (1, features), (features,)],
        "static_k": [projected],
        "static_v": [projected],
        "key_padding_mask": [(*batch, *keys)],
        "attn_mask": [(*length, *keys), (heads, *length, *keys)],
    }
    for argument, shape in shapes.items():
        if shape not in accepted.get(argument, [shape]):
            raise ValueError(
                f"{name}: {argument} must be of shape {' or '.join(map(str, accepted[argument]))}, "
                f"got {shape}, for query {query}, key {key}, value {value} and {num_heads=}"
            )

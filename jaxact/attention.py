r"""Attention: scaled_dot_product_attention, multi_head_attention_forward.

Axes are named as in torch: L queries and S keys of E features, Ev features of a value, N sequences in a
batch, H heads of D features each.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import export, lax
from jax.typing import ArrayLike

from jaxact._boundary import (
    BOOLEAN,
    FLOAT32,
    FLOATS,
    HALVES,
    compute_dtype,
    flag,
    integer,
    matmul_precision,
    operand,
    prng_key,
    real_scalar,
    static_argument,
)
from jaxact._kernels.softmax import softmax_or_zero

Shape: TypeAlias = tuple[int, ...]
Precision: TypeAlias = lax.Precision | None
Dropout: TypeAlias = tuple[ArrayLike, jax.Array] | None  # the probability and the PRNG key


def scaled_dot_product_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    attn_mask: ArrayLike | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: ArrayLike | None = None,
    enable_gqa: bool = False,
    *,
    dropout_key: jax.Array | None = None,
) -> jax.Array:
    r"""Scaled dot product attention.

    .. math:: \operatorname{attention}(Q, K, V) = \operatorname{softmax}(s\,Q K^\top + M)\,V

    with the scale :math:`s`, by default :math:`1/\sqrt{E}`, and the mask :math:`M`: 0 where a boolean mask is
    True and :math:`-\infty` where it is False, or the additive mask itself. A query whose scores are all
    :math:`-\infty` attends to nothing: its output and its gradients are 0. What a boolean mask or ``is_causal``
    leaves out for good, a key and its value without a query or a query without a key, may hold infinities and NaN.
    Leading axes broadcast.

    Float32 products are computed in full float32, also on accelerators whose default is less, unless
    ``jax.default_matmul_precision`` is set. Float16 and bfloat16 inputs are widened to float32 and the result
    is rounded once; their products are computed at the accelerator's default precision.

    On CUDA devices of compute capability 8.0 or later, cuDNN's fused attention computes the value, but not
    the derivatives, where JAX and cuDNN offer it for exactly this function: float16 or bfloat16, arrays of
    axes (N, H, L or S, E) that need no broadcasting, Ev = E, no mask, no ``scale``, no dropout, and L = S
    if causal. It rounds the softmax to the dtype of the input on the way.

    Args:
        query: Array of shape (..., L, E), of a float dtype.
        key: Array of shape (..., S, E), of the dtype of ``query``.
        value: Array of shape (..., S, Ev), of the dtype of ``query``.
        attn_mask: Array that broadcasts to the shape of the scores, (..., L, S): a boolean mask, True where a
            query attends to a key, or one of the dtype of ``query`` or float32 that is added to the scores.
        dropout_p: Probability in [0, 1] of dropping a weight; those kept are scaled by :math:`1/(1-p)`. It
            applies whenever it is above 0: there is no training mode.
        is_causal: Query :math:`i` attends only to keys :math:`j \le i`. Excludes ``attn_mask``.
        scale: The factor :math:`s`, a number or a 0-d array, which may be traced.
        enable_gqa: Grouped queries: axis -3 counts heads, and every head of ``key`` and of ``value`` serves
            as many consecutive heads of ``query``.
        dropout_key: JAX PRNG key for the dropout.

    Returns:
        Array of shape (..., L, Ev), of the dtype of ``query``.

    Raises:
        TypeError: If an array is none or of another dtype, or another argument of the wrong type.
        ValueError: If shapes do not fit, ``attn_mask`` comes with ``is_causal``, ``dropout_p`` is outside
            [0, 1], or above 0 without ``dropout_key``.

    Example:
        >>> import jax.numpy as jnp, jaxact
        >>> query, key = jnp.zeros((1, 4)), jnp.zeros((3, 4))
        >>> value = jnp.array([[1.0, 2.0], [3.0, 4.0], [8.0, 9.0]])
        >>> print(jaxact.scaled_dot_product_attention(query, key, value))
        [[4. 5.]]
        >>> print(jaxact.scaled_dot_product_attention(query, key, value, jnp.array([[True, True, False]])))
        [[2. 3.]]

    See Also:
        :func:`torch.nn.functional.scaled_dot_product_attention`, :func:`jax.nn.dot_product_attention`

    References:
        Vaswani et al., "Attention is all you need", NeurIPS 2017. Grouped queries: Ainslie et al., "GQA:
        training generalized multi-query transformer models from multi-head checkpoints", EMNLP 2023.
    """
    name = "scaled_dot_product_attention"
    is_causal, enable_gqa = _flags(name, is_causal=is_causal, enable_gqa=enable_gqa)
    arrays = _arrays(name, query=query, key=key, value=value)
    scores_shape = _scores_shape(name, {side: x.shape for side, x in arrays.items()}, enable_gqa)
    if attn_mask is not None:
        if is_causal:
            raise ValueError(f"{name}: attn_mask and is_causal=True exclude each other; make attn_mask causal itself")
        attn_mask = _mask(name, "attn_mask", attn_mask, arrays["query"].dtype)
        if _broadcast_shapes(attn_mask.shape, scores_shape) != scores_shape:
            raise ValueError(
                f"{name}: attn_mask must broadcast to the shape of the scores (..., L, S), {scores_shape}, "
                f"got shape {attn_mask.shape}"
            )
    if scale is not None:
        scale = operand(name, scale, "scale")
    dropout = _dropout(name, dropout_p, dropout_key)
    output: jax.Array = _scaled_dot_product_attention(
        **arrays,
        attn_mask=attn_mask,
        scale=scale,
        dropout=dropout,
        is_causal=is_causal,
        enable_gqa=enable_gqa,
    )
    return output


@functools.partial(jax.jit, static_argnames=("is_causal", "enable_gqa"))
def _scaled_dot_product_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    attn_mask: jax.Array | None,
    scale: ArrayLike | None,
    dropout: Dropout,
    is_causal: bool,
    enable_gqa: bool,
) -> jax.Array:
    dtype = query.dtype
    if scale is not None:
        scale = real_scalar("scaled_dot_product_attention", "scale", jnp.asarray(scale), compute_dtype(dtype))
    ndim = max(query.ndim, key.ndim, value.ndim)
    query, key, value = (_with_ndim(x.astype(compute_dtype(dtype)), ndim) for x in (query, key, value))
    masks = [] if attn_mask is None else [_with_ndim(attn_mask, ndim)]
    if (pairs := _pairs(masks, is_causal, query.shape[-2], key.shape[-2])) is not None:
        query, key, value = _in_use(query, pairs), _in_use(key, pairs.mT), _in_use(value, pairs.mT)
    return _attention(query, key, value, dtype, masks, scale, dropout, is_causal, enable_gqa).astype(dtype)


def multi_head_attention_forward(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: ArrayLike | None,
    in_proj_bias: ArrayLike | None,
    bias_k: ArrayLike | None,
    bias_v: ArrayLike | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: ArrayLike,
    out_proj_bias: ArrayLike | None,
    training: bool = True,
    key_padding_mask: ArrayLike | None = None,
    need_weights: bool = True,
    attn_mask: ArrayLike | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: ArrayLike | None = None,
    k_proj_weight: ArrayLike | None = None,
    v_proj_weight: ArrayLike | None = None,
    static_k: ArrayLike | None = None,
    static_v: ArrayLike | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
    *,
    dropout_key: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array | None]:
    r"""Multi-head attention, the forward pass of :class:`torch.nn.MultiheadAttention`.

    .. math::

        \operatorname{head}_h &= \operatorname{attention}
            (Q W_h^{Q\top} + b_h^Q,\; K W_h^{K\top} + b_h^K,\; V W_h^{V\top} + b_h^V) \\
        \operatorname{output} &= [\operatorname{head}_1, \dots, \operatorname{head}_H]\,W^{O\top} + b^O

    with the attention of :func:`scaled_dot_product_attention`, its precision and its use of cuDNN, the latter
    with ``need_weights=False`` only. Masks are those of torch: a boolean one is True where a key is ignored,
    unlike that of :func:`scaled_dot_product_attention`. A query all of whose keys are masked gets heads and
    weights of 0, also with ``need_weights=True``, where torch has NaN.

    Args:
        query: Array of shape (L, N, E), or (L, E) without a batch, of a float dtype, which every other array
            shares.
        key: Array of shape (S, N, E) or (S, E); with separate projections its features may be of another
            number.
        value: Array of the shape of ``key``; with separate projections its features may be of another number.
        embed_dim_to_check: The number of features E.
        num_heads: The number of heads H, a divisor of E; a head has D = E / H features.
        in_proj_weight: The three input projections one above the other, of shape (3E, E).
        in_proj_bias: Their biases, of shape (3E,), or None.
        bias_k: A key appended to the projected ones, of shape (1, 1, E), (1, E) or (E,), or None. Comes with
            ``bias_v``.
        bias_v: Its value, of one of these shapes, or None.
        add_zero_attn: Whether to append a key and a value of zeros.
        dropout_p: Probability in [0, 1] of dropping a weight, see :func:`scaled_dot_product_attention`.
        out_proj_weight: The output projection, of shape (Eout, E).
        out_proj_bias: Its bias, of shape (Eout,), or None.
        training: Whether dropout applies.
        key_padding_mask: Mask of shape (N, S), or (S,) without a batch: boolean, True where a key is ignored,
            or of the dtype of ``query`` or float32, added to the scores.
        need_weights: Whether to return the weights too.
        attn_mask: Mask of shape (L, S) or (N * H, L, S), boolean or additive as ``key_padding_mask``.
        use_separate_proj_weight: Whether to project by the next three arguments, not by ``in_proj_weight``.
        q_proj_weight: The projection of the queries, of shape (E, E).
        k_proj_weight: The projection of the keys, of shape (E, the features of ``key``).
        v_proj_weight: The projection of the values, of shape (E, the features of ``value``).
        static_k: Projected keys to use instead, of shape (N * H, S, D), with an S of their own; or None.
        static_v: Projected values to use instead, of shape (N * H, S, D); or None.
        average_attn_weights: Whether to return the mean of the weights over the heads.
        is_causal: A promise that ``attn_mask``, which has to be given, is the causal mask. Without
            ``key_padding_mask`` and with ``need_weights=False`` the causal mask then takes its place.
        dropout_key: JAX PRNG key for the dropout.

    Returns:
        The output, of shape (L, N, Eout) or (L, Eout), and the weights after dropout: of shape (N, L, S), per
        head (N, H, L, S), both without N for inputs without a batch, or None with ``need_weights=False``.
        Both are of the dtype of ``query``.

    Raises:
        TypeError: If an array is none or of another dtype, or another argument of the wrong type.
        ValueError: If shapes do not fit, ``num_heads`` does not divide E, a projection is missing, one of
            ``bias_k`` and ``bias_v`` is, or they come with ``static_k`` or ``static_v``, ``is_causal`` comes
            without ``attn_mask``, or ``dropout_p`` is outside [0, 1], or above 0 in training without
            ``dropout_key``.

    Example:
        >>> import jax.numpy as jnp, jaxact
        >>> x = jnp.arange(6.0).reshape(3, 2)
        >>> eye = jnp.eye(2)
        >>> output, weights = jaxact.multi_head_attention_forward(
        ...     x, x, x, 2, 1, jnp.concatenate([0 * eye, eye, eye]), None, None, None, False, 0.0, eye, None
        ... )
        >>> print(output)
        [[2. 3.]
         [2. 3.]
         [2. 3.]]
        >>> weights.shape
        (3, 3)

    See Also:
        :func:`torch.nn.functional.multi_head_attention_forward`, :class:`torch.nn.MultiheadAttention`

    References:
        Vaswani et al., "Attention is all you need", NeurIPS 2017.
    """
    name = "multi_head_attention_forward"
    add_zero_attn, training, need_weights, use_separate_proj_weight, average_attn_weights, is_causal = _flags(
        name,
        add_zero_attn=add_zero_attn,
        training=training,
        need_weights=need_weights,
        use_separate_proj_weight=use_separate_proj_weight,
        average_attn_weights=average_attn_weights,
        is_causal=is_causal,
    )
    if use_separate_proj_weight:
        required = {
            "q_proj_weight": q_proj_weight,
            "k_proj_weight": k_proj_weight,
            "v_proj_weight": v_proj_weight,
        }
    else:
        required = {"in_proj_weight": in_proj_weight}
    for argument, weight in required.items():
        if weight is None:
            raise ValueError(f"{name}: use_separate_proj_weight={use_separate_proj_weight} needs {argument}, got None")
    optional = {
        "in_proj_bias": in_proj_bias,
        "out_proj_bias": out_proj_bias,
        "bias_k": bias_k,
        "bias_v": bias_v,
        "static_k": static_k,
        "static_v": static_v,
    }
    arrays = _arrays(
        name,
        query=query,
        key=key,
        value=value,
        out_proj_weight=out_proj_weight,
        **required,
        **{argument: array for argument, array in optional.items() if array is not None},
    )
    masks = {
        argument: _mask(name, argument, mask, arrays["query"].dtype)
        for argument, mask in (("attn_mask", attn_mask), ("key_padding_mask", key_padding_mask))
        if mask is not None
    }
    features = _dimension(name, "embed_dim_to_check", embed_dim_to_check)
    heads = _dimension(name, "num_heads", num_heads)
    _check_head_shapes(name, {argument: x.shape for argument, x in (arrays | masks).items()}, features, heads)
    dropout = _dropout(name, dropout_p, dropout_key, training)
    if is_causal and attn_mask is None:
        raise ValueError(f"{name}: is_causal=True is a hint about attn_mask, which then has to be given, got None")
    causal_instead = is_causal and key_padding_mask is None and not need_weights
    if causal_instead:
        del masks["attn_mask"]
    outputs: tuple[jax.Array, jax.Array | None] = _multi_head_attention(
        arrays,
        masks,
        dropout,
        num_heads=heads,
        add_zero_attn=add_zero_attn,
        need_weights=need_weights,
        average_attn_weights=average_attn_weights,
        is_causal=causal_instead,
    )
    return outputs


@functools.partial(
    jax.jit,
    static_argnames=("num_heads", "add_zero_attn", "need_weights", "average_attn_weights", "is_causal"),
)
def _multi_head_attention(
    arrays: dict[str, jax.Array],
    masks: dict[str, jax.Array],
    dropout: Dropout,
    num_heads: int,
    add_zero_attn: bool,
    need_weights: bool,
    average_attn_weights: bool,
    is_causal: bool,
) -> tuple[jax.Array, jax.Array | None]:
    dtype = arrays["query"].dtype
    arrays = {argument: x.astype(compute_dtype(dtype)) for argument, x in arrays.items()}
    batched = arrays["query"].ndim == 3
    linear = functools.partial(_linear, precision=matmul_precision(dtype))

    if not batched:
        arrays |= {side: arrays[side][:, None] for side in ("query", "key", "value")}
    length, batch, features = arrays["query"].shape
    arrays |= {side: _split(arrays[side], 0, batch) for side in ("static_k", "static_v") if side in arrays}
    keys = arrays["static_k"].shape[2] if "static_k" in arrays else arrays["key"].shape[0]
    appended = ("bias_k" in arrays) + add_zero_attn
    head_masks = [_head_mask(argument, mask, batch) for argument, mask in masks.items()]
    if (pairs := _pairs(head_masks, is_causal, length, keys)) is not None:
        arrays |= _sides_in_use(arrays, pairs, appended)
    head_masks = [_padded(mask, appended) for mask in head_masks]

    query, key, value = _projected(arrays, linear)
    if "bias_k" in arrays:
        key, value = _with_row(key, arrays["bias_k"]), _with_row(value, arrays["bias_v"])
    # Heads first from here: (N, H, L or S, D).
    query, key, value = (_split(x, 2, num_heads).transpose(1, 2, 0, 3) for x in (query, key, value))
    key, value = arrays.get("static_k", key), arrays.get("static_v", value)
    if add_zero_attn:
        key, value = (jnp.pad(x, [(0, 0), (0, 0), (0, 1), (0, 0)]) for x in (key, value))

    if need_weights:
        matmul = functools.partial(jnp.matmul, precision=matmul_precision(dtype))
        weights = _weights(query, key, head_masks, None, dropout, matmul)
        output = matmul(weights, value)
    else:
        output = _attention(query, key, value, dtype, head_masks, None, dropout, is_causal)
    output = output.transpose(2, 0, 1, 3).reshape(length, batch, features)
    output = linear(output, arrays["out_proj_weight"], arrays.get("out_proj_bias")).astype(dtype)
    output = output if batched else output[:, 0]
    if not need_weights:
        return output, None
    weights = (weights.mean(axis=1) if average_attn_weights else weights).astype(dtype)
    return output, weights if batched else weights[0]


def _projected(arrays: dict[str, jax.Array], linear: Callable[..., jax.Array]) -> Sequence[jax.Array]:
    """Return the projected query, key and value, each (L or S, N, E)."""
    sides = [arrays[side] for side in ("query", "key", "value")]
    if "in_proj_weight" in arrays:
        weights = jnp.split(arrays["in_proj_weight"], 3)
    else:
        weights = [arrays[f"{side}_proj_weight"] for side in "qkv"]
    biases = jnp.split(arrays["in_proj_bias"], 3) if "in_proj_bias" in arrays else [None] * 3
    return [linear(*each) for each in zip(sides, weights, biases, strict=True)]


def _linear(x: jax.Array, weight: jax.Array, bias: jax.Array | None, precision: Precision) -> jax.Array:
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
        mask = _split(mask, 0, batch) if mask.ndim == 3 else mask[None, None]
    return ~mask if mask.dtype in BOOLEAN else mask


def _padded(mask: jax.Array, appended: int) -> jax.Array:
    """Return a mask of (N, H, L, S) for more keys; those that bias_k and add_zero_attn append are not masked."""
    return jnp.pad(mask, [(0, 0)] * 3 + [(0, appended)], constant_values=mask.dtype in BOOLEAN)


def _pairs(masks: Sequence[jax.Array], is_causal: bool, length: int, keys: int) -> jax.Array | None:
    """Return where a query may attend to a key by all boolean masks, or None where none leaves out any of them."""
    pairs = [mask for mask in masks if mask.dtype in BOOLEAN]
    if is_causal and length != keys:  # keys may come after all queries
        pairs.append(_causal(length, keys))
    return functools.reduce(jnp.logical_and, pairs) if pairs else None


def _in_use(x: jax.Array, pairs: jax.Array) -> jax.Array:
    """Return x, (..., H, rows, features), with zeros for the rows that have no True in pairs, (..., H, rows, others).

    The weights of such a query, key or value are 0, but 0 times an infinity or a NaN that it may hold is NaN, in the
    value or in a gradient. Arrays that serve several batches or heads are in use where one of these uses them.
    """
    pairs = _with_ndim(pairs, x.ndim)
    serving = [axis for axis, length in enumerate(x.shape[:-1]) if length == 1]
    used = pairs.any((*serving, -1), keepdims=True)
    if x.ndim > 2 and used.shape[-3] not in (1, x.shape[-3]):  # grouped heads
        used = _split(used, x.ndim - 3, x.shape[-3]).any(-3)
    return jnp.where(used, x, 0)


def _sides_in_use(arrays: dict[str, jax.Array], pairs: jax.Array, appended: int) -> dict[str, jax.Array]:
    """Return queries, keys and values as _in_use does, before a projection spreads what they hold to its gradient."""
    sides = {"key": pairs.mT, "value": pairs.mT} if appended else {"query": pairs, "key": pairs.mT, "value": pairs.mT}
    used = {}
    for side, mask in sides.items():
        if (static := f"static_{side[0]}") in arrays:
            used[static] = _in_use(arrays[static], mask)
        else:
            heads_first = arrays[side].swapaxes(0, 1)[:, None]
            used[side] = _in_use(heads_first, mask)[:, 0].swapaxes(0, 1)
    return used


def _attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    dtype: np.dtype,
    masks: Sequence[jax.Array] = (),
    scale: ArrayLike | None = None,
    dropout: Dropout = None,
    is_causal: bool = False,
    enable_gqa: bool = False,
) -> jax.Array:
    """Return the attention of arrays of one rank, widened for computing from dtype, which their owner has."""
    if not masks and scale is None and dropout is None:
        arrays = tuple(x.astype(dtype) for x in (query, key, value))
        if _cudnn_takes(arrays, is_causal, enable_gqa):
            return _fused_attention(*arrays, is_causal).astype(query.dtype)
    return _formula(query, key, value, dtype, masks, scale, dropout, is_causal, enable_gqa)


def _formula(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    dtype: np.dtype,
    masks: Sequence[jax.Array] = (),
    scale: ArrayLike | None = None,
    dropout: Dropout = None,
    is_causal: bool = False,
    enable_gqa: bool = False,
) -> jax.Array:
    matmul = functools.partial(_grouped_matmul if enable_gqa else jnp.matmul, precision=matmul_precision(dtype))
    if is_causal:
        masks = [*masks, _causal(query.shape[-2], key.shape[-2])]
    return matmul(_weights(query, key, masks, scale, dropout, matmul), value)


def _weights(
    query: jax.Array,
    key: jax.Array,
    masks: Sequence[jax.Array],
    scale: ArrayLike | None,
    dropout: Dropout,
    matmul: Callable[..., jax.Array],
) -> jax.Array:
    return _dropped(softmax_or_zero(_scores(query, key, masks, scale, matmul), -1), dropout)


def _scores(
    query: jax.Array,
    key: jax.Array,
    masks: Sequence[jax.Array],
    scale: ArrayLike | None,
    matmul: Callable[..., jax.Array],
) -> jax.Array:
    if scale is None:
        features = max(query.shape[-1], 1)  # without any, every score is 0, as in torch
        known = isinstance(features, int)  # jax.export has symbolic dimensions
        scale = 1 / math.sqrt(features) if known else 1 / jnp.sqrt(jnp.asarray(features, query.dtype))
    scores = matmul(query * scale, key.mT)
    for mask in masks:
        scores = _masked(scores, _with_ndim(mask, scores.ndim))
    return scores


def _causal(length: int, keys: int) -> jax.Array:
    """Return a mask of (L, S) that is True where the key does not come after the query."""
    query, key = (lax.broadcasted_iota(np.int32, (length, keys), axis) for axis in (0, 1))
    return query >= key


def _masked(scores: jax.Array, mask: jax.Array) -> jax.Array:
    """Return the scores with -inf where a boolean mask is False, or plus an additive mask."""
    if mask.dtype in BOOLEAN:
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


def _grouped_matmul(x: jax.Array, y: jax.Array, precision: Precision) -> jax.Array:
    """Return x @ y where every head of y serves as many consecutive heads of x; axis -3 counts heads.

    The heads of x that share a head of y are stacked along the rows, so that y is not repeated.
    """
    groups = _split(x, x.ndim - 3, y.shape[-3])
    *batch, heads, members, rows, columns = groups.shape
    stacked = groups.reshape(*batch, heads, members * rows, columns)
    product = _split(jnp.matmul(stacked, y, precision=precision), x.ndim - 2, members)
    return product.reshape(*product.shape[:-4], heads * members, rows, y.shape[-1])


def _split(x: jax.Array, axis: int, outer: int) -> jax.Array:
    """Return x with an axis in two, the outer one of the given length. Sharded axes cannot be regrouped in one step."""
    return x.reshape(*x.shape[:axis], outer, x.shape[axis] // max(outer, 1), *x.shape[axis + 1 :])


def _with_ndim(x: jax.Array, ndim: int) -> jax.Array:
    """Return x with leading axes of length 1 up to ndim, so that no rank is promoted behind one's back."""
    return lax.expand_dims(x, range(ndim - x.ndim))


def _cudnn_takes(arrays: tuple[jax.Array, ...], is_causal: bool, enable_gqa: bool) -> bool:
    """Say whether cuDNN is there and its fused attention is this one, without mask, scale and dropout."""
    query, key, value = arrays
    if query.dtype not in HALVES or query.ndim != 4 or jax.default_backend() != "gpu":
        return False
    fits = (
        all(isinstance(length, int) and length for length in (*query.shape, *key.shape))
        and query.shape[0] == key.shape[0]
        and key.shape == value.shape
        and (enable_gqa or query.shape[1] == key.shape[1])
        and (not is_causal or query.shape[2] == key.shape[2])
    )
    if not fits:
        return False
    try:  # tracing it is how JAX says whether cuDNN is there and supports the shape
        jax.eval_shape(functools.partial(_cudnn_attention, is_causal=is_causal), query, key, value)
    except (NotImplementedError, RuntimeError, ValueError):
        return False
    return bool(float(jax.local_devices()[0].compute_capability) >= 8)


def _cudnn_attention(query: jax.Array, key: jax.Array, value: jax.Array, is_causal: bool) -> jax.Array:
    # (N, H, L, E) is (N, L, H, E) there.
    query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))
    output = jax.nn.dot_product_attention(query, key, value, is_causal=is_causal, implementation="cudnn")
    return output.swapaxes(1, 2)


def _half_formula(query: jax.Array, key: jax.Array, value: jax.Array, is_causal: bool) -> jax.Array:
    dtype = query.dtype
    query, key, value = (x.astype(FLOAT32) for x in (query, key, value))
    return _formula(query, key, value, dtype, is_causal=is_causal, enable_gqa=True).astype(dtype)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def _fused_attention(query: jax.Array, key: jax.Array, value: jax.Array, is_causal: bool) -> jax.Array:
    """Return the attention by cuDNN on CUDA devices, by the formula elsewhere."""
    output: jax.Array = lax.platform_dependent(
        query,
        key,
        value,
        cuda=functools.partial(_cudnn_attention, is_causal=is_causal),
        default=functools.partial(_half_formula, is_causal=is_causal),
    )
    return output


@_fused_attention.defjvp
def _fused_attention_jvp(
    is_causal: bool, primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array]:
    """Differentiate the formula: cuDNN has a derivative only for reverse mode, and none of second order."""
    return jax.jvp(functools.partial(_half_formula, is_causal=is_causal), primals, tangents)


def _arrays(name: str, **arguments: Any) -> dict[str, jax.Array]:
    """Return the arguments as arrays, or raise unless all are of the one float dtype of the first."""
    arrays = {argument: _array(name, argument, x) for argument, x in arguments.items()}
    first, *_ = arrays
    dtype = arrays[first].dtype
    if dtype not in FLOATS:
        accepted = ", ".join(sorted(map(str, FLOATS)))
        raise TypeError(f"{name}: {first} of dtype {dtype} is not accepted, only {accepted}; convert it with .astype")
    for argument, x in arrays.items():
        if x.dtype != dtype:
            raise TypeError(
                f"{name}: {argument} must be of the dtype of {first}, {dtype}, got {x.dtype}; convert it with .astype"
            )
    return arrays


def _array(name: str, argument: str, x: Any) -> jax.Array:
    x = operand(name, x, argument)
    return x if isinstance(x, jax.Array) else jnp.asarray(x)  # asarray costs microseconds even on arrays


def _mask(name: str, argument: str, mask: Any, dtype: np.dtype) -> jax.Array:
    """Return a mask as an array, or raise unless it is boolean or of the given dtype or float32."""
    array = _array(name, argument, mask)
    if array.dtype not in BOOLEAN | {dtype, FLOAT32}:
        raise TypeError(
            f"{name}: {argument} must be boolean, float32 or of the dtype of query, {dtype}, "
            f"got {array.dtype}; convert it with .astype"
        )
    return array


def _flags(name: str, **flags: Any) -> list[bool]:
    return [flag(name, argument, value) for argument, value in flags.items()]


def _dimension(name: str, argument: str, value: Any) -> int:
    """Return an int, or a symbolic dimension as it is, or raise."""
    symbolic: bool = export.is_symbolic_dim(value)
    return value if symbolic else integer(name, argument, value)


def _dropout(name: str, p: Any, key: Any, training: bool = True) -> Dropout:
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


def _broadcast_shapes(*shapes: Shape) -> Shape | None:
    """Return the shape that all of the shapes broadcast to, or None if there is none."""
    try:
        return lax.broadcast_shapes(*shapes)  # of symbolic dimensions too, unlike NumPy's
    except ValueError:
        return None


def _scores_shape(name: str, shapes: dict[str, Shape], enable_gqa: bool) -> Shape:
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
    if _broadcast_shapes(*batches) is None:
        raise ValueError(
            f"{name}: the leading axes of query, key and value must broadcast, {got}; "
            "enable_gqa=True shares heads of key and value among heads of query"
        )
    return (*lax.broadcast_shapes(*batches[:2]), *heads, query[-2], key[-2])


def _divides(divisor: int, length: int) -> bool:
    return length % divisor == 0 if divisor != 0 else length == 0


def _check_head_shapes(name: str, shapes: dict[str, Shape], embed_dim_to_check: int, num_heads: int) -> None:
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

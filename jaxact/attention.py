r"""Attention: scaled_dot_product_attention, multi_head_attention_forward.

Both are one formula, :func:`_attend`, between a check of the arguments and a projection. Axes are named as
in torch: L queries and S keys of E features, Ev features of a value, N sequences in a batch, H heads.
"""

import functools
import math
import operator
from collections.abc import Iterable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jaxact._boundary import BOOLEAN, FLOAT32, FLOATS, HALVES, check_scalar, compute_dtype, operand

Dropout: TypeAlias = tuple[ArrayLike, jax.Array] | None
"""The probability and the PRNG key, or None without dropout: what is None costs nothing when compiled."""


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

    with the scale :math:`s`, :math:`1/\sqrt{E}` by default, and the mask :math:`M`: 0 where a boolean mask is
    True and :math:`-\infty` where it is False, or the additive mask itself. A query whose scores are all
    :math:`-\infty` attends to nothing: its output and its gradients are 0.

    Leading axes broadcast. Products are computed in full float32, also on accelerators that would round their
    operands to fewer bits by default, unless ``jax.default_matmul_precision`` says otherwise; those of
    float16 and bfloat16 inputs at the accelerator's default precision, accumulated in float32. With cuDNN (a
    CUDA device of compute capability 8.0 or later), float16 or bfloat16, axes (N, H, L, E) of one batch size,
    Ev = E, no mask, dropout or ``scale`` of one's own, and L = S if causal, the value is computed by cuDNN's
    fused attention, which rounds the softmax to the half type; derivatives are always those of the formula.

    Args:
        query: Array of shape (..., L, E), of a float dtype.
        key: Array of shape (..., S, E) and the dtype of ``query``.
        value: Array of shape (..., S, Ev) and the dtype of ``query``.
        attn_mask: Mask that broadcasts to the scores' shape (..., L, S): boolean, True where a query attends
            to a key, or of the dtype of ``query`` or float32, added to the scores.
        dropout_p: Probability in [0, 1] with which a weight is dropped; the others are scaled by
            :math:`1/(1-p)`. Applied whenever it is above 0: there is no training mode.
        is_causal: Let query :math:`i` attend to the keys :math:`j \le i` only. Excludes ``attn_mask``.
        scale: The factor :math:`s`, a number or a 0-d array, which may be traced.
        enable_gqa: Grouped queries: axis -3 counts heads, and each head of ``key`` and ``value`` serves the
            equally many consecutive heads of ``query``.
        dropout_key: JAX PRNG key of the dropout.

    Returns:
        Array of shape (..., L, Ev) and the dtype of ``query``.

    Raises:
        TypeError: If an argument is no array, the dtypes differ or are no float dtypes, a flag is no bool, the
            probability is no number or the key no PRNG key.
        ValueError: If the shapes do not fit, ``attn_mask`` comes with ``is_causal``, the probability is out of
            range or above 0 without a key.

    Example:
        >>> import jax.numpy as jnp, jaxact
        >>> query, key = jnp.zeros((1, 4)), jnp.zeros((3, 4))
        >>> value = jnp.array([[1.0, 2.0], [3.0, 4.0], [8.0, 9.0]])
        >>> print(jaxact.scaled_dot_product_attention(query, key, value))
        [[4. 5.]]
        >>> print(jaxact.scaled_dot_product_attention(query, key, value, jnp.array([True, True, False])))
        [[2. 3.]]

    See Also:
        :func:`torch.nn.functional.scaled_dot_product_attention`, :func:`jax.nn.dot_product_attention`

    References:
        Vaswani et al., "Attention is all you need", NeurIPS 2017; grouped queries: Ainslie et al., "GQA:
        Training generalized multi-query transformer models", EMNLP 2023.
    """
    name = "scaled_dot_product_attention"
    _check_flags(name, is_causal=is_causal, enable_gqa=enable_gqa)
    arrays = _arrays(name, query=query, key=key, value=value)
    dtype = _common_dtype(name, arrays)
    scores_shape = _scores_shape(name, enable_gqa, **{side: array.shape for side, array in arrays.items()})
    if attn_mask is not None:
        attn_mask = _mask(name, "attn_mask", attn_mask, dtype)
        if is_causal:
            raise ValueError(f"{name}: attn_mask and is_causal=True exclude each other; make the mask causal itself")
        if not _broadcasts(attn_mask.shape, scores_shape):
            raise ValueError(
                f"{name}: attn_mask of shape {attn_mask.shape} does not broadcast to the shape of the scores "
                f"(..., L, S) = {scores_shape}"
            )
    if scale is not None:
        check_scalar(name, "scale", scale)
    dropout = _dropout_argument(name, dropout_p, dropout_key)
    return _scaled_dot_product_attention(
        **arrays, attn_mask=attn_mask, scale=scale, dropout=dropout, is_causal=is_causal, enable_gqa=enable_gqa
    )


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
    if attn_mask is None and scale is None and dropout is None and _cudnn_takes(query, key, value, is_causal, enable_gqa):
        return _fused_attention(is_causal, query, key, value)
    return _attention(query, key, value, attn_mask, scale, dropout, is_causal, enable_gqa)


def _attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    attn_mask: jax.Array | None = None,
    scale: ArrayLike | None = None,
    dropout: Dropout = None,
    is_causal: bool = False,
    enable_gqa: bool = False,
) -> jax.Array:
    """Return the attention by its formula, at the dtype of the query, computed at the wider one."""
    dtype = query.dtype
    ndim = max(query.ndim, key.ndim, value.ndim)
    query, key, value = (_with_ndim(x.astype(compute_dtype(dtype)), ndim) for x in (query, key, value))
    masks = [] if attn_mask is None else [attn_mask]
    if is_causal:
        masks.append(_causal_mask(query, key))
    weights = _weights(query, key, masks, scale, dtype)
    return _matmul(_dropped(_zero_if_all_masked(weights), dropout), value, dtype).astype(dtype)

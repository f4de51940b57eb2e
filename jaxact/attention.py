r"""Attention: scaled_dot_product_attention, multi_head_attention_forward.

Axes are named as in torch: L queries and S keys of E features, Ev features of a value, N sequences in a
batch, H heads of D features each.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxact import _attention_arguments as arguments
from jaxact._checks import arrays_of_one_dtype, flags, operand, real_scalar
from jaxact._dtypes import compute_dtype, matmul_precision
from jaxact._kernels.dot_product import Dropout, Plan, Weighting, in_use, pairs_in_use, with_ndim
from jaxact._kernels.fused_attention import attention
from jaxact._kernels.heads import multi_head_attention


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
        TypeError: If an argument is no array, or one of another dtype, or another argument has the wrong type.
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
    is_causal, enable_gqa = flags(name, is_causal=is_causal, enable_gqa=enable_gqa)
    arrays = arrays_of_one_dtype(name, query=query, key=key, value=value)
    scores_shape = arguments.scores_shape(name, {side: x.shape for side, x in arrays.items()}, enable_gqa)
    if attn_mask is not None:
        if is_causal:
            raise ValueError(f"{name}: attn_mask and is_causal=True exclude each other; make attn_mask causal itself")
        attn_mask = arguments.attention_mask(name, "attn_mask", attn_mask, arrays["query"].dtype)
        if arguments.broadcast_shapes(attn_mask.shape, scores_shape) != scores_shape:
            raise ValueError(
                f"{name}: attn_mask must broadcast to the shape of the scores (..., L, S), {scores_shape}, "
                f"got shape {attn_mask.shape}"
            )
    if scale is not None:
        scale = operand(name, scale, "scale")
    dropout = arguments.dropout(name, dropout_p, dropout_key)
    output: jax.Array = _scaled_dot_product_attention(
        **arrays,
        attn_mask=attn_mask,
        scale=scale,
        dropout=dropout,
        is_causal=is_causal,
        enable_gqa=enable_gqa,
    )
    return output


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
        TypeError: If an argument is no array, or one of another dtype, or another argument has the wrong type.
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
    add_zero_attn, training, need_weights, use_separate_proj_weight, average_attn_weights, is_causal = flags(
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
    arrays = arrays_of_one_dtype(
        name,
        query=query,
        key=key,
        value=value,
        out_proj_weight=out_proj_weight,
        **required,
        **{argument: array for argument, array in optional.items() if array is not None},
    )
    masks = {
        argument: arguments.attention_mask(name, argument, mask, arrays["query"].dtype)
        for argument, mask in (("attn_mask", attn_mask), ("key_padding_mask", key_padding_mask))
        if mask is not None
    }
    features = arguments.dimension(name, "embed_dim_to_check", embed_dim_to_check)
    heads = arguments.dimension(name, "num_heads", num_heads)
    arguments.check_head_shapes(name, {argument: x.shape for argument, x in (arrays | masks).items()}, features, heads)
    dropout = arguments.dropout(name, dropout_p, dropout_key, training)
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
    query, key, value = (with_ndim(x.astype(compute_dtype(dtype)), ndim) for x in (query, key, value))
    masks = [] if attn_mask is None else [with_ndim(attn_mask, ndim)]
    if (pairs := pairs_in_use(masks, is_causal, query.shape[-2], key.shape[-2])) is not None:
        query, key, value = in_use(query, pairs), in_use(key, pairs.mT), in_use(value, pairs.mT)
    plan = Plan(dtype, matmul_precision(dtype), is_causal, enable_gqa)
    return attention(query, key, value, plan, Weighting(masks, scale, dropout)).astype(dtype)


@functools.partial(
    jax.jit,
    static_argnames=("num_heads", "add_zero_attn", "need_weights", "average_attn_weights", "is_causal"),
)
def _multi_head_attention(
    arrays: dict[str, jax.Array], masks: dict[str, jax.Array], dropout: Dropout, is_causal: bool, **options: Any
) -> tuple[jax.Array, jax.Array | None]:
    dtype = arrays["query"].dtype
    arrays = {argument: x.astype(compute_dtype(dtype)) for argument, x in arrays.items()}
    return multi_head_attention(arrays, masks, dropout, Plan(dtype, matmul_precision(dtype), is_causal), **options)

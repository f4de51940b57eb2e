"""Attention as one fused kernel of cuDNN, where JAX and cuDNN offer it, and by the formula elsewhere."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from jaxact._kernels.dot_product import Plan, Weighting, formula


def attention(query: jax.Array, key: jax.Array, value: jax.Array, plan: Plan, weighting: Weighting) -> jax.Array:
    """Return the attention of arrays of one rank, widened for computing."""
    if not weighting.masks and weighting.scale is None and weighting.dropout is None:
        arrays = tuple(x.astype(plan.dtype) for x in (query, key, value))
        if _cudnn_takes(arrays, plan):
            return _fused_attention(*arrays, plan.is_causal).astype(query.dtype)
    return formula(query, key, value, plan, weighting)


def _cudnn_takes(arrays: tuple[jax.Array, ...], plan: Plan) -> bool:
    """Say whether this process has cuDNN, and its fused attention is this one, without mask, scale and dropout.

    The program may still run elsewhere, on the CPU beside the GPU: which it is, is known when it is lowered.
    """
    query, key, value = arrays
    if plan.dtype.itemsize != 2 or query.ndim != 4:
        return False
    fits = (
        all(isinstance(length, int) and length for length in (*query.shape, *key.shape))
        and query.shape[0] == key.shape[0]
        and key.shape == value.shape
        and (plan.grouped or query.shape[1] == key.shape[1])
        and (not plan.is_causal or query.shape[2] == key.shape[2])
    )
    if not fits:
        return False
    try:
        gpu = jax.local_devices(backend="gpu")[0]
        # Tracing it is how JAX says whether cuDNN is there and supports the shape.
        jax.eval_shape(functools.partial(_cudnn_attention, is_causal=plan.is_causal), query, key, value)
    except (NotImplementedError, RuntimeError, ValueError):
        return False
    return float(gpu.compute_capability) >= 8


def _cudnn_attention(query: jax.Array, key: jax.Array, value: jax.Array, is_causal: bool) -> jax.Array:
    # (N, H, L, E) is (N, L, H, E) there.
    query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))
    output = jax.nn.dot_product_attention(query, key, value, is_causal=is_causal, implementation="cudnn")
    return output.swapaxes(1, 2)


def _half_formula(query: jax.Array, key: jax.Array, value: jax.Array, is_causal: bool) -> jax.Array:
    plan = Plan(query.dtype, None, is_causal, grouped=True)
    query, key, value = (x.astype(jnp.float32) for x in (query, key, value))
    return formula(query, key, value, plan, Weighting()).astype(plan.dtype)


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

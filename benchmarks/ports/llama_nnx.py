"""The model of llama.py as modules of Flax NNX, its embedding not tied, attention by jax.nn.dot_product_attention."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from .corpus import Port, integers, randomised, weights_of
from .llama import BLOCKS, DIM, HEAD, HEADS, HIDDEN, KV_HEADS, THETA, TOKENS, Llama

# Weights are put in afterwards, and random ones would take time.
Linear = functools.partial(nnx.Linear, kernel_init=nnx.initializers.zeros)


class Attention(nnx.Module):
    def __init__(self, i, wrong, rngs):
        self.q_proj = Linear(DIM, HEADS * HEAD, use_bias=False, rngs=rngs)
        self.k_proj = Linear(DIM, KV_HEADS * HEAD, use_bias=False, rngs=rngs)
        self.v_proj = Linear(DIM, KV_HEADS * HEAD, use_bias=False, rngs=rngs)
        self.o_proj = Linear(HEADS * HEAD, DIM, use_bias=False, rngs=rngs)
        self.i, self.wrong = i, wrong

    def __call__(self, x):
        batch, length, _ = x.shape
        q = self.rope(self.q_proj(x).reshape(batch, length, HEADS, HEAD))
        k = self.rope(self.k_proj(x).reshape(batch, length, KV_HEADS, HEAD))
        v = self.v_proj(x).reshape(batch, length, KV_HEADS, HEAD)
        if self.wrong("tiled", self.i):
            k, v = jnp.tile(k, (1, 1, 2, 1)), jnp.tile(v, (1, 1, 2, 1))  # cause: tiled
        scale = 1.0 if self.wrong("unscaled", self.i) else None  # cause: unscaled
        causal = not self.wrong("no-mask", self.i)  # cause: no-mask
        y = jax.nn.dot_product_attention(q, k, v, scale=scale, is_causal=causal)  # mistake: tiled, unscaled, no-mask
        return self.o_proj(y.reshape(batch, length, -1))

    def rope(self, x):
        angles = jnp.arange(x.shape[1])[:, None] * THETA ** -(jnp.arange(0, HEAD, 2) / HEAD)
        sin, cos = (f(angles)[:, None].astype(x.dtype) for f in (jnp.sin, jnp.cos))
        x1, x2 = x[..., : HEAD // 2], x[..., HEAD // 2 :]
        sin = -sin if self.wrong("turned-back", self.i) else sin  # cause: turned-back
        return jnp.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], -1)  # mistake: turned-back


class MLP(nnx.Module):
    def __init__(self, i, wrong, rngs):
        self.gate_proj = Linear(DIM, HIDDEN, use_bias=False, rngs=rngs)
        self.up_proj = Linear(DIM, HIDDEN, use_bias=False, rngs=rngs)
        self.down_proj = Linear(HIDDEN, DIM, use_bias=False, rngs=rngs)
        self.i, self.wrong = i, wrong

    def __call__(self, x):
        act = nnx.gelu if self.wrong("gelu-for-silu", self.i) else nnx.silu  # cause: gelu-for-silu
        gate = act(self.gate_proj(x))  # mistake: gelu-for-silu
        up = self.up_proj(x)
        return self.down_proj(gate + up if self.wrong("sum", self.i) else gate * up)  # mistake: sum


class Block(nnx.Module):
    def __init__(self, i, wrong, rngs):
        self.input_layernorm = nnx.RMSNorm(DIM, epsilon=1e-6, rngs=rngs)
        eps = 1e-5 if wrong("eps", i) else 1e-6  # cause: eps
        self.post_attention_layernorm = nnx.RMSNorm(DIM, epsilon=eps, rngs=rngs)
        self.self_attn, self.mlp = Attention(i, wrong, rngs), MLP(i, wrong, rngs)
        self.i, self.wrong = i, wrong

    def __call__(self, x):
        h = x + self.self_attn(self.input_layernorm(x))
        y = self.mlp(self.post_attention_layernorm(h))  # mistake: eps
        return x + y if self.wrong("old-residual", self.i) else h + y  # mistake: old-residual


class JaxLlama(nnx.Module):
    def __init__(self, wrong, dtype, rngs):
        self.embed_tokens = nnx.Embed(TOKENS, DIM, dtype=dtype, rngs=rngs)
        self.layers = nnx.List([Block(i, wrong, rngs) for i in range(BLOCKS)])
        self.norm = nnx.RMSNorm(DIM, epsilon=1e-6, rngs=rngs)
        self.lm_head = Linear(DIM, TOKENS, use_bias=False, rngs=rngs)
        self.wrong = wrong

    def __call__(self, ids):
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x)
        return self.embed_tokens.attend(x) if self.wrong("tied") else self.lm_head(x)  # mistake: tied


def load(module, w, path=""):
    """Put torch's weights into a module and all that are in it."""
    parts = enumerate(module) if isinstance(module, nnx.List) else list(vars(module).items())
    for name, part in parts:
        if isinstance(part, nnx.Linear):
            part.kernel = nnx.Param(w[f"{path}{name}.weight"].T)
        elif isinstance(part, nnx.RMSNorm):
            part.scale = nnx.Param(w[f"{path}{name}.weight"])
        elif isinstance(part, nnx.Embed):
            part.embedding = nnx.Param(w[f"{path}{name}.weight"])
        elif isinstance(part, (nnx.Module, nnx.List)):
            load(part, w, f"{path}{name}.")


def make(seed, wrong, dtype):
    module = randomised(Llama(tied=False), seed, dtype)
    model = JaxLlama(wrong, jnp.dtype(dtype), nnx.Rngs(0))
    load(model, weights_of(module))
    return model, module, (integers(seed, TOKENS, (2, 9)),)


PORT = Port(
    "llama-nnx",
    make,
    {
        "tiled@1": ("layers.1.self_attn",),
        "unscaled": ("layers.0.self_attn",),
        "no-mask@2": ("layers.2.self_attn",),
        "turned-back@0": ("layers.0.self_attn",),
        "gelu-for-silu@3": ("layers.3.mlp.act_fn",),
        "sum@0": ("layers.0.mlp",),
        "eps@0": ("layers.0.post_attention_layernorm",),
        "old-residual@2": ("layers.2",),
        "tied": ("lm_head", ""),
    },
    pairs=("tiled@1+gelu-for-silu@3", "sum@0+old-residual@2"),
)

"""A model after LLaMA with tied embedding: RMSNorm, rotary positions by halves, grouped queries, SwiGLU; in JAX."""

import jax
import jax.numpy as jnp
import torch
import torch.nn.functional as F
from torch import nn

from .corpus import Port, integers, randomised, weights_of

TOKENS, DIM, HEADS, KV_HEADS, HEAD, HIDDEN, BLOCKS, THETA = 31, 32, 4, 2, 8, 40, 4, 10000.0


class RMSNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(DIM))

    def forward(self, x):
        h = x.float()
        h = h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6)
        return self.weight * h.to(x.dtype)


class Rotary(nn.Module):
    def forward(self, x):
        length = x.shape[1]
        frequencies = 1.0 / THETA ** (torch.arange(0, HEAD, 2).float() / HEAD)
        angles = torch.arange(length).float()[:, None] * frequencies
        angles = torch.cat([angles, angles], -1)
        return angles.cos().to(x.dtype), angles.sin().to(x.dtype)


def rotate_half(x):
    x1, x2 = x.chunk(2, -1)
    return torch.cat([-x2, x1], -1)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj = nn.Linear(DIM, HEADS * HEAD, bias=False)
        self.k_proj = nn.Linear(DIM, KV_HEADS * HEAD, bias=False)
        self.v_proj = nn.Linear(DIM, KV_HEADS * HEAD, bias=False)
        self.o_proj = nn.Linear(HEADS * HEAD, DIM, bias=False)

    def forward(self, x, cos, sin):
        batch, length, _ = x.shape
        q, k, v = (f(x).view(batch, length, -1, HEAD).transpose(1, 2) for f in (self.q_proj, self.k_proj, self.v_proj))
        q, k = q * cos + rotate_half(q) * sin, k * cos + rotate_half(k) * sin
        k, v = (torch.repeat_interleave(t, HEADS // KV_HEADS, 1) for t in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(batch, length, HEADS * HEAD))


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate_proj = nn.Linear(DIM, HIDDEN, bias=False)
        self.up_proj = nn.Linear(DIM, HIDDEN, bias=False)
        self.down_proj = nn.Linear(HIDDEN, DIM, bias=False)
        self.act_fn = nn.SiLU()

    def forward(self, x):
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.input_layernorm, self.self_attn = RMSNorm(), Attention()
        self.post_attention_layernorm, self.mlp = RMSNorm(), MLP()

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    def __init__(self, tied=True):
        super().__init__()
        self.embed_tokens = nn.Embedding(TOKENS, DIM)
        self.rotary = Rotary()
        self.layers = nn.ModuleList(Block() for _ in range(BLOCKS))
        self.norm = RMSNorm()
        self.lm_head = nn.Linear(DIM, TOKENS, bias=False)
        if tied:
            self.lm_head.weight = self.embed_tokens.weight

    def forward(self, ids):
        x = self.embed_tokens(ids)
        cos, sin = self.rotary(x)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.lm_head(self.norm(x))


def make(seed, wrong, dtype):
    module = randomised(Llama(), seed, dtype)
    w = weights_of(module)

    def rms_norm(x, weight, i=None):
        h = x.astype(jnp.float32)
        h = h * jax.lax.rsqrt((h * h).mean(-1, keepdims=True) + (1e-5 if wrong("eps", i) else 1e-6))  # mistake: eps
        h = h.astype(x.dtype)
        return h * (1 + weight) if wrong("one-plus", i) else h * weight  # mistake: one-plus

    def rope(x, cos, sin, i):
        x1, x2 = (x[..., ::2], x[..., 1::2]) if wrong("rope-pairs", i) else jnp.split(x, 2, -1)  # mistake: rope-pairs
        if wrong("sin-and-cos", i):
            cos, sin = sin, cos  # cause: sin-and-cos
        y = jnp.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], -1)  # mistake: sin-and-cos
        return y

    def attention(x, p, i, cos, sin):
        batch, length, _ = x.shape
        q, k, v = ((x @ w[f"{p}.{n}_proj.weight"].T).reshape(batch, length, -1, HEAD).swapaxes(1, 2) for n in "qkv")
        q, k = rope(q, cos, sin, i), k if wrong("k-not-turned", i) else rope(k, cos, sin, i)  # mistake: k-not-turned
        if wrong("tiled", i):
            k, v = (jnp.tile(t, (1, HEADS // KV_HEADS, 1, 1)) for t in (k, v))  # mistake: tiled
        else:
            k, v = (jnp.repeat(t, HEADS // KV_HEADS, 1) for t in (k, v))
        scores = q @ k.mT * (DIM if wrong("scale", i) else HEAD) ** -0.5  # mistake: scale
        mask = jnp.tri(length, k=1 if wrong("mask", i) else 0, dtype=bool)  # cause: mask
        scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)  # mistake: mask
        y = (jax.nn.softmax(scores.astype(jnp.float32), -1).astype(v.dtype) @ v).swapaxes(1, 2)
        return y.reshape(batch, length, -1) @ w[f"{p}.o_proj.weight"].T

    def mlp(x, p, i):
        gate, up = x @ w[f"{p}.gate_proj.weight"].T, x @ w[f"{p}.up_proj.weight"].T
        h = gate * jax.nn.silu(up) if wrong("gate-and-up", i) else jax.nn.silu(gate) * up  # mistake: gate-and-up
        return h @ w[f"{p}.down_proj.weight"].T

    def forward(ids):
        x = w["embed_tokens.weight"][ids]
        x = x * jnp.asarray(DIM**0.5, x.dtype) if wrong("scaled") else x  # mistake: scaled
        theta = 100000.0 if wrong("theta") else THETA  # cause: theta
        angles = jnp.arange(ids.shape[1])[:, None] / theta ** (jnp.arange(0, HEAD, 2) / HEAD)  # mistake: theta
        cos, sin = jnp.cos(angles).astype(x.dtype), jnp.sin(angles).astype(x.dtype)
        for i in range(BLOCKS):
            p = f"layers.{i}"
            x = x + attention(rms_norm(x, w[f"{p}.input_layernorm.weight"], i), f"{p}.self_attn", i, cos, sin)
            h = x if wrong("no-norm", i) else rms_norm(x, w[f"{p}.post_attention_layernorm.weight"])  # mistake: no-norm
            x = x + mlp(h, f"{p}.mlp", i)
        return rms_norm(x, w["norm.weight"]) @ w["embed_tokens.weight"].T

    return forward, module, (integers(seed, TOKENS, (2, 9), "int64"),)


PORT = Port(
    "llama-jax",
    make,
    {
        "eps": ("layers.0.input_layernorm",),
        "one-plus@2": ("layers.2.input_layernorm",),
        "rope-pairs": ("layers.0.self_attn",),
        "rope-pairs@3": ("layers.3.self_attn",),
        "sin-and-cos@1": ("layers.1.self_attn",),
        "k-not-turned@0": ("layers.0.self_attn",),
        "tiled": ("layers.0.self_attn",),
        "tiled@2": ("layers.2.self_attn",),
        "scale@1": ("layers.1.self_attn",),
        "mask@3": ("layers.3.self_attn",),
        "gate-and-up@0": ("layers.0.mlp.act_fn", "layers.0.mlp"),
        "scaled": ("embed_tokens", ""),
        "theta": ("rotary",),
        "no-norm@1": ("layers.1.post_attention_layernorm", "layers.1"),
    },
    pairs=("rope-pairs@3+gate-and-up@0", "tiled@2+mask@3"),
)

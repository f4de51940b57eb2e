"""An encoder after T5, in plain JAX: relative position bias shared by all blocks, scores not scaled, RMS norm."""

import math

import jax
import jax.numpy as jnp
import torch
from torch import nn

from .corpus import Port, integers, randomised, weights_of

TOKENS, DIM, HEADS, HIDDEN, BLOCKS, BUCKETS, FAR = 23, 24, 4, 32, 3, 8, 10


class T5LayerNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(DIM))

    def forward(self, x):
        variance = x.to(torch.float32).pow(2).mean(-1, keepdim=True)
        return self.weight * (x * torch.rsqrt(variance + 1e-6)).to(x.dtype)


def buckets_of(length):
    """Return the bucket of each pair of positions: half of them for keys after the query."""
    distance = torch.arange(length)[None] - torch.arange(length)[:, None]
    half, near = BUCKETS // 2, BUCKETS // 4
    far = near + (distance.abs().float() / near).log() / math.log(FAR / near) * (half - near)
    far = far.clamp(min=0, max=half - 1).long()
    return (distance > 0) * half + torch.where(distance.abs() < near, distance.abs(), far)


class SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(DIM, DIM, bias=False) for _ in range(4))

    def forward(self, x, bias):
        q, k, v = (f(x).view(*x.shape[:2], HEADS, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        scores = torch.matmul(q, k.transpose(3, 2))
        scores += bias
        y = torch.matmul(nn.functional.softmax(scores, dim=-1), v)
        return self.o(y.transpose(1, 2).contiguous().view(x.shape))


class Dense(nn.Module):
    def __init__(self):
        super().__init__()
        self.wi, self.wo, self.act = nn.Linear(DIM, HIDDEN, bias=False), nn.Linear(HIDDEN, DIM, bias=False), nn.ReLU()

    def forward(self, x):
        return self.wo(self.act(self.wi(x)))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer_norm1, self.attention = T5LayerNorm(), SelfAttention()
        self.layer_norm2, self.dense = T5LayerNorm(), Dense()

    def forward(self, x, bias):
        x = x + self.attention(self.layer_norm1(x), bias)
        return x + self.dense(self.layer_norm2(x))


class T5(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared = nn.Embedding(TOKENS, DIM)
        self.relative_attention_bias = nn.Embedding(BUCKETS, HEADS)
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))
        self.final_layer_norm = T5LayerNorm()

    def forward(self, ids):
        x = self.shared(ids)
        bias = self.relative_attention_bias(buckets_of(ids.shape[1])).permute(2, 0, 1)[None]
        for block in self.blocks:
            x = block(x, bias)
        return self.final_layer_norm(x)


def make(seed, wrong, dtype):
    module = randomised(T5(), seed, dtype)
    w = weights_of(module)

    def norm(x, weight, i=None):
        x = x - x.mean(-1, keepdims=True) if wrong("mean-subtracted", i) else x  # mistake: mean-subtracted
        variance = jnp.square(x.astype(jnp.float32)).mean(-1, keepdims=True)
        scale = jax.lax.rsqrt(variance + (1e-5 if wrong("eps", i) else 1e-6))  # mistake: eps
        return weight * (x * scale).astype(x.dtype)

    def buckets(length):
        positions = jnp.arange(length)
        distance = positions[None] - positions[:, None]
        distance = -distance if wrong("reversed") else distance  # cause: reversed
        half, near = BUCKETS // 2, BUCKETS // 4
        furthest = 2 * FAR if wrong("furthest") else FAR  # cause: furthest
        away = jnp.abs(distance)
        far = near + jnp.log(jnp.maximum(away, 1) / near) / math.log(furthest / near) * (half - near)
        far = jnp.minimum(far.astype(jnp.int32), half - 1)
        return (distance > 0) * half + jnp.where(away < near, away, far)

    def attention(x, p, i, bias):
        q, k, v = ((x @ w[f"{p}.{n}.weight"].T).reshape(*x.shape[:2], HEADS, -1).swapaxes(1, 2) for n in "qkv")
        scores = q @ k.mT
        scores = scores / math.sqrt(q.shape[-1]) if wrong("scaled-scores", i) else scores  # mistake: scaled-scores
        scores = scores if wrong("no-position-bias", i) else scores + bias  # mistake: no-position-bias
        y = jax.nn.softmax(scores, -1) @ v
        return y.swapaxes(1, 2).reshape(x.shape) @ w[f"{p}.o.weight"].T

    def forward(ids):
        x = w["shared.weight"][ids]
        x = x * jnp.asarray(math.sqrt(DIM), x.dtype) if wrong("scaled-embedding") else x  # mistake: scaled-embedding
        bias = w["relative_attention_bias.weight"][buckets(ids.shape[1])]  # mistake: reversed, furthest
        length = len(bias)
        bias = bias.reshape(HEADS, length, length) if wrong("moved") else bias.transpose(2, 0, 1)  # mistake: moved
        for i in range(BLOCKS):
            p = f"blocks.{i}"
            x = x + attention(norm(x, w[f"{p}.layer_norm1.weight"], i), f"{p}.attention", i, bias)
            h = norm(x, w[f"{p}.layer_norm2.weight"], i) @ w[f"{p}.dense.wi.weight"].T
            h = jax.nn.gelu(h) if wrong("gelu", i) else jax.nn.relu(h)  # mistake: gelu
            x = x + h @ w[f"{p}.dense.wo.weight"].T
        last = "blocks.0.layer_norm1" if wrong("other-norm") else "final_layer_norm"  # cause: other-norm
        return norm(x, w[f"{last}.weight"])  # mistake: other-norm

    return forward, module, (integers(seed, TOKENS, (2, 11)),)


PORT = Port(
    "t5-jax",
    make,
    {
        "mean-subtracted@1": ("blocks.1.layer_norm1",),
        "eps": ("blocks.0.layer_norm1",),
        "reversed": ("relative_attention_bias", ""),
        "furthest": ("relative_attention_bias", ""),
        "moved": ("",),
        "scaled-scores": ("blocks.0.attention",),
        "no-position-bias@2": ("blocks.2.attention",),
        "scaled-embedding": ("shared", ""),
        "gelu@1": ("blocks.1.dense.act",),
        "other-norm": ("final_layer_norm",),
    },
    pairs=("gelu@1+no-position-bias@2", "scaled-embedding+moved"),
)

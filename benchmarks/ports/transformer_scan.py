"""The transformer of transformer_torch.py by a scan over stacked layers, with query, key and value fused."""

import functools

import jax
import jax.numpy as jnp

from .corpus import Port, normal, randomised, weights_of
from .transformer_torch import BLOCKS, DIM, HEADS, LENGTH, Transformer


def make(seed, wrong, dtype):
    module = randomised(Transformer(), seed, dtype)
    w = weights_of(module)

    def stack(name):
        layers = [w[f"blocks.{i}.{name}"] for i in range(BLOCKS)]
        layers[3:5] = layers[4:2:-1] if wrong("layers-swapped") else layers[3:5]  # cause: layers-swapped
        return jnp.stack(layers)

    def fuse(kind):
        parts = [stack(f"attn.{part}.{kind}") for part in ("qvk" if wrong("k-and-v") else "qkv")]  # cause: k-and-v
        return jnp.concatenate(parts, 1)

    layers = {name: stack(name) for name in (
        "norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "attn.out.weight", "attn.out.bias",
        "mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight", "mlp.fc2.bias",
    )}  # fmt: skip
    layers |= {"attn.qkv.weight": fuse("weight"), "attn.qkv.bias": fuse("bias")}

    @jax.custom_vjp
    def normalise(x):
        return (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-5)

    def normalise_forward(x):
        y = normalise(x)
        return y, (y, jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-5))

    def normalise_backward(saved, g):
        y, scale = saved
        g = g if wrong("lost-term") else g - y * (g * y).mean(-1, keepdims=True)  # mistake: lost-term
        return ((g - g.mean(-1, keepdims=True)) * scale,)

    normalise.defvjp(normalise_forward, normalise_backward)

    def norm(x, weight, bias):
        return normalise(x) * weight + bias  # mistake: layers-swapped, lost-term

    def attention(x, p):
        batch, length, _ = x.shape
        qkv = x @ p["attn.qkv.weight"].mT + p["attn.qkv.bias"]  # mistake: k-and-v
        q, k, v = qkv.reshape(batch, length, 3, HEADS, -1).transpose(2, 0, 3, 1, 4)
        scale = (DIM if wrong("scale") else DIM // HEADS) ** -0.5  # cause: scale
        scores = jnp.einsum("...qd,...kd->...qk", q, k) * scale  # mistake: scale
        future = jnp.triu(jnp.ones((length, length), bool), 2 if wrong("mask") else 1)  # cause: mask
        scores = jnp.where(future, -jnp.inf, scores)  # mistake: mask
        weights = jax.nn.softmax(scores, axis=-1)
        y = jnp.einsum("...qk,...kd->...qd", weights, v)
        y = (y if wrong("merge") else y.transpose(0, 2, 1, 3)).reshape(batch, length, DIM)  # mistake: merge
        return y @ p["attn.out.weight"].T + p["attn.out.bias"]

    def mlp(x, p):
        h = x @ p["mlp.fc1.weight"].T + p["mlp.fc1.bias"]
        h = jax.nn.gelu(h, approximate=wrong("tanh-gelu"))  # mistake: tanh-gelu
        weight, bias = p["mlp.fc2.weight"], p["mlp.fc2.bias"]
        return h @ weight.T if wrong("no-bias") else h @ weight.T + bias  # mistake: no-bias

    def block(x, p):
        norm1 = functools.partial(norm, weight=p["norm1.weight"], bias=p["norm1.bias"])
        norm2 = functools.partial(norm, weight=p["norm2.weight"], bias=p["norm2.bias"])
        x = norm1(x + attention(x, p)) if wrong("post-norm") else x + attention(norm1(x), p)  # mistake: post-norm
        x = x + mlp(norm2(x), p)
        return x, None

    @jax.jit
    def forward(x):
        x, _ = jax.lax.scan(block, x, layers)
        return norm(x, w["norm.weight"], w["norm.bias"]) @ w["head.weight"].T + w["head.bias"]

    return forward, module, (normal(seed, (2, LENGTH, DIM), dtype, 0.1),)


PORT = Port(
    "transformer-scan",
    make,
    {
        "layers-swapped": ("blocks.3.norm1",),
        "k-and-v": ("blocks.0.attn.k", "blocks.0.attn"),
        "lost-term": ("norm", "blocks.11"),
        "scale": ("blocks.0.attn",),
        "mask": ("blocks.0.attn",),
        "merge": ("blocks.0.attn",),
        "tanh-gelu": ("blocks.0.mlp.act",),
        "no-bias": ("blocks.0.mlp.fc2",),
        "post-norm": ("blocks.0.norm1", "blocks.0"),
    },
    gradients_only=frozenset({"lost-term"}),
    pairs=("tanh-gelu+layers-swapped",),
)

"""The transformer of transformer_torch.py in plain JAX: functions over a dictionary of torch's weights."""

import math

import jax
import jax.numpy as jnp

from .corpus import Port, normal, randomised, weights_of
from .transformer_torch import BLOCKS, DIM, HEADS, LENGTH, Transformer


def make(seed, wrong, dtype):
    module = randomised(Transformer(), seed, dtype)
    w = weights_of(module)

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x, name, i=None):
        mean = x.mean(-1, keepdims=True)
        variance = x.var(-1, keepdims=True, ddof=1 if wrong("ddof", i) else 0)  # mistake: ddof
        y = (x - mean) / jnp.sqrt(variance + (1e-6 if wrong("eps", i) else 1e-5))  # mistake: eps
        return y * w[f"{name}.weight"] + w[f"{name}.bias"]  # mistake: layers-swapped

    def attention(x, name, i):
        batch, length, _ = x.shape
        q, k, v = (linear(x, f"{name}.{part}").reshape(batch, length, HEADS, -1).swapaxes(1, 2) for part in "qkv")
        k = k.at[:, 1].set(q[:, 1]) if wrong("q-for-k", i) else k  # mistake: q-for-k
        scores = q @ k.mT if wrong("unscaled", i) else q @ k.mT / math.sqrt(q.shape[-1])  # mistake: unscaled
        diagonal = 1 if wrong("mask", i) else -1 if wrong("nan", i) else 0  # cause: mask, nan
        scores = jnp.where(jnp.tri(length, k=diagonal, dtype=bool), scores, -jnp.inf)  # mistake: mask, nan
        y = jax.nn.softmax(scores, -2 if wrong("softmax-axis", i) else -1) @ v  # mistake: softmax-axis
        y = (y if wrong("merge", i) else y.swapaxes(1, 2)).reshape(batch, length, DIM)  # mistake: merge
        weight, bias = w[f"{name}.out.weight"], w[f"{name}.out.bias"]
        return y @ (weight if wrong("untransposed", i) else weight.T) + bias  # mistake: untransposed

    def mlp(x, name, i):
        weight, bias = w[f"{name}.fc1.weight"], w[f"{name}.fc1.bias"]
        h = x @ weight.T if wrong("no-bias", i) else x @ weight.T + bias  # mistake: no-bias
        h = jax.nn.gelu(h, approximate=wrong("tanh-gelu", i))  # mistake: tanh-gelu
        precision = jnp.bfloat16 if wrong("bfloat16", i) else h.dtype  # cause: bfloat16
        weight, bias = w[f"{name}.fc2.weight"].astype(precision), w[f"{name}.fc2.bias"]
        return (h.astype(precision) @ weight.T).astype(x.dtype) + bias  # mistake: bfloat16

    def forward(x):
        order = list(range(BLOCKS))
        order[3:5] = (4, 3) if wrong("layers-swapped") else (3, 4)  # cause: layers-swapped
        for i, place in enumerate(order):
            name = f"blocks.{place}"
            h = attention(norm(x, f"{name}.norm1", i), f"{name}.attn", i)
            h = jax.lax.stop_gradient(h) if wrong("stop-gradient", i) else h  # mistake: stop-gradient
            x = x - h if wrong("minus", i) else x + h  # mistake: minus
            h = mlp(norm(x, f"{name}.norm2", i), f"{name}.mlp", i)
            x = x + 1.01 * h if wrong("factor", i) else x + h  # mistake: factor
        y = linear(x if wrong("no-last-norm") else norm(x, "norm"), "head")  # mistake: no-last-norm
        return y.astype(jnp.float16) if wrong("float16") else y  # mistake: float16

    return forward, module, (normal(seed, (2, LENGTH, DIM), dtype, 0.1),)


PORT = Port(
    "transformer-jax",
    make,
    {
        "ddof": ("blocks.0.norm1",),
        "ddof@6": ("blocks.6.norm1",),
        "eps": ("blocks.0.norm1",),
        "eps@0": ("blocks.0.norm1",),
        "layers-swapped": ("blocks.3.norm1",),
        "q-for-k@4": ("blocks.4.attn",),
        "unscaled": ("blocks.0.attn",),
        "unscaled@7": ("blocks.7.attn",),
        "mask": ("blocks.0.attn",),
        "nan": ("blocks.0.attn",),
        "softmax-axis@1": ("blocks.1.attn",),
        "merge@0": ("blocks.0.attn",),
        "untransposed@2": ("blocks.2.attn.out",),
        "no-bias@10": ("blocks.10.mlp.fc1",),
        "tanh-gelu": ("blocks.0.mlp.act",),
        "tanh-gelu@2": ("blocks.2.mlp.act",),
        "bfloat16@5": ("blocks.5.mlp.fc2",),
        "stop-gradient@9": ("blocks.9.attn", "blocks.9"),
        "minus@8": ("blocks.8",),
        "factor@5": ("blocks.5",),
        "no-last-norm": ("norm", ""),
        "float16": ("",),
    },
    gradients_only=frozenset({"stop-gradient@9"}),
    pairs=("tanh-gelu@2+unscaled@7", "softmax-axis@1+no-bias@10", "untransposed@2+factor@5"),
)

"""The transformer of transformer_torch.py as modules of Flax NNX, with heads as axes of the projections."""

import functools

import jax.numpy as jnp
from flax import nnx

from .corpus import Port, normal, randomised, weights_of
from .transformer_torch import BLOCKS, DIM, HEADS, HIDDEN, LENGTH, OUT, Transformer

# Weights are put in afterwards, and random ones would take time.
LinearGeneral = functools.partial(nnx.LinearGeneral, kernel_init=nnx.initializers.zeros)
Linear = functools.partial(nnx.Linear, kernel_init=nnx.initializers.zeros)


class Attention(nnx.Module):
    def __init__(self, index, wrong, rngs):
        heads = (HEADS, DIM // HEADS)
        self.q = LinearGeneral(DIM, heads, rngs=rngs)
        self.k = LinearGeneral(DIM, heads, rngs=rngs)
        self.v = LinearGeneral(DIM, heads, rngs=rngs)
        self.out = LinearGeneral(heads, DIM, axis=(-2, -1), rngs=rngs)
        self.index, self.wrong = index, wrong

    def __call__(self, x):
        wrong, i = self.wrong, self.index
        q, k, v = self.q(x), self.k(x), self.v(x)
        q = q if wrong("unscaled", i) else q / jnp.sqrt(q.shape[-1]).astype(q.dtype)  # mistake: unscaled
        scores = jnp.einsum("bqhd,bkhd->bhqk", k if wrong("k-for-q", i) else q, k)  # mistake: k-for-q
        mask = jnp.tril(jnp.ones(scores.shape[-2:], bool), 1 if wrong("mask", i) else 0)  # cause: mask
        scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)  # mistake: mask
        weights = nnx.softmax(scores, axis=1 if wrong("softmax-axis", i) else -1)  # mistake: softmax-axis
        y = jnp.einsum("bhqk,bkhd->bqhd", weights, v)
        return self.out(y[:, :, ::-1] if wrong("heads-reversed", i) else y)  # mistake: heads-reversed


class MLP(nnx.Module):
    def __init__(self, index, wrong, rngs):
        self.fc1, self.fc2 = Linear(DIM, HIDDEN, rngs=rngs), Linear(HIDDEN, DIM, rngs=rngs)
        self.index, self.wrong = index, wrong

    def __call__(self, x):
        h = self.fc1(x)  # mistake: no-bias
        h = nnx.gelu(h, approximate=self.wrong("tanh-gelu", self.index))  # mistake: tanh-gelu
        return self.fc2(h)


class Block(nnx.Module):
    def __init__(self, index, wrong, rngs):
        epsilon = 1e-6 if wrong("eps", index) else 1e-5  # cause: eps
        self.norm1 = nnx.LayerNorm(DIM, epsilon=epsilon, rngs=rngs)
        self.norm2 = nnx.LayerNorm(DIM, epsilon=epsilon, rngs=rngs)
        self.attn, self.mlp = Attention(index, wrong, rngs), MLP(index, wrong, rngs)
        self.index, self.wrong = index, wrong

    def __call__(self, x):
        wrong, i = self.wrong, self.index
        h = self.norm1(x)  # mistake: eps
        x = self.attn(h) if wrong("no-residual", i) else x + self.attn(h)  # mistake: no-residual
        h = self.norm2(x + self.mlp(x)) if wrong("post-norm", i) else x + self.mlp(self.norm2(x))  # mistake: post-norm
        return h


class JaxTransformer(nnx.Module):
    def __init__(self, wrong, rngs):
        self.blocks = nnx.List([Block(i, wrong, rngs) for i in range(BLOCKS)])
        self.norm = nnx.LayerNorm(DIM, epsilon=1e-5, rngs=rngs)
        self.head = Linear(DIM, OUT, rngs=rngs)
        self.wrong = wrong

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        y = self.head(self.norm(x))
        return y[:, 1:] if self.wrong("short") else y  # mistake: short


def load(model, w, wrong):
    """Put torch's weights into a model."""

    def linear(layer, name, bias=True):
        layer.kernel = nnx.Param(w[f"{name}.weight"].T.reshape(layer.kernel.shape))
        layer.bias = nnx.Param(w[f"{name}.bias"].reshape(layer.bias.shape) * bias)

    def norm(layer, name):
        layer.scale, layer.bias = nnx.Param(w[f"{name}.weight"]), nnx.Param(w[f"{name}.bias"])

    for i, block in enumerate(model.blocks):
        norm(block.norm1, f"blocks.{i}.norm1")
        norm(block.norm2, f"blocks.{i}.norm2")
        for part in ("q", "k", "v", "out"):
            linear(getattr(block.attn, part), f"blocks.{i}.attn.{part}")
        linear(block.mlp.fc1, f"blocks.{i}.mlp.fc1", bias=not wrong("no-bias", i))  # cause: no-bias
        linear(block.mlp.fc2, f"blocks.{i}.mlp.fc2")
    norm(model.norm, "norm")
    linear(model.head, "head")


def make(seed, wrong, dtype):
    module = randomised(Transformer(), seed, dtype)
    model = JaxTransformer(wrong, nnx.Rngs(0))
    load(model, weights_of(module), wrong)
    return model, module, (normal(seed, (2, LENGTH, DIM), dtype, 0.1),)


PORT = Port(
    "transformer-nnx",
    make,
    {
        "unscaled@0": ("blocks.0.attn",),
        "k-for-q@11": ("blocks.11.attn",),
        "mask@3": ("blocks.3.attn",),
        "softmax-axis": ("blocks.0.attn",),
        "heads-reversed@6": ("blocks.6.attn",),
        "no-bias@0": ("blocks.0.mlp.fc1",),
        "tanh-gelu": ("blocks.0.mlp.act",),
        "tanh-gelu@8": ("blocks.8.mlp.act",),
        "eps": ("blocks.0.norm1",),
        "no-residual@4": ("blocks.4",),
        "post-norm": ("blocks.0.norm2", "blocks.0"),
        "short": ("",),
    },
    pairs=("mask@3+tanh-gelu@8", "no-bias@0+k-for-q@11"),
)

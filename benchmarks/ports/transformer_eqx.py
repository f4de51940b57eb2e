"""The transformer of transformer_torch.py as modules of Equinox, written for one sequence."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp

from .corpus import Port, Wrong, normal, randomised, weights_of
from .transformer_torch import BLOCKS, DIM, HEADS, LENGTH, Transformer


def linear(w, name):
    weight, bias = w[f"{name}.weight"], w[f"{name}.bias"]
    layer = eqx.filter_eval_shape(eqx.nn.Linear, weight.shape[1], weight.shape[0], key=jax.random.key(0))
    return eqx.tree_at(lambda layer: (layer.weight, layer.bias), layer, (weight, bias))


def layer_norm(w, name, eps=1e-5):
    layer = eqx.nn.LayerNorm(DIM, eps=eps)
    return eqx.tree_at(lambda layer: (layer.weight, layer.bias), layer, (w[f"{name}.weight"], w[f"{name}.bias"]))


class Attention(eqx.Module):
    q: eqx.nn.Linear
    k: eqx.nn.Linear
    v: eqx.nn.Linear
    out: eqx.nn.Linear
    index: int = eqx.field(static=True)
    wrong: Wrong = eqx.field(static=True)

    def __init__(self, w, name, index, wrong):
        first, second = ("k", "q") if wrong("q-and-k", index) else ("q", "k")  # cause: q-and-k
        self.q, self.k = linear(w, f"{name}.{first}"), linear(w, f"{name}.{second}")
        self.v, self.out = linear(w, f"{name}.v"), linear(w, f"{name}.out")
        self.index, self.wrong = index, wrong

    def __call__(self, x):
        length, wrong, i = len(x), self.wrong, self.index
        q = jax.vmap(self.q)(x).reshape(length, HEADS, -1)  # mistake: q-and-k
        k = jax.vmap(self.k)(x).reshape(length, HEADS, -1)
        v = jax.vmap(self.v)(x).reshape(length, HEADS, -1)
        scores = jnp.einsum("qhd,khd->hqk", q, k)
        scores = scores if wrong("unscaled", i) else scores / math.sqrt(q.shape[-1])  # mistake: unscaled
        mask = jnp.arange(length)[:, None] >= jnp.arange(length)[None]
        scores = scores if wrong("no-mask", i) else jnp.where(mask, scores, -jnp.inf)  # mistake: no-mask
        weights = jax.nn.softmax(scores, axis=-2 if wrong("softmax-axis", i) else -1)  # mistake: softmax-axis, no-mask
        y = jnp.einsum("hqk,khd->hqd" if wrong("merge", i) else "hqk,khd->qhd", weights, v)  # mistake: merge
        return jax.vmap(self.out)(y.reshape(length, DIM))


class MLP(eqx.Module):
    fc1: eqx.nn.Linear
    fc2: eqx.nn.Linear
    index: int = eqx.field(static=True)
    wrong: Wrong = eqx.field(static=True)

    def __call__(self, x):
        h = jax.nn.gelu(self.fc1(x), approximate=self.wrong("tanh-gelu", self.index))  # mistake: tanh-gelu
        y = self.fc2(h)
        return y * 0.98 if self.wrong("factor", self.index) else y  # mistake: factor


class Block(eqx.Module):
    norm1: eqx.nn.LayerNorm
    norm2: eqx.nn.LayerNorm
    attn: Attention
    mlp: MLP
    index: int = eqx.field(static=True)
    wrong: Wrong = eqx.field(static=True)

    def __init__(self, w, name, index, wrong):
        eps = 1e-6 if wrong("eps", index) else 1e-5  # cause: eps
        first, second = (2, 1) if wrong("norms-swapped", index) else (1, 2)  # cause: norms-swapped
        self.norm1, self.norm2 = layer_norm(w, f"{name}.norm{first}", eps), layer_norm(w, f"{name}.norm{second}", eps)
        self.attn = Attention(w, f"{name}.attn", index, wrong)
        self.mlp = MLP(linear(w, f"{name}.mlp.fc1"), linear(w, f"{name}.mlp.fc2"), index, wrong)
        self.index, self.wrong = index, wrong

    def __call__(self, x):
        h = self.attn(jax.vmap(self.norm1)(x))  # mistake: eps, norms-swapped
        x = x + h
        h = jax.vmap(self.mlp)(jax.vmap(self.norm2)(x))
        h = jax.lax.stop_gradient(h) if self.wrong("stop-gradient", self.index) else h  # mistake: stop-gradient
        return h if self.wrong("no-residual", self.index) else x + h  # mistake: no-residual


class JaxTransformer(eqx.Module):
    blocks: list[Block]
    norm: eqx.nn.LayerNorm
    head: eqx.nn.Linear
    wrong: Wrong = eqx.field(static=True)

    def one(self, x):
        for block in self.blocks:
            x = block(x)
        x = x if self.wrong("no-last-norm") else jax.vmap(self.norm)(x)  # mistake: no-last-norm
        return jax.vmap(self.head)(x)  # mistake: no-last-norm

    def __call__(self, x):
        return jax.vmap(self.one)(x)


def make(seed, wrong, dtype):
    module = randomised(Transformer(), seed, dtype)
    w = weights_of(module)
    blocks = [Block(w, f"blocks.{i}", i, wrong) for i in range(BLOCKS)]
    model = JaxTransformer(blocks, layer_norm(w, "norm"), linear(w, "head"), wrong)
    return model, module, (normal(seed, (2, LENGTH, DIM), dtype, 0.1),)


PORT = Port(
    "transformer-eqx",
    make,
    {
        "q-and-k@2": ("blocks.2.attn.q", "blocks.2.attn"),
        "unscaled@5": ("blocks.5.attn",),
        "no-mask": ("blocks.0.attn",),
        "softmax-axis@9": ("blocks.9.attn",),
        "merge@3": ("blocks.3.attn",),
        "tanh-gelu": ("blocks.0.mlp.act",),
        "tanh-gelu@10": ("blocks.10.mlp.act",),
        "factor@6": ("blocks.6.mlp.fc2", "blocks.6.mlp"),
        "eps": ("blocks.0.norm1",),
        "norms-swapped@7": ("blocks.7.norm1",),
        "stop-gradient@1": ("blocks.1.mlp", "blocks.1"),
        "no-residual@8": ("blocks.8",),
        "no-last-norm": ("norm", ""),
    },
    gradients_only=frozenset({"stop-gradient@1"}),
    pairs=("q-and-k@2+no-residual@8", "factor@6+tanh-gelu@10"),
)

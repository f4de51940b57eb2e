"""A vision transformer with patches, class token and table of positions; as modules of Equinox for one image."""

import equinox as eqx
import jax
import jax.numpy as jnp
import torch
from torch import nn

from .corpus import Port, Wrong, normal, randomised, weights_of

SIZE, PATCH, DIM, HEADS, BLOCKS, CLASSES = 12, 4, 24, 3, 3, 5
PATCHES = (SIZE // PATCH) ** 2


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.proj = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)

    def forward(self, x):
        batch, length, _ = x.shape
        q, k, v = self.qkv(x).reshape(batch, length, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        weights = ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(batch, length, DIM))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.attn, self.norm2 = nn.LayerNorm(DIM, 1e-6), Attention(), nn.LayerNorm(DIM, 1e-6)
        self.mlp = nn.Sequential(nn.Linear(DIM, 2 * DIM), nn.GELU(), nn.Dropout(0.1), nn.Linear(2 * DIM, DIM))

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, DIM, PATCH, PATCH)
        self.token = nn.Parameter(torch.zeros(1, 1, DIM))
        self.positions = nn.Parameter(torch.zeros(1, PATCHES + 1, DIM))
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.norm, self.head = nn.LayerNorm(DIM, 1e-6), nn.Linear(DIM, CLASSES)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


def linear(w, name):
    weight = w[f"{name}.weight"]
    layer = eqx.filter_eval_shape(eqx.nn.Linear, weight.shape[1], weight.shape[0], key=jax.random.key(0))
    return eqx.tree_at(lambda layer: (layer.weight, layer.bias), layer, (weight, w[f"{name}.bias"]))


def layer_norm(w, name, eps=1e-6):
    layer = eqx.nn.LayerNorm(DIM, eps=eps)
    return eqx.tree_at(lambda layer: (layer.weight, layer.bias), layer, (w[f"{name}.weight"], w[f"{name}.bias"]))


class JaxBlock(eqx.Module):
    norm1: eqx.nn.LayerNorm
    norm2: eqx.nn.LayerNorm
    qkv: eqx.nn.Linear
    proj: eqx.nn.Linear
    fc1: eqx.nn.Linear
    fc2: eqx.nn.Linear
    index: int = eqx.field(static=True)
    wrong: Wrong = eqx.field(static=True)

    def __init__(self, w, index, wrong):
        p = f"blocks.{index}"
        eps = 1e-5 if wrong("eps", index) else 1e-6  # cause: eps
        self.norm1, self.norm2 = layer_norm(w, f"{p}.norm1", eps), layer_norm(w, f"{p}.norm2", eps)
        self.qkv, self.proj = linear(w, f"{p}.attn.qkv"), linear(w, f"{p}.attn.proj")
        self.fc1, self.fc2 = linear(w, f"{p}.mlp.0"), linear(w, f"{p}.mlp.3")
        self.index, self.wrong = index, wrong

    def attention(self, x):
        wrong, i = self.wrong, self.index
        qkv = jax.vmap(self.qkv)(x)
        if wrong("qkv-order", i):
            q, k, v = qkv.reshape(len(x), HEADS, 3, -1).transpose(2, 1, 0, 3)  # mistake: qkv-order
        else:
            q, k, v = qkv.reshape(len(x), 3, HEADS, -1).transpose(1, 2, 0, 3)
        scores = jnp.einsum("hqd,hkd->hqk", q, k)
        scores = scores / DIM**0.5 if wrong("scale", i) else scores / (DIM // HEADS) ** 0.5  # mistake: scale
        weights = jax.nn.softmax(scores, axis=-2 if wrong("softmax-axis", i) else -1)  # mistake: softmax-axis
        y = jnp.einsum("hqk,hkd->qhd", weights, v).reshape(len(x), DIM)
        return jax.vmap(self.proj)(y)

    def mlp(self, x):
        x = jax.nn.gelu(self.fc1(x), approximate=self.wrong("tanh-gelu", self.index))  # mistake: tanh-gelu
        x = x * 0.9 if self.wrong("dropout", self.index) else x  # mistake: dropout
        return self.fc2(x)

    def __call__(self, x):
        x = x + self.attention(jax.vmap(self.norm1)(x))  # mistake: eps
        return x + jax.vmap(self.mlp)(jax.vmap(self.norm2)(x))


class JaxViT(eqx.Module):
    patches: eqx.nn.Conv2d
    token: jax.Array
    positions: jax.Array
    blocks: list[JaxBlock]
    norm: eqx.nn.LayerNorm
    head: eqx.nn.Linear
    wrong: Wrong = eqx.field(static=True)

    def one(self, x):
        wrong = self.wrong
        x = self.patches(x.swapaxes(1, 2) if wrong("image-turned") else x)  # mistake: image-turned
        x = x.reshape(PATCHES, DIM) if wrong("reshaped") else x.reshape(DIM, PATCHES).T  # mistake: reshaped
        x = jnp.concatenate([x, self.token] if wrong("token-last") else [self.token, x])  # mistake: token-last
        x = x + (jnp.roll(self.positions, 1, 0) if wrong("off-by-one") else self.positions)  # mistake: off-by-one
        for block in self.blocks:
            x = block(x)
        x = jax.vmap(self.norm)(x)
        x = x.mean(0) if wrong("mean") else x[-1] if wrong("last") else x[0]  # mistake: mean, last
        return self.head(x)

    def __call__(self, x):
        return jax.vmap(self.one)(x)


def make(seed, wrong, dtype):
    module = randomised(ViT(), seed, dtype)
    w = weights_of(module)
    patches = eqx.filter_eval_shape(eqx.nn.Conv2d, 3, DIM, PATCH, PATCH, key=jax.random.key(0))
    bias = w["patches.bias"][:, None, None]
    patches = eqx.tree_at(lambda layer: (layer.weight, layer.bias), patches, (w["patches.weight"], bias))
    blocks = [JaxBlock(w, i, wrong) for i in range(BLOCKS)]
    last = (layer_norm(w, "norm"), linear(w, "head"), wrong)
    model = JaxViT(patches, w["token"][0], w["positions"][0], blocks, *last)
    return model, module, (normal(seed, (2, 3, SIZE, SIZE), dtype, 0.2),)


PORT = Port(
    "vit-eqx",
    make,
    {
        "eps@0": ("blocks.0.norm1",),
        "qkv-order@1": ("blocks.1.attn",),
        "scale@0": ("blocks.0.attn",),
        "softmax-axis@2": ("blocks.2.attn",),
        "tanh-gelu@1": ("blocks.1.mlp.1",),
        "dropout@2": ("blocks.2.mlp.2", "blocks.2.mlp"),
        "image-turned": ("patches",),
        "reshaped": ("",),
        "token-last": ("",),
        "off-by-one": ("",),
        "mean": ("",),
        "last": ("",),
    },
    pairs=("scale@0+dropout@2", "off-by-one+tanh-gelu@1"),
)

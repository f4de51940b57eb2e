"""An MLP-Mixer over rows of numbers as modules of Flax NNX: layers along the length and along the channels in turn."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from torch import nn

from .corpus import Port, normal, randomised, weights_of

LENGTH, DIM, BLOCKS, CLASSES = 12, 12, 4, 3

# Weights are put in afterwards, and random ones would take time.
Linear = functools.partial(nnx.Linear, kernel_init=nnx.initializers.zeros)


class Layers(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(DIM, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, DIM)

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.tokens = nn.LayerNorm(DIM), Layers(10)
        self.norm2, self.channels = nn.LayerNorm(DIM), Layers(20)

    def forward(self, x):
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


class Mixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))
        self.norm, self.head, self.last = nn.LayerNorm(DIM), nn.Linear(DIM, CLASSES), nn.Softmax(-1)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.last(self.head(self.norm(x).mean(1)))


class JaxLayers(nnx.Module):
    def __init__(self, hidden, i, wrong, rngs):
        self.fc1, self.fc2 = Linear(DIM, hidden, rngs=rngs), Linear(hidden, DIM, rngs=rngs)
        self.i, self.wrong = i, wrong

    def __call__(self, x):
        h = nnx.gelu(self.fc1(x), approximate=not self.wrong("exact-gelu", self.i))  # mistake: exact-gelu
        return self.fc2(h)


class JaxBlock(nnx.Module):
    def __init__(self, i, wrong, rngs):
        epsilon = 1e-6 if wrong("eps", i) else 1e-5  # cause: eps
        self.norm1, self.norm2 = (nnx.LayerNorm(DIM, epsilon=epsilon, rngs=rngs) for _ in range(2))
        self.tokens, self.channels = JaxLayers(10, i, wrong, rngs), JaxLayers(20, i, wrong, rngs)
        self.i, self.wrong = i, wrong

    def __call__(self, x):
        wrong, i = self.wrong, self.i
        h = self.norm1(x)  # mistake: eps
        h = self.tokens(h if wrong("not-turned", i) else h.mT)  # mistake: not-turned
        h = h if wrong("not-turned", i) else h.mT
        x = x + (h.mT if wrong("not-turned-back", i) else h)  # mistake: not-turned-back
        h = self.norm2(x)
        y = self.channels(h)
        return h + y if wrong("residual-after-norm", i) else x + y  # mistake: residual-after-norm


class JaxMixer(nnx.Module):
    def __init__(self, wrong, rngs):
        self.blocks = nnx.List([JaxBlock(i, wrong, rngs) for i in range(BLOCKS)])
        self.norm, self.head = nnx.LayerNorm(DIM, epsilon=1e-5, rngs=rngs), Linear(DIM, CLASSES, rngs=rngs)
        self.wrong = wrong

    def __call__(self, x):
        for i, block in enumerate(self.blocks):
            x = block(block(x) if self.wrong("twice", i) else x)  # mistake: twice
        y = self.norm(x).max(1) if self.wrong("max") else self.norm(x).mean(1)  # mistake: max
        y = self.head(y)
        precision = jnp.bfloat16 if self.wrong("bfloat16") else y.dtype  # cause: bfloat16
        return jax.nn.softmax(y.astype(precision)).astype(y.dtype)  # mistake: bfloat16


def make(seed, wrong, dtype):
    module = randomised(Mixer(), seed, dtype)
    w = weights_of(module)
    model = JaxMixer(wrong, nnx.Rngs(0))

    def linear(layer, name):
        layer.kernel, layer.bias = nnx.Param(w[f"{name}.weight"].T), nnx.Param(w[f"{name}.bias"])

    def norm(layer, name):
        layer.scale, layer.bias = nnx.Param(w[f"{name}.weight"]), nnx.Param(w[f"{name}.bias"])

    for i, block in enumerate(model.blocks):
        norm(block.norm1, f"blocks.{i}.norm1")
        norm(block.norm2, f"blocks.{i}.norm2")
        for part in ("tokens", "channels"):
            linear(getattr(block, part).fc1, f"blocks.{i}.{part}.fc1")
            linear(getattr(block, part).fc2, f"blocks.{i}.{part}.fc2")
    norm(model.norm, "norm")
    linear(model.head, "head")
    return model, module, (normal(seed, (2, LENGTH, DIM), dtype, 0.1),)


PORT = Port(
    "mixer-nnx",
    make,
    {
        "exact-gelu": ("blocks.0.tokens.act",),
        "exact-gelu@3": ("blocks.3.tokens.act",),
        "eps": ("blocks.0.norm1",),
        "not-turned@1": ("blocks.1.tokens.fc1", "blocks.1"),
        "not-turned-back@2": ("blocks.2",),
        "residual-after-norm@3": ("blocks.3",),
        "twice@2": ("blocks.2.norm1", "blocks.2", ""),
        "max": ("",),
        "bfloat16": ("last",),
    },
    pairs=("not-turned-back@2+bfloat16", "exact-gelu@3+max"),
)

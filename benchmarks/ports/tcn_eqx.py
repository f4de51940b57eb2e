"""A net of dilated causal convolutions over sound, with gates and a PReLU, as modules of Equinox for one recording."""

import equinox as eqx
import jax
import jax.numpy as jnp
import torch.nn.functional as F
from torch import nn

from .corpus import Port, Wrong, normal, randomised, weights_of

CHANNELS, BLOCKS, LENGTH = 6, 4, 20


class Causal(nn.Module):
    def __init__(self, dilation):
        super().__init__()
        self.dilation = dilation
        self.conv, self.glu = nn.Conv1d(CHANNELS, 2 * CHANNELS, 2, dilation=dilation), nn.GLU(1)
        self.mix, self.act = nn.Conv1d(CHANNELS, CHANNELS, 1), nn.PReLU(CHANNELS)

    def forward(self, x):
        h = self.glu(self.conv(F.pad(x, (self.dilation, 0))))
        return x + self.act(self.mix(h))


class TCN(nn.Module):
    def __init__(self):
        super().__init__()
        self.enter = nn.Conv1d(1, CHANNELS, 3, padding=1)
        self.blocks = nn.Sequential(*(Causal(2**i) for i in range(BLOCKS)))
        self.norm = nn.InstanceNorm1d(CHANNELS, affine=True)
        self.act, self.leave = nn.Hardswish(), nn.Conv1d(CHANNELS, 1, 1)

    def forward(self, x):
        x = self.blocks(self.enter(x.unsqueeze(1)))
        return self.leave(self.act(self.norm(x))).squeeze(1).clamp(-1.5, 1.5)


def conv(w, name, size, **options):
    weight = w[f"{name}.weight"]
    layer = eqx.filter_eval_shape(
        eqx.nn.Conv1d, weight.shape[1], weight.shape[0], size, **options, key=jax.random.key(0)
    )
    return eqx.tree_at(lambda layer: (layer.weight, layer.bias), layer, (weight, w[f"{name}.bias"][:, None]))


class JaxCausal(eqx.Module):
    conv: eqx.nn.Conv1d
    mix: eqx.nn.Conv1d
    slope: jax.Array
    i: int = eqx.field(static=True)
    wrong: Wrong = eqx.field(static=True)

    def __init__(self, w, i, wrong):
        dilation = 1 if wrong("dilation", i) else 2**i  # cause: dilation
        self.conv = conv(w, f"blocks.{i}.conv", 2, dilation=dilation)
        self.mix, self.slope = conv(w, f"blocks.{i}.mix", 1), w[f"blocks.{i}.act.weight"]
        self.i, self.wrong = i, wrong

    def __call__(self, x):
        wrong, i = self.wrong, self.i
        before = self.conv.dilation[0]
        padding = (0, before) if wrong("future", i) else (before, 0)  # cause: future
        h = jnp.pad(x, ((0, 0), padding))  # mistake: future
        h = self.conv(h)  # mistake: dilation
        a, b = jnp.split(h, 2, 0)
        h = jax.nn.sigmoid(a) * b if wrong("halves", i) else a * jax.nn.sigmoid(b)  # mistake: halves
        h = self.mix(h)
        slope = self.slope.mean() if wrong("one-slope", i) else self.slope[:, None]  # cause: one-slope
        h = jnp.where(h > 0, h, slope * h)  # mistake: one-slope
        return x + (jax.lax.stop_gradient(h) if wrong("stop-gradient", i) else h)  # mistake: stop-gradient


class JaxTCN(eqx.Module):
    enter: eqx.nn.Conv1d
    blocks: list[JaxCausal]
    scale: jax.Array
    bias: jax.Array
    leave: eqx.nn.Conv1d
    wrong: Wrong = eqx.field(static=True)

    def one(self, x):
        wrong = self.wrong
        x = self.enter(x[None])
        for block in self.blocks:
            x = block(x)
        axes = (0, 1) if wrong("over-channels") else 1  # cause: over-channels
        x = (x - x.mean(axes, keepdims=True)) / jnp.sqrt(x.var(axes, keepdims=True) + 1e-5)  # mistake: over-channels
        x = x * self.scale[:, None] + self.bias[:, None]
        x = jax.nn.silu(x) if wrong("silu") else jax.nn.hard_swish(x)  # mistake: silu
        x = self.leave(x)[0]
        return jnp.tanh(x) if wrong("tanh") else jnp.clip(x, -1.5, 1.5)  # mistake: tanh

    def __call__(self, x):
        return jax.vmap(self.one)(x)


def make(seed, wrong, dtype):
    module = randomised(TCN(), seed, dtype)
    w = weights_of(module)
    blocks = [JaxCausal(w, i, wrong) for i in range(BLOCKS)]
    enter, leave = conv(w, "enter", 3, padding=1), conv(w, "leave", 1)
    model = JaxTCN(enter, blocks, w["norm.weight"], w["norm.bias"], leave, wrong)
    return model, module, (normal(seed, (2, LENGTH), dtype),)


PORT = Port(
    "tcn-eqx",
    make,
    {
        "dilation@3": ("blocks.3.conv",),
        "future@1": ("blocks.1.conv", "blocks.1"),
        "halves@2": ("blocks.2.glu",),
        "one-slope@0": ("blocks.0.act",),
        "stop-gradient@2": ("blocks.2.act", "blocks.2"),
        "over-channels": ("norm",),
        "silu": ("act",),
        "tanh": ("",),
    },
    gradients_only=frozenset({"stop-gradient@2"}),
    pairs=("halves@2+silu",),
)

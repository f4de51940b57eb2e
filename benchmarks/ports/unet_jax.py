"""The U-Net of unet_torch.py in plain JAX, with channels first as in torch."""

import jax
import jax.numpy as jnp
from jax import lax

from .corpus import Port, normal, randomised, weights_of
from .unet_torch import TIME, UNet


def make(seed, wrong, dtype):
    module = randomised(UNet(), seed, dtype)
    w = weights_of(module)

    def conv(x, name, stride=1):
        weight, bias = w[f"{name}.weight"], w[f"{name}.bias"]
        padding = [(weight.shape[-1] // 2,) * 2] * 2
        return lax.conv_general_dilated(x, weight, (stride, stride), padding) + bias[:, None, None]

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def group_norm(x, name, groups, eps=1e-5):
        batch, channels, *_ = x.shape
        if wrong("groups-interleaved"):
            h = x.reshape(batch, channels // groups, groups, -1).swapaxes(1, 2)  # mistake: groups-interleaved
        else:
            h = x.reshape(batch, groups, channels // groups, -1)
        mean = h.mean((2, 3), keepdims=True)
        variance = h.var((2, 3), keepdims=True, ddof=1 if wrong("ddof") else 0)  # mistake: ddof
        h = (h - mean) / jnp.sqrt(variance + eps)
        h = h.swapaxes(1, 2) if wrong("groups-interleaved") else h
        return h.reshape(x.shape) * w[f"{name}.weight"][:, None, None] + w[f"{name}.bias"][:, None, None]

    def residual(x, t, name):
        h = jax.nn.silu(group_norm(x, f"{name}.norm1", 4))
        h = conv(h, f"{name}.conv1")
        time = linear(t if wrong("no-time-act", name) else jax.nn.silu(t), f"{name}.time")  # mistake: no-time-act
        h = h + time[:, :, None, None]
        groups = 4 if wrong("groups", name) else 2  # cause: groups
        h = group_norm(h, f"{name}.norm2", groups)  # mistake: groups
        h = jax.nn.relu(h) if wrong("relu-for-silu", name) else jax.nn.silu(h)  # mistake: relu-for-silu
        h = conv(h, f"{name}.conv2")
        x = conv(x, f"{name}.skip") if f"{name}.skip.weight" in w else x
        return h if wrong("no-residual", name) else x + h  # mistake: no-residual

    def upsample(x):
        batch, channels, height, width = x.shape
        if wrong("bilinear"):
            return jax.image.resize(x, (batch, channels, 2 * height, 2 * width), "bilinear")  # mistake: bilinear
        if wrong("tiled"):
            return jnp.tile(x, (1, 1, 2, 2))  # mistake: tiled
        return x.repeat(2, 2).repeat(2, 3)

    def forward(x, t):
        frequencies = 100.0 ** -(jnp.arange(TIME // 2).astype(x.dtype) / (TIME // 2))
        angles = t[:, None] * frequencies
        parts = [jnp.sin(angles), jnp.cos(angles)]
        t = jnp.concatenate(parts[::-1] if wrong("sin-and-cos") else parts, -1)  # mistake: sin-and-cos
        t = linear(jax.nn.silu(linear(t, "time1")), "time2")
        x = first = residual(conv(x, "enter"), t, "down1")
        x = residual(conv(x, "pool", 2), t, "down2")
        x = upsample(residual(x, t, "middle"))
        x = jnp.concatenate([first, x] if wrong("concatenated") else [x, first], 1)  # mistake: concatenated
        x = residual(x, t, "up1")
        return conv(jax.nn.silu(group_norm(x, "norm", 4, eps=1e-6)), "leave")

    t = normal(seed, (2,), "float32", 2.0)
    return forward, module, (normal(seed, (2, 2, 8, 8), dtype), abs(t).astype(jnp.dtype(dtype)))


PORT = Port(
    "unet-jax",
    make,
    {
        "groups-interleaved": ("down1.norm1",),
        "ddof": ("down1.norm1",),
        "no-time-act@down2": ("down2",),
        "groups@middle": ("middle.norm2",),
        "relu-for-silu@down1": ("down1",),
        "no-residual@middle": ("middle",),
        "bilinear": ("up",),
        "tiled": ("up",),
        "sin-and-cos": ("",),
        "concatenated": ("",),
    },
    pairs=("relu-for-silu@down1+bilinear", "sin-and-cos+concatenated"),
)

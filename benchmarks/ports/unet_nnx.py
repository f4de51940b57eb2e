"""The U-Net of unet_torch.py as modules of Flax NNX, with channels last."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from .corpus import Port, normal, randomised, weights_of
from .unet_torch import TIME, WIDTH, UNet

# Weights are put in afterwards, and random ones would take time.
Linear = functools.partial(nnx.Linear, kernel_init=nnx.initializers.zeros)
Conv = functools.partial(nnx.Conv, kernel_init=nnx.initializers.zeros)


class Residual(nnx.Module):
    def __init__(self, inner, outer, name, wrong, rngs):
        self.norm1 = nnx.GroupNorm(inner, 2 if wrong("groups", name) else 4, epsilon=1e-5, rngs=rngs)  # cause: groups
        self.conv1 = Conv(inner, outer, (3, 3), padding=1, rngs=rngs)
        self.time = Linear(TIME, outer, rngs=rngs)
        eps = 1e-3 if wrong("eps", name) else 1e-5  # cause: eps
        self.norm2 = nnx.GroupNorm(outer, 2, epsilon=eps, rngs=rngs)
        self.conv2 = Conv(outer, outer, (3, 3), padding=1, rngs=rngs)
        self.skip = Conv(inner, outer, (1, 1), rngs=rngs) if inner != outer else None
        self.name, self.wrong = name, wrong

    def __call__(self, x, t):
        h = nnx.silu(self.norm1(x))  # mistake: groups
        h = self.conv1(h)
        if not self.wrong("no-time", self.name):
            h = h + self.time(nnx.silu(t))[:, None, None]  # mistake: no-time
        h = nnx.silu(self.norm2(h))  # mistake: eps
        h = self.conv2(h)  # mistake: kernel-turned
        return h + (x if self.skip is None else self.skip(x))


class JaxUNet(nnx.Module):
    def __init__(self, wrong, rngs):
        self.time1, self.time2 = Linear(TIME, TIME, rngs=rngs), Linear(TIME, TIME, rngs=rngs)
        self.enter = Conv(2, WIDTH, (3, 3), padding=1, rngs=rngs)
        self.down1 = Residual(WIDTH, WIDTH, "down1", wrong, rngs)
        padding = "SAME" if wrong("same") else 1  # cause: same
        self.pool = Conv(WIDTH, WIDTH, (3, 3), 2, padding=padding, rngs=rngs)
        self.down2 = Residual(WIDTH, 2 * WIDTH, "down2", wrong, rngs)
        self.middle = Residual(2 * WIDTH, 2 * WIDTH, "middle", wrong, rngs)
        self.up1 = Residual(3 * WIDTH, WIDTH, "up1", wrong, rngs)
        self.norm = nnx.GroupNorm(WIDTH, 4, epsilon=1e-6, rngs=rngs)
        self.leave = Conv(WIDTH, 2, (3, 3), padding=1, rngs=rngs)
        self.wrong = wrong

    def __call__(self, x, t):
        wrong = self.wrong
        exponents = jnp.arange(TIME // 2, dtype=x.dtype) / (TIME // 2 - 1 if wrong("frequencies") else TIME // 2)
        angles = t[:, None] / 100.0**exponents  # mistake: frequencies
        t = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)
        t = self.time1(t)
        t = self.time2(nnx.relu(t) if wrong("relu-for-silu") else nnx.silu(t))  # mistake: relu-for-silu
        x = x.transpose(0, 2, 3, 1)
        x = first = self.down1(self.enter(x), t)
        x = self.pool(x)  # mistake: same
        x = self.middle(self.down2(x, t), t)
        batch, height, width, channels = x.shape
        method = "cubic" if wrong("cubic") else "nearest"  # cause: cubic
        x = jax.image.resize(x, (batch, 2 * height, 2 * width, channels), method)  # mistake: cubic
        x = jnp.concatenate([first, x] if wrong("concatenated") else [x, first], -1)  # mistake: concatenated
        x = self.leave(nnx.silu(self.norm(self.up1(x, t))))
        return x.swapaxes(1, 3) if wrong("turned") else x.transpose(0, 3, 1, 2)  # mistake: turned


def load(module, w, wrong, path=""):
    """Put torch's weights into a module and all that are in it."""
    for name, part in vars(module).items():
        place = f"{path}{name}"
        if isinstance(part, nnx.Conv):
            kernel = w[f"{place}.weight"].transpose(2, 3, 1, 0)
            if wrong("kernel-turned", place):
                kernel = kernel.swapaxes(0, 1)  # cause: kernel-turned
            part.kernel, part.bias = nnx.Param(kernel), nnx.Param(w[f"{place}.bias"])
        elif isinstance(part, nnx.Linear):
            part.kernel, part.bias = nnx.Param(w[f"{place}.weight"].T), nnx.Param(w[f"{place}.bias"])
        elif isinstance(part, nnx.GroupNorm):
            part.scale, part.bias = nnx.Param(w[f"{place}.weight"]), nnx.Param(w[f"{place}.bias"])
        elif isinstance(part, Residual):
            load(part, w, wrong, f"{place}.")


def make(seed, wrong, dtype):
    module = randomised(UNet(), seed, dtype)
    model = JaxUNet(wrong, nnx.Rngs(0))
    load(model, weights_of(module), wrong)
    t = normal(seed, (2,), "float32", 2.0)
    return model, module, (normal(seed, (2, 2, 8, 8), dtype), abs(t).astype(jnp.dtype(dtype)))


PORT = Port(
    "unet-nnx",
    make,
    {
        "groups@down2": ("down2.norm1",),
        "eps@middle": ("middle.norm2",),
        "no-time@up1": ("up1",),
        "kernel-turned@down1.conv2": ("down1.conv2",),
        "same": ("pool",),
        "frequencies": ("",),
        "relu-for-silu": ("act",),
        "cubic": ("up",),
        "concatenated": ("",),
        "turned": ("",),
    },
    pairs=("groups@down2+no-time@up1", "kernel-turned@down1.conv2+cubic"),
)

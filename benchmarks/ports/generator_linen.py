"""A generator of images by transposed convolutions, as a bound module of Flax Linen with channels last."""

import jax.numpy as jnp
from flax import linen as nn
from torch import nn as torch_nn

from .corpus import Port, Wrong, normal, randomised, weights_of

NOISE, WIDTH = 10, 8


class Generator(torch_nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch_nn.Linear(NOISE, WIDTH * 3 * 3)
        self.fold = torch_nn.Unflatten(1, (WIDTH, 3, 3))
        self.bn1, self.act1 = torch_nn.BatchNorm2d(WIDTH), torch_nn.ReLU()
        self.up1 = torch_nn.ConvTranspose2d(WIDTH, WIDTH, 4, stride=2, padding=1, bias=False)
        self.bn2, self.act2 = torch_nn.BatchNorm2d(WIDTH, eps=1e-3), torch_nn.LeakyReLU(0.1)
        self.up2 = torch_nn.ConvTranspose2d(WIDTH, 3, 4, stride=2, padding=1)
        self.act3 = torch_nn.Tanh()

    def forward(self, z):
        x = self.act1(self.bn1(self.fold(self.fc(z))))
        x = self.act2(self.bn2(self.up1(x)))
        return self.act3(self.up2(x))


class LinenGenerator(nn.Module):
    wrong: Wrong

    @nn.compact
    def __call__(self, z):
        wrong = self.wrong
        up = {"kernel_size": (4, 4), "strides": (2, 2), "padding": "SAME", "transpose_kernel": True}
        x = nn.Dense(WIDTH * 3 * 3, name="fc")(z)
        shape = (-1, 3, 3, WIDTH) if wrong("folded-last") else (-1, WIDTH, 3, 3)  # cause: folded-last
        x = x.reshape(shape)  # mistake: folded-last
        x = x if wrong("folded-last") else x.transpose(0, 2, 3, 1)
        x = nn.BatchNorm(use_running_average=True, epsilon=1e-5, name="bn1")(x)  # mistake: no-statistics
        x = nn.elu(x) if wrong("elu-for-relu") else nn.relu(x)  # mistake: elu-for-relu
        x = nn.ConvTranspose(WIDTH, **up, use_bias=False, name="up1")(x)  # mistake: not-flipped, up-swapped
        epsilon = 1e-5 if wrong("bn-eps") else 1e-3  # cause: bn-eps
        x = nn.BatchNorm(use_running_average=True, epsilon=epsilon, name="bn2")(x)  # mistake: bn-eps
        x = nn.leaky_relu(x, 0.2 if wrong("slope") else 0.1)  # mistake: slope
        x = nn.ConvTranspose(3, **up, name="up2")(x)
        x = nn.sigmoid(x) * 2 - 1 if wrong("sigmoid") else nn.tanh(x)  # mistake: sigmoid
        x = x.transpose(0, 3, 1, 2)
        return x[::-1] if wrong("batch-reversed") else x  # mistake: batch-reversed


def make(seed, wrong, dtype):
    module = randomised(Generator(), seed, dtype)
    w = weights_of(module)
    # With transpose_kernel=True, Linen takes the kernel of the convolution that this one is the gradient of, as torch.
    first, second = (w[f"{name}.weight"].transpose(2, 3, 1, 0) for name in ("up1", "up2"))
    first = first[::-1, ::-1] if wrong("not-flipped") else first  # cause: not-flipped
    first = first.swapaxes(2, 3) if wrong("up-swapped") else first  # cause: up-swapped
    params = {
        "fc": {"kernel": w["fc.weight"].T, "bias": w["fc.bias"]},
        "up1": {"kernel": first},
        "up2": {"kernel": second, "bias": w["up2.bias"]},
    }
    statistics = {}
    for name in ("bn1", "bn2"):
        params[name] = {"scale": w[f"{name}.weight"], "bias": w[f"{name}.bias"]}
        statistics[name] = {"mean": w[f"{name}.running_mean"], "var": w[f"{name}.running_var"]}
    if wrong("no-statistics"):
        statistics["bn1"] = {"mean": jnp.zeros(WIDTH), "var": jnp.ones(WIDTH)}  # cause: no-statistics
    model = LinenGenerator(wrong).bind({"params": params, "batch_stats": statistics})
    return model, module, (normal(seed, (4, NOISE), dtype),)


PORT = Port(
    "generator-linen",
    make,
    {
        "folded-last": ("fold",),
        "no-statistics": ("bn1",),
        "elu-for-relu": ("act1",),
        "not-flipped": ("up1",),
        "up-swapped": ("up1",),
        "bn-eps": ("bn2",),
        "slope": ("act2",),
        "sigmoid": ("act3",),
        "batch-reversed": ("",),
    },
    pairs=("not-flipped+sigmoid", "elu-for-relu+bn-eps"),
)

"""An MLP of 24 layers with activations of many kinds, in plain JAX with those of jaxact and of jax.nn."""

import jax
import jax.numpy as jnp
import numpy as np
from torch import nn

import jaxact

from .corpus import Port, normal, randomised, weights_of

LAYERS, DIM, OUT = 24, 20, 6
ACTIVATIONS = [lambda: nn.LeakyReLU(0.1), nn.GELU, nn.Tanh, nn.SiLU, nn.Softplus, nn.ELU, nn.ReLU, nn.Mish]


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.ReLU()
        self.layers = nn.ModuleList(nn.Linear(DIM, DIM) for _ in range(LAYERS))
        self.acts = nn.ModuleList(ACTIVATIONS[i % len(ACTIVATIONS)]() for i in range(LAYERS))
        self.head = nn.Linear(DIM, OUT)

    def forward(self, x):
        x = self.first(x)
        for layer, act in zip(self.layers, self.acts, strict=True):
            x = act(layer(x))
        return x.clamp(min=0.5).log().sum(-1), self.head(x)


def make(seed, wrong, dtype):
    module = randomised(MLP(), seed, dtype)
    for layer in module.layers:
        layer.weight.data *= 1.3  # so that what goes in is still seen after 24 layers
    w = weights_of(module)

    @jax.custom_vjp
    def silu(x):
        return x * jax.nn.sigmoid(x)

    def silu_backward(x, g):
        s = jax.nn.sigmoid(x)
        return (g * s if wrong("lost-term") else g * s * (1 + x * (1 - s)),)  # mistake: lost-term

    silu.defvjp(lambda x: (silu(x), x), silu_backward)

    def activate(x, i):
        match i % 8:
            case 0:
                return jaxact.leaky_relu(x, 0.01 if wrong("slope", i) else 0.1)  # mistake: slope
            case 1:
                return jaxact.gelu(x, approximate="tanh" if wrong("tanh-gelu", i) else "none")  # mistake: tanh-gelu
            case 2:
                return jnp.tanh(x)
            case 3:
                return jax.nn.relu(x) if wrong("relu-for-silu", i) else silu(x)  # mistake: relu-for-silu, lost-term
            case 4:
                return jnp.log1p(jnp.exp(x)) / 2 if wrong("half", i) else jax.nn.softplus(x)  # mistake: half
            case 5:
                return jax.nn.elu(x, 1.05 if wrong("alpha", i) else 1.0)  # mistake: alpha
            case 6:
                return jax.nn.relu(x)
            case 7:
                return x * jnp.tanh(jnp.exp(x) if wrong("no-log", i) else jax.nn.softplus(x))  # mistake: no-log

    def first(x):
        if wrong("half-kink"):
            return jnp.maximum(x, 0)  # mistake: half-kink
        return jnp.where(x >= 0, x, 0) if wrong("kink") else jax.nn.relu(x)  # mistake: kink

    def forward(x):
        x = first(x)
        for i in range(LAYERS):
            weight, bias = w[f"layers.{i}.weight"], w[f"layers.{i}.bias"]
            if wrong("half-weights", i):
                weight = weight.astype(jnp.float16).astype(x.dtype)  # cause: half-weights
            x = x @ (weight if wrong("untransposed", i) else weight.T)  # mistake: untransposed, half-weights
            x = x if wrong("no-bias", i) else x + bias  # mistake: no-bias
            x = activate(x, i)
            x = jax.lax.stop_gradient(x) if wrong("stop-gradient", i) else x  # mistake: stop-gradient
        logs = jnp.log(x) if wrong("nan") else jnp.log(jnp.maximum(x, 0.5))  # mistake: nan
        y = x @ w["head.weight"].T + w["head.bias"]
        y = y.astype(jnp.float16) if wrong("float16") else y  # mistake: float16
        return logs.sum(-1, keepdims=wrong("shape")), y  # mistake: shape

    x = normal(seed, (5, DIM), dtype)
    x[np.arange(5), np.arange(5)] = 0
    return forward, module, (x,)


PORT = Port(
    "mlp-jax",
    make,
    {
        "slope": ("acts.0",),
        "slope@16": ("acts.16",),
        "tanh-gelu@1": ("acts.1",),
        "tanh-gelu@17": ("acts.17",),
        "relu-for-silu@11": ("acts.11",),
        "half@4": ("acts.4",),
        "alpha@13": ("acts.13",),
        "no-log@23": ("acts.23",),
        "untransposed@10": ("layers.10",),
        "half-weights@6": ("layers.6",),
        "no-bias@20": ("layers.20",),
        "nan": ("",),
        "float16": ("",),
        "shape": ("",),
        "lost-term": ("acts.19", "layers.19"),
        "half-kink": ("first",),
        "kink": ("first",),
        "stop-gradient@14": ("acts.14", ""),
    },
    gradients_only=frozenset({"lost-term", "half-kink", "kink", "stop-gradient@14"}),
    pairs=("slope@16+tanh-gelu@1", "untransposed@10+no-bias@20"),
)

"""A GRU in both directions over frames of numbers; in plain JAX a scan for each direction."""

import jax
import jax.numpy as jnp
import torch
from torch import nn

from .corpus import Port, normal, randomised, weights_of

DIM, HIDDEN, OUT = 6, 10, 4


class Listener(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(DIM)
        self.gru = nn.GRU(DIM, HIDDEN, batch_first=True, bidirectional=True)
        self.score = nn.Linear(2 * HIDDEN, 1)
        self.head = nn.Linear(2 * HIDDEN, OUT)
        self.act = nn.Softplus(beta=2.0)

    def forward(self, x):
        y, _ = self.gru(self.norm(x))
        weights = torch.softmax(self.score(y), 1)
        return self.act(self.head((weights * y).sum(1)))


def make(seed, wrong, dtype):
    module = randomised(Listener(), seed, dtype)
    w = weights_of(module)

    def layer_norm(x):
        x = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)
        scale, bias = w["norm.weight"], w["norm.bias"]
        return x * scale if wrong("no-norm-bias") else x * scale + bias  # mistake: no-norm-bias

    def gru(x, suffix, reverse=False):
        w_ih, w_hh = w[f"gru.weight_ih_{suffix}"], w[f"gru.weight_hh_{suffix}"]
        b_ih, b_hh = w[f"gru.bias_ih_{suffix}"], w[f"gru.bias_hh_{suffix}"]

        def step(h, x):
            ir, iz, inew = jnp.split(x @ w_ih.T + b_ih, 3, -1)
            hr, hz, hnew = jnp.split(h @ w_hh.T + b_hh, 3, -1)
            if wrong("gates"):
                r, z = jax.nn.sigmoid(iz + hz), jax.nn.sigmoid(ir + hr)  # mistake: gates
            else:
                r, z = jax.nn.sigmoid(ir + hr), jax.nn.sigmoid(iz + hz)
            w_hn, b_hn = w_hh[2 * HIDDEN :], b_hh[2 * HIDDEN :]
            reset = (r * h) @ w_hn.T + b_hn if wrong("reset-before") else r * hnew  # mistake: reset-before
            n = jnp.tanh(inew + reset)
            h = z * n + (1 - z) * h if wrong("update") else (1 - z) * n + z * h  # mistake: update
            return h, h

        start = jnp.zeros((len(x), HIDDEN), x.dtype)
        _, y = jax.lax.scan(step, start, x.swapaxes(0, 1), reverse=reverse)
        return (y[::-1] if wrong("turned") and reverse else y).swapaxes(0, 1)  # mistake: turned

    def forward(x):
        x = layer_norm(x)
        forwards, backwards = gru(x, "l0"), gru(x, "l0_reverse", reverse=True)
        directions = [backwards, forwards] if wrong("directions") else [forwards, backwards]  # cause: directions
        y = jnp.concatenate(directions, -1)  # mistake: directions
        score = y @ w["score.weight"].T + w["score.bias"]
        weights = jax.nn.softmax(score, axis=-1 if wrong("softmax-axis") else 1)  # mistake: softmax-axis
        weights = jax.lax.stop_gradient(weights) if wrong("stop-gradient") else weights  # mistake: stop-gradient
        y = (weights * y).sum(1) @ w["head.weight"].T + w["head.bias"]
        return jax.nn.softplus(y) if wrong("beta") else jax.nn.softplus(2 * y) / 2  # mistake: beta

    return forward, module, (normal(seed, (3, 8, DIM), dtype),)


PORT = Port(
    "gru-jax",
    make,
    {
        "no-norm-bias": ("norm",),
        "gates": ("gru",),
        "reset-before": ("gru",),
        "update": ("gru",),
        "turned": ("gru",),
        "directions": ("gru",),
        "softmax-axis": ("",),
        "stop-gradient": ("score", ""),
        "beta": ("act",),
    },
    gradients_only=frozenset({"stop-gradient"}),
    pairs=("update+beta", "no-norm-bias+softmax-axis"),
)

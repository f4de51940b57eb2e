"""An LSTM of two layers with embedding and dense head; in JAX a scan over time for each layer."""

import math

import jax
import jax.numpy as jnp
from torch import nn

from .corpus import Port, integers, randomised, weights_of

TOKENS, DIM, HIDDEN, OUT, LAYERS = 17, 12, 16, 5, 2


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(TOKENS, DIM)
        self.lstm = nn.LSTM(DIM, HIDDEN, LAYERS, batch_first=True)
        self.act = nn.ELU(0.5)
        self.head = nn.Linear(HIDDEN, OUT)

    def forward(self, ids):
        y, (_, cell) = self.lstm(self.embed(ids))
        return self.head(self.act(y)), cell[-1]


def make(seed, wrong, dtype):
    module = randomised(Tagger(), seed, dtype)
    w = weights_of(module)

    def layer(x, k):
        w_ih, w_hh = w[f"lstm.weight_ih_l{k}"], w[f"lstm.weight_hh_l{k}"]
        b_ih, b_hh = w[f"lstm.bias_ih_l{k}"], w[f"lstm.bias_hh_l{k}"]

        def step(carry, x):
            h, c = carry
            z = x @ w_ih.T + h @ w_hh.T + (b_ih if wrong("no-bias", k) else b_ih + b_hh)  # mistake: no-bias
            gates = jnp.split(z, 4, -1)
            i, f, g, o = (gates[j] for j in ((0, 1, 3, 2) if wrong("gates", k) else (0, 1, 2, 3)))  # cause: gates
            f = f + 1 if wrong("forget-bias", k) else f  # mistake: forget-bias
            i, f, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jax.nn.sigmoid(o)  # mistake: gates
            c = f * c + i * jnp.tanh(g)
            h = o * c if wrong("no-tanh", k) else o * jnp.tanh(c)  # mistake: no-tanh
            return (h, c), h

        start = (jnp.ones if wrong("start", k) else jnp.zeros)((x.shape[1], HIDDEN), x.dtype)  # cause: start
        (_, c), y = jax.lax.scan(step, (start, start), x, reverse=wrong("backwards", k))  # mistake: start, backwards
        return y, c

    def forward(ids):
        x = w["embed.weight"][ids]
        x = x * math.sqrt(DIM) if wrong("scaled") else x  # mistake: scaled
        x = x.swapaxes(0, 1)
        for k in range(LAYERS):
            x, c = layer(x, k)
        y = x.swapaxes(0, 1)
        y = jax.nn.elu(y, 1.0 if wrong("alpha") else 0.5)  # mistake: alpha
        y = y @ w["head.weight"].T + w["head.bias"]
        return y, x[-1] if wrong("state-for-cell") else c  # mistake: state-for-cell

    return forward, module, (integers(seed, TOKENS, (3, 7)),)


PORT = Port(
    "lstm-jax",
    make,
    {
        "no-bias@1": ("lstm",),
        "gates": ("lstm",),
        "gates@1": ("lstm",),
        "forget-bias@0": ("lstm",),
        "no-tanh@1": ("lstm",),
        "start": ("lstm",),
        "backwards@1": ("lstm",),
        "scaled": ("embed",),
        "alpha": ("act",),
        "state-for-cell": ("lstm", ""),
    },
    pairs=("gates@1+alpha", "scaled+alpha"),
)

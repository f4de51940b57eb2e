"""A GRU over token ids by Flax Linen's own cell and loop; mistakes are made where its weights are moved."""

import jax.numpy as jnp
from flax import linen as nn
from torch import nn as torch_nn

from .corpus import Port, Wrong, integers, randomised, weights_of

TOKENS, DIM, HIDDEN = 13, 8, 12


class Reader(torch_nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch_nn.Embedding(TOKENS, DIM, padding_idx=0)
        self.gru = torch_nn.GRU(DIM, HIDDEN, batch_first=True)
        self.head = torch_nn.Linear(HIDDEN, TOKENS)

    def forward(self, ids):
        y, _ = self.gru(self.embed(ids))
        return self.head(y[:, -1])


class LinenReader(nn.Module):
    wrong: Wrong
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, ids):
        x = nn.Embed(TOKENS, DIM, dtype=self.dtype, name="embed")(ids)  # mistake: shifted
        y = nn.RNN(nn.GRUCell(HIDDEN, param_dtype=self.dtype, name="gru"))(x)  # mistake: gates, hidden-untransposed
        y = y[:, 0] if self.wrong("first") else y.mean(1) if self.wrong("mean") else y[:, -1]  # mistake: first, mean
        return nn.Dense(TOKENS, name="head")(y)  # mistake: no-bias


def make(seed, wrong, dtype):
    module = randomised(Reader(), seed, dtype)
    w = weights_of(module)
    table = w["embed.weight"]
    table = jnp.roll(table, 1, 0) if wrong("shifted") else table  # cause: shifted
    gru = {}
    for i, gate in enumerate("zrn" if wrong("gates") else "rzn"):  # cause: gates
        rows = slice(i * HIDDEN, (i + 1) * HIDDEN)
        gru[f"i{gate}"] = {"kernel": w["gru.weight_ih_l0"][rows].T, "bias": w["gru.bias_ih_l0"][rows]}
        square = w["gru.weight_hh_l0"][rows]
        gru[f"h{gate}"] = {"kernel": square if wrong("hidden-untransposed") else square.T}  # cause: hidden-untransposed
        # Linen adds one bias to the gates r and z, where torch has two.
        if gate == "n":
            gru["hn"]["bias"] = w["gru.bias_hh_l0"][rows]
        else:
            gru[f"i{gate}"]["bias"] += w["gru.bias_hh_l0"][rows]
    bias = w["head.bias"] * (0 if wrong("no-bias") else 1)  # cause: no-bias
    params = {"embed": {"embedding": table}, "gru": gru, "head": {"kernel": w["head.weight"].T, "bias": bias}}
    model = LinenReader(wrong, jnp.dtype(dtype)).bind({"params": params})
    return model, module, (integers(seed, TOKENS, (3, 6), "int64"),)


PORT = Port(
    "gru-linen",
    make,
    {
        "shifted": ("embed",),
        "gates": ("gru",),
        "hidden-untransposed": ("gru",),
        "first": ("",),
        "mean": ("",),
        "no-bias": ("head",),
    },
    pairs=("hidden-untransposed+no-bias",),
)

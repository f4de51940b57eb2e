"""How far the softmax family is from the true value, on rows of random numbers: there is no list of all rows.

``accuracy.py`` calls it after its sweep over all floats.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from accuracy_measure import program as digest
from reference import BOUNDS, is_normal, ulp

import jaxact
from jaxact.interop import to_numpy, to_torch
from jaxact.interop.speed import JAX_NN

FUNCTIONS = ("softmax", "softmin", "log_softmax")
ROWS, ROW = 4096, 1024
SEED = 0

# The largest error in ULPs in float32, where roundings of the sum add up; and how far from 1 a row's sum may be.
FLOAT32_BOUND = 4.0
SUM_BOUND = 2.0


def bound(dtype: str) -> float:
    """Return the largest error in ULPs that jaxact may have."""
    return FLOAT32_BOUND if dtype == "float32" else BOUNDS[dtype]["forward"]


def measure(name: str, dtype: str, library: str) -> dict[str, Any]:
    """Return the errors of a function of a library on ROWS rows of ROW normal numbers, as data.

    Args:
        name: One of FUNCTIONS.
        dtype: The type.
        library: One of the libraries of the sweep.
    """
    x = np.random.default_rng(SEED).standard_normal((ROWS, ROW), np.float32).astype(jnp.dtype(dtype))
    exact = _exact(name, x.astype(np.float64))
    y = _runner(name, library)(x).astype(np.float64)
    error = np.where(is_normal(exact, x.dtype), abs(y - exact) / ulp(exact, x.dtype), 0)
    sums = None if name == "log_softmax" else float(abs(y.sum(-1) - 1).max() / float(jnp.finfo(x.dtype).eps))
    return {
        "name": name,
        "dtype": dtype,
        "library": library,
        "program": program(name, dtype, library),
        "largest": float(error.max()),
        "mean": float(error.mean()),
        "nan": int(np.isnan(y).sum()),
        "sums": sums,
    }


def _exact(name: str, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    x = -x if name == "softmin" else x
    x = x - x.max(-1, keepdims=True)
    logarithm = x - np.log(np.exp(x).sum(-1, keepdims=True))
    return logarithm if name == "log_softmax" else np.exp(logarithm)


def program(name: str, dtype: str, library: str) -> str:
    """Return a digest of what computes: see `accuracy_measure.program`."""
    return digest(library, () if library == "torch" else (_compiled(name, library),), (ROWS, ROW), dtype)


def _runner(name: str, library: str) -> Callable[[Any], np.ndarray[Any, Any]]:
    if library == "torch":
        function = functools.partial(getattr(torch.nn.functional, name), dim=-1)
        return lambda x: to_numpy(function(to_torch(x)))
    function = _compiled(name, library)
    return lambda x: np.asarray(function(x))


def _compiled(name: str, library: str) -> Any:
    functions = JAX_NN if library == "jax.nn" else vars(jaxact)
    return jax.jit(functools.partial(functions[name], dim=-1))


def violations(records: list[dict[str, Any]]) -> list[str]:
    """Return a line for each bound that jaxact exceeds."""
    lines = []
    for entry in records:
        if entry["library"] != "jaxact":
            continue
        where = f"{entry['name']}, {entry['dtype']}, rows"
        if not entry["largest"] <= bound(entry["dtype"]):
            lines.append(f"{where}: {entry['largest']} ULP, the bound is {bound(entry['dtype'])}")
        if entry["nan"]:
            lines.append(f"{where}: {entry['nan']} results are NaN")
        if entry["dtype"] == "float32" and entry["sums"] is not None and entry["sums"] > SUM_BOUND:
            lines.append(f"{where}: a row's sum is {entry['sums']} ULP from 1, the bound is {SUM_BOUND}")
    return lines

"""How far the softmax family is from the true value, on rows of random numbers: there is no list of all rows.

``accuracy.py`` calls it after its sweep over all floats.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from accuracy_measure import Floats, Results, precision
from accuracy_measure import program as digest
from mpmath import fsum, mp
from reference import BOUNDS, ORDERS, is_normal, ulp

import jaxact
from jaxact.bench.jax_nn import JAX_NN
from jaxact.catalog import BY_NAME
from jaxact.interop import to_numpy, to_torch
from jaxact.interop.counterparts import counterpart

FUNCTIONS = ("softmax", "softmin", "log_softmax")
DTYPES = ("float32", "bfloat16", "float16", "float64")
# How many rows there are, and of how many numbers. In float64, where mpmath gives the exact results, there are so many
# times fewer.
COUNT, LENGTH, FEWER = 4096, 1024, 64
SEED = 0

# The largest error in ULPs in float32, where roundings of the sum add up, and where derivatives are not bounded; and
# how far from 1 a row's sum may be.
FLOAT32_BOUND = 4.0
SUM_BOUND = 2.0


def bound(dtype: str, order: str) -> float:
    """Return the largest error in ULPs that jaxact may have."""
    if dtype == "float32":
        return FLOAT32_BOUND if order == "value" else math.inf
    return BOUNDS[dtype][order]


def measure(name: str, dtype: str, library: str) -> dict[str, Any]:
    """Return the errors of a function of a library on COUNT rows of LENGTH normal numbers, as data.

    The derivative is that of each row's first result, by every element of the row.

    Args:
        name: One of FUNCTIONS.
        dtype: The type.
        library: One of the libraries of the sweep.
    """
    x = np.random.default_rng(SEED).standard_normal(_shape(dtype), np.float32).astype(jnp.dtype(dtype))
    exact = _exactly(name, x) if dtype == "float64" else _exact(name, x.astype(np.float64))
    with precision(dtype):
        results = _runner(name, library)(x)
    record: dict[str, Any] = {
        "name": name,
        "dtype": dtype,
        "library": library,
        "program": program(name, dtype, library),
    }
    for order in ORDERS:
        (truth, rest), y = exact[order], results[order].astype(np.float64)
        error = np.where(is_normal(truth, x.dtype), abs((y - truth) - rest) / ulp(truth, x.dtype), 0)
        nan = np.isnan(y)
        record[order] = {
            "inputs": y.size,
            "largest": float(error[~nan].max(initial=0)),
            "mean": float(error[~nan].mean()) if not nan.all() else 0.0,
            "nan": int(np.count_nonzero(nan)),
        }
    if name != "log_softmax":
        y = results["value"].astype(np.float64)
        record["sums"] = float(abs(y.sum(-1) - 1).max() / float(jnp.finfo(x.dtype).eps))
    return record


def _shape(dtype: str) -> tuple[int, int]:
    return COUNT // FEWER if dtype == "float64" else COUNT, LENGTH


def _exact(name: str, x: Floats) -> dict[str, tuple[Floats, float]]:
    """Return the exact results of the rows x by order, and 0, as what rounding them to float64 has cost is nothing."""
    sign = -1 if name == "softmin" else 1
    shifted = sign * x - (sign * x).max(-1, keepdims=True)
    logarithm = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    y = np.exp(logarithm)
    first = np.arange(x.shape[-1]) == 0
    if name == "log_softmax":
        return {"value": (logarithm, 0.0), "derivative": (first - y, 0.0)}
    return {"value": (y, 0.0), "derivative": (sign * y * (first - y[:, :1]), 0.0)}


def _exactly(name: str, x: Floats) -> dict[str, tuple[Floats, Floats]]:
    """Return the exact results of the rows x by order, rounded to float64, and what that has cost."""
    sign = -1 if name == "softmin" else 1
    exact: dict[str, list[Any]] = {order: [] for order in ORDERS}
    with mp.workdps(30):
        for row in (sign * x).tolist():
            e = [mp.exp(number) for number in row]
            total = fsum(e)
            y = [number / total for number in e]
            if name == "log_softmax":
                exact["value"] += [number - mp.log(total) for number in row]
                exact["derivative"] += [1 - y[0], *(-number for number in y[1:])]
            else:
                exact["value"] += y
                exact["derivative"] += [sign * y[0] * (1 - y[0]), *(-sign * y[0] * number for number in y[1:])]
        nearest = {order: [float(number) for number in exact[order]] for order in ORDERS}
        rest = {order: [float(a - b) for a, b in zip(exact[order], nearest[order], strict=True)] for order in ORDERS}
    return {order: (np.reshape(nearest[order], x.shape), np.reshape(rest[order], x.shape)) for order in ORDERS}


def program(name: str, dtype: str, library: str) -> str:
    """Return a digest of what computes: see `accuracy_measure.program`."""
    jitted = () if library == "torch" else _compiled(name, library).values()
    return digest(library, jitted, _shape(dtype), dtype)


def _runner(name: str, library: str) -> Callable[[Any], Results]:
    if library == "torch":
        return functools.partial(_run_torch, name)
    functions = _compiled(name, library)
    return lambda x: {order: np.asarray(function(x)) for order, function in functions.items()}


def _run_torch(name: str, x: Floats) -> Results:
    tensor = to_torch(x, copy=True).requires_grad_()
    y = counterpart(BY_NAME[name], {"dim": -1}, tensor)(tensor)
    (dx,) = torch.autograd.grad(y[:, 0].sum(), tensor)
    return {"value": to_numpy(y.detach()), "derivative": to_numpy(dx)}


def _compiled(name: str, library: str) -> dict[str, Any]:
    function = functools.partial((JAX_NN if library == "jax.nn" else vars(jaxact))[name], dim=-1)
    derivative = jax.vmap(jax.grad(lambda row: function(row)[0]))
    return {"value": jax.jit(function), "derivative": jax.jit(derivative)}


def violations(records: list[dict[str, Any]]) -> list[str]:
    """Return a line for each bound that jaxact exceeds."""
    lines = []
    for entry in records:
        if entry["library"] != "jaxact":
            continue
        where = f"{entry['name']}, {entry['dtype']}, rows"
        for order in ORDERS:
            errors, limit = entry[order], bound(entry["dtype"], order)
            if errors["largest"] > limit:
                lines.append(f"{where}, {order}: {errors['largest']} ULP, the bound is {limit}")
            if errors["nan"]:
                lines.append(f"{where}, {order}: {errors['nan']} results are NaN")
        if entry["dtype"] == "float32" and entry.get("sums", 0) > SUM_BOUND:
            lines.append(f"{where}: a row's sum is {entry['sums']} ULP from 1, the bound is {SUM_BOUND}")
    return lines

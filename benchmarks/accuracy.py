"""How far jaxact, torch and jax.nn are from the true value, for every float there is.

``python benchmarks/accuracy.py`` runs every bfloat16, every float16 and every float32 through each activation
and its derivative, in chunks. Finished chunks are kept in ``build/accuracy``, from where an interrupted sweep
goes on; one whose code or library has changed since is done again. It writes the figures to
``benchmarks/results/accuracy.json`` and what to plot to ``accuracy.npz`` beside it, makes ``docs/accuracy.md``
and its plots from these, and exits with 1 if jaxact is outside a bound. ``--stride`` takes one float in so
many, at random, and only prints. ``--report`` only makes the page and the plots.
"""

import datetime
import functools
import hashlib
import inspect
import json
import math
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import typer
from jaxact.interop import to_numpy, to_torch
from reference import BOUNDS, CASES, ORDERS, WINDOW_ERROR, Case, is_normal, ulp
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

import jaxact

ROOT = Path(__file__).parents[1]
PARTIAL = ROOT / "build" / "accuracy"
RESULTS = ROOT / "benchmarks" / "results"
DOCS = ROOT / "docs"

DTYPES = ("float32", "bfloat16", "float16")
LIBRARIES = ("jaxact", "torch", "jax.nn")

# A chunk is what one task does and one line of a partial file holds; a block is what is in the cache at once.
CHUNK = 2**24
BLOCK = 2**16
# The largest errors are kept for so many equal parts of all bit patterns: eighths of a binade, in float32.
BINS = 4096

JAX_NN: dict[str, Callable[..., jax.Array]] = {
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "leaky_relu": jax.nn.leaky_relu,
    "hardtanh": jax.nn.hard_tanh,
    "hardsigmoid": jax.nn.hard_sigmoid,
    "hardswish": jax.nn.hard_swish,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "celu": jax.nn.celu,
    "softplus": jax.nn.softplus,
    "logsigmoid": jax.nn.log_sigmoid,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jax.nn.tanh,
    "softsign": jax.nn.soft_sign,
    "tanhshrink": lambda x: x - jax.nn.tanh(x),
    "silu": jax.nn.silu,
    "gelu": lambda x, approximate: jax.nn.gelu(x, approximate=approximate == "tanh"),
    "mish": jax.nn.mish,
}

Results = dict[str, np.ndarray[Any, Any]]


# Running the libraries


def has(library: str, case: Case) -> bool:
    """Say whether a library has the function of a case: jax.nn lacks some."""
    return library != "jax.nn" or case.function in JAX_NN


@functools.cache
def runner(library: str, name: str) -> Callable[[np.ndarray[Any, Any]], Results]:
    """Return the function that gives a library's value and derivative at a NumPy array.

    Args:
        library: One of LIBRARIES.
        name: One of CASES.
    """
    case = CASES[name]
    if library == "torch":
        return functools.partial(_run_torch, getattr(torch.nn.functional, case.function), case)
    functions = JAX_NN if library == "jax.nn" else vars(jaxact)
    function = functools.partial(functions[case.function], **case.parameters)

    def derivative(x: jax.Array) -> jax.Array:
        y, pull_back = jax.vjp(function, x)
        return pull_back(jnp.ones_like(y))[0]

    return functools.partial(_run_jax, jax.jit(function), jax.jit(derivative))


def _run_jax(forward: Callable[..., jax.Array], derivative: Callable[..., jax.Array], x: Any) -> Results:
    return {"forward": np.asarray(forward(x)), "derivative": np.asarray(derivative(x))}


def _run_torch(function: Callable[..., torch.Tensor], case: Case, x: Any) -> Results:
    tensor = to_torch(x, copy=True).requires_grad_()
    y = function(tensor, **case.parameters)
    (dx,) = torch.autograd.grad(y, tensor, torch.ones_like(y))
    return {"forward": to_numpy(y), "derivative": to_numpy(dx)}


# Measuring


@dataclass
class Errors:
    """The errors of one library on some inputs, of the value or of the derivative.

    Attributes:
        inputs: How many inputs there were, NaN apart.
        counted: At how many the exact result is a normal number; the next four are about these.
        largest: The largest error in ULPs; NaN is infinitely far.
        at: Where that is.
        total: The sum of the errors in ULPs.
        right: How many results are the correctly rounded ones.
        nan: How many results are NaN where the exact one is not.
        subnormal: The largest error where the exact result is 0 or subnormal, in units of the smallest normal number.
        window: The largest absolute error, of those that are forgiven, around the derivative's zero.
        profile: The largest error in ULPs in each of BINS parts of the bit patterns.
    """

    inputs: int = 0
    counted: int = 0
    largest: float = 0.0
    at: float | None = None
    total: float = 0.0
    right: int = 0
    nan: int = 0
    subnormal: float = 0.0
    window: float = 0.0
    profile: dict[int, float] = field(default_factory=dict)

    def add(self, other: "Errors") -> None:
        """Take in the errors on other inputs."""
        if other.largest > self.largest:
            self.largest, self.at = other.largest, other.at
        for count in ("inputs", "counted", "total", "right", "nan"):
            setattr(self, count, getattr(self, count) + getattr(other, count))
        self.subnormal = max(self.subnormal, other.subnormal)
        self.window = max(self.window, other.window)
        for key, largest in other.profile.items():
            self.profile[key] = max(largest, self.profile.get(key, 0.0))


class Truth:
    """The exact results of a case at some inputs, and what they say about the results of a library."""

    def __init__(self, case: Case, order: str, x: Any, wide: Any, exact: Any, bins: Any) -> None:
        self.x, self.exact, self.bins = x, exact, bins
        self.known = ~np.isnan(exact)
        self.counted = is_normal(wide, exact, x.dtype)
        self.apart = ~self.counted & np.isfinite(exact) & (np.abs(exact) < 1)
        self.ulps = 1 / ulp(exact, x.dtype)
        self.rounded = exact.astype(x.dtype)
        self.near_zero = case.near_zero(wide) if order == "derivative" else np.zeros(x.shape, bool)

    def errors(self, y: Any) -> Errors:
        """Return the errors of the results ``y``."""
        error = np.abs(y.astype(np.float64) - self.exact)
        nan = np.isnan(y) & self.known
        error[nan] = np.inf
        forgiven = self.near_zero & (error <= WINDOW_ERROR)
        counted = self.counted & ~forgiven
        ulps = np.where(counted, error * self.ulps, 0)
        worst = ulps.argmax()
        starts = np.flatnonzero(np.diff(self.bins, prepend=-1))
        largest = np.maximum.reduceat(ulps, starts)
        return Errors(
            inputs=int(self.known.sum()),
            counted=int(counted.sum()),
            largest=float(ulps[worst]),
            at=float(self.x[worst]),
            total=float(ulps.sum()),
            right=int((counted & (y == self.rounded)).sum()),
            nan=int(nan.sum()),
            subnormal=float(error[self.apart].max(initial=0) / float(jnp.finfo(self.x.dtype).smallest_normal)),
            window=float(error[forgiven].max(initial=0)),
            profile=dict(zip(self.bins[starts].tolist(), largest.tolist(), strict=True)),
        )


def inputs(dtype: str, chunk: int, stride: int) -> Iterator[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """Yield the floats of a chunk in blocks, with the bin of each.

    Args:
        dtype: The type.
        chunk: Which CHUNK bit patterns to take.
        stride: One float in so many, drawn at random from each run of so many.
    """
    bits = 8 * jnp.dtype(dtype).itemsize
    rng = np.random.default_rng(chunk)
    first, last = chunk * CHUNK, min((chunk + 1) * CHUNK, 2**bits)
    for start in range(first, last, BLOCK * stride):
        patterns = np.arange(start, min(start + BLOCK * stride, last), stride)
        patterns += rng.integers(stride, size=patterns.size)
        yield patterns.astype(f"uint{bits}").view(jnp.dtype(dtype)), patterns >> (bits - 12)


def measure(name: str, dtype: str, chunk: int, stride: int, libraries: list[str]) -> dict[str, dict[str, Errors]]:
    """Return the errors of each library on a chunk, of the value and of the derivative.

    Args:
        name: One of CASES.
        dtype: The type.
        chunk: Which chunk of its floats.
        stride: One float in so many.
        libraries: The libraries.
    """
    torch.set_num_threads(1)
    case = CASES[name]
    found = {library: {order: Errors() for order in ORDERS} for library in libraries}
    with np.errstate(all="ignore"):
        for x, bins in inputs(dtype, chunk, stride):
            wide = x.astype(np.float64)
            truths = {order: Truth(case, order, x, wide, exact, bins) for order, exact in case.exact(wide).items()}
            for library in libraries:
                results = runner(library, name)(x)
                for order, truth in truths.items():
                    found[library][order].add(truth.errors(results[order]))
    return found

"""Public reports of wrong results of ``jax.nn`` and PyTorch, each run in the library that is installed and in jaxact.

A report is about a derivative that is 0 where it is a normal number, or a result that is NaN or infinite where the
exact one is finite; what jaxact gives is held to its bounds at that place. The inputs are those of the reports, or of
the kind they describe where they take a whole model to get there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import exact as mathematics
import jax
import jax.numpy as jnp
import numpy as np
import torch
from reference import BOUNDS, SUBNORMAL_BOUND, ulp

import jaxact
from jaxact.bench.jax_nn import JAX_NN
from jaxact.catalog import BY_NAME
from jaxact.interop import to_numpy
from jaxact.interop.counterparts import counterpart

Array = np.ndarray[Any, Any]
ORDINALS = ("value", "derivative", "second derivative")


@dataclass(frozen=True)
class Report:
    """A public report, and how to see what it is about.

    Attributes:
        numbers: Where it stands: a repository and the number of an issue, or several that say the same.
        what: What is computed.
        dtype: The dtype it is computed in.
        order: "value" or "derivative", for the bound.
        theirs: Returns what the library of the report gives, an array of float64.
        ours: Returns what jaxact gives.
        exact: Returns the exact result, rounded to float64.
    """

    numbers: str
    what: str
    dtype: str
    order: str
    theirs: Callable[[], Array]
    ours: Callable[[], Array]
    exact: Callable[[], Array]


@dataclass(frozen=True)
class Finding:
    """What a report turned out to be here.

    Attributes:
        numbers: As in the report.
        what: As in the report.
        dtype: As in the report.
        theirs: The number the library gives: of several the one that is farthest off.
        exact: The exact number at that place.
        jaxact: The number jaxact gives there.
        reproduced: Whether the library is outside jaxact's bound, here and now.
        right: Whether jaxact is within, in all places.
    """

    numbers: str
    what: str
    dtype: str
    theirs: float
    exact: float
    jaxact: float
    reproduced: bool
    right: bool


def find(report: Report) -> Finding:
    """Run a report."""
    theirs, ours, exact = (np.atleast_1d(run()) for run in (report.theirs, report.ours, report.exact))
    with np.errstate(all="ignore"):
        errors, bound = _excess(theirs, exact, report), _excess(ours, exact, report)
    worst = int(np.argmax(errors))
    return Finding(
        numbers=report.numbers,
        what=report.what,
        dtype=report.dtype,
        theirs=float(theirs[worst]),
        exact=float(exact[worst]),
        jaxact=float(ours[worst]),
        reproduced=bool(errors.max() > 1),
        right=bool(bound.max() <= 1),
    )


def _excess(y: Array, exact: Array, report: Report) -> Array:
    """Return the errors as multiples of what is allowed; infinite at a NaN that should be none."""
    dtype = jnp.dtype(report.dtype)
    allowed = BOUNDS[report.dtype][report.order] * ulp(np.where(np.isfinite(exact), exact, 1.0), dtype)
    tiny = float(jnp.finfo(dtype).smallest_normal)
    allowed = np.where(np.abs(exact) < tiny, np.maximum(allowed, SUBNORMAL_BOUND * tiny), allowed)
    error = np.where(y == exact, 0.0, np.abs(y - exact)) / allowed
    return np.where(np.isnan(error), np.inf, error)


def of_one_number(numbers: str, library: str, name: str, order: int, x: float, dtype: str, **parameters: Any) -> Report:
    """Return a report about a function of one number.

    Args:
        numbers: Where it stands.
        library: "jax.nn" or "torch".
        name: The function in jaxact.
        order: Which derivative, 0 for the value.
        x: The number.
        dtype: The dtype.
        parameters: Parameters for jaxact, with which it is the library's function.
    """

    def in_jax(function: Callable[[jax.Array], jax.Array]) -> Array:
        for _ in range(order):
            function = jax.grad(function)
        return np.asarray(function(jnp.asarray(x, dtype)), np.float64)

    def in_torch() -> Array:
        # As many as torch's code for long arrays takes at a time, and of which it leaves none to the other.
        tensor = torch.full((64,), x, dtype=getattr(torch, dtype), requires_grad=True)
        y = counterpart(BY_NAME[name], {}, tensor)(tensor)
        for _ in range(order):
            (y,) = torch.autograd.grad(y.sum(), tensor, create_graph=True)
        return to_numpy(y.detach())[:1].astype(np.float64)

    def in_mpmath() -> Array:
        return np.array(float(mathematics.derivatives(getattr(mathematics, name), x, (order,), **parameters)[0]))

    return Report(
        numbers,
        f"{ORDINALS[order]} of `{name}` at {x!r}",
        dtype,
        "derivative" if order else "value",
        (lambda: in_jax(JAX_NN[name])) if library == "jax.nn" else in_torch,
        lambda: in_jax(lambda t: getattr(jaxact, name)(t, **parameters)),
        in_mpmath,
    )


def _many_halves(log_softmax: Callable[[jax.Array], jax.Array]) -> Array:
    return np.asarray(jax.grad(lambda x: log_softmax(x).sum())(jnp.asarray(_HALVES)), np.float64)


def _many_halves_exactly() -> Array:
    e = np.exp(_HALVES.astype(np.float64))
    return 1 - e.size * (e / e.sum())


# As many as float16 cannot count. Every other weight is next to nothing, so that no gradient is nearly 0.
_HALVES = np.where(np.arange(2**16) % 2, -16, 0).astype(np.float16)


def _scaled_scores(softmax: Callable[[jax.Array], jax.Array]) -> Array:
    scores = jnp.asarray(_SCORES, jnp.float32)
    return np.asarray(jax.jit(lambda x: softmax(x * 0.7))(scores), np.float64).ravel()


def _scaled_scores_exactly() -> Array:
    return np.equal(_SCORES, _SCORES.max(-1, keepdims=True)).astype(np.float64).ravel()


# Farther apart than any rounding: one weight of each row is 1, and the others are 0.
_SCORES = np.random.default_rng(0).uniform(-2.5e21, 2.5e21, (3, 8)).astype(np.float32)

# Where y (1 - y) and its like first round to 0, the number of most reports.
_FIRST = 37.42994775023705

REPORTS = (
    Report(
        "jax 37234",
        "`softmax` under jit of scores near 1e21 times a scale",
        "float32",
        "value",
        lambda: _scaled_scores(jax.nn.softmax),
        lambda: _scaled_scores(lambda x: jaxact.softmax(x, dim=-1)),
        _scaled_scores_exactly,
    ),
    of_one_number("jax 39795", "jax.nn", "elu", 1, -40.0, "float64"),
    of_one_number("jax 39796", "jax.nn", "selu", 1, -700.0, "float64"),
    of_one_number("jax 39798", "jax.nn", "silu", 1, -709.0, "float64"),
    of_one_number("jax 40342", "jax.nn", "sigmoid", 1, 40.0, "float64"),
    of_one_number("jax 40343", "jax.nn", "tanh", 1, 20.0, "float64"),
    of_one_number("jax 40383", "jax.nn", "logsigmoid", 2, -_FIRST, "float64"),
    of_one_number("jax 40385", "jax.nn", "sigmoid", 1, _FIRST, "float64"),
    # jax.nn has no threshold, above which torch's softplus is x.
    of_one_number("jax 40387", "jax.nn", "softplus", 2, _FIRST, "float64", threshold=1000.0),
    of_one_number("jax 40388", "jax.nn", "tanh", 1, -9.010913848876953, "float32"),
    Report(
        "jax 40409",
        "gradient of the sum of `log_softmax` of 65,536 numbers",
        "float16",
        "derivative",
        lambda: _many_halves(jax.nn.log_softmax),
        lambda: _many_halves(lambda x: jaxact.log_softmax(x, dim=-1)),
        _many_halves_exactly,
    ),
    of_one_number("pytorch 185770, 187293", "torch", "gelu", 0, float("inf"), "float32"),
    of_one_number("pytorch 187806", "torch", "gelu", 0, -5.5, "float32"),
    of_one_number("pytorch 187806", "torch", "gelu", 0, -10.0, "float64"),
    of_one_number("pytorch 195527", "torch", "sigmoid", 1, 40.0, "float64"),
    of_one_number("pytorch 195527", "torch", "sigmoid", 2, 40.0, "float64"),
    of_one_number("pytorch 195527", "torch", "tanh", 1, 20.0, "float64"),
    of_one_number("pytorch 195527", "torch", "tanh", 2, 20.0, "float64"),
    of_one_number("pytorch 195679", "torch", "logsigmoid", 2, _FIRST, "float64"),
    of_one_number("pytorch 195681", "torch", "sigmoid", 1, _FIRST, "float64"),
    of_one_number("pytorch 195682", "torch", "silu", 2, 40.410841513445845, "float64"),
    of_one_number("pytorch 195685", "torch", "tanh", 1, -9.010913848876953, "float32"),
)

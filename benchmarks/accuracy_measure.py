"""What the libraries give, how far that is from the exact results, and which program gave it."""

import contextlib
import functools
import hashlib
import inspect
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from reference import CASES, GENERAL, ORDERS, WINDOW_ERROR, WINDOW_ERROR_64, Case, is_kept, is_normal, ulp

import jaxact
from jaxact.bench.jax_nn import JAX_NN
from jaxact.catalog import BY_NAME
from jaxact.interop import to_numpy, to_torch
from jaxact.interop.counterparts import counterpart

Floats = np.ndarray[Any, Any]
Results = dict[str, Floats]


# Running the libraries

# Every case by its name.
ALL = CASES | GENERAL
# What else than the value and the derivative there is, the last by the first parameter that is listed.
SECOND, BY_PARAMETER = "second derivative", "derivative by parameter"


def has(library: str, case: Case) -> bool:
    """Say whether a library has the function of a case, with its parameters: jax.nn lacks some."""
    if library != "jax.nn":
        return True
    function = JAX_NN.get(case.function)
    return function is not None and case.parameters.keys() <= inspect.signature(function).parameters.keys()


@functools.cache
def runner(library: str, name: str, orders: tuple[str, ...] = ORDERS) -> Callable[[Floats], Results]:
    """Return the function that gives a library's value and derivatives at a NumPy array.

    Args:
        library: One of LIBRARIES.
        name: One of ALL.
        orders: What to give: of ORDERS, SECOND, and in JAX BY_PARAMETER.
    """
    if library == "torch":
        return functools.partial(_run_torch, ALL[name], orders)
    return functools.partial(_run_jax, compiled(library, name, orders))


@functools.cache
def compiled(library: str, name: str, orders: tuple[str, ...] = ORDERS) -> dict[str, Any]:
    """Return the jitted functions that give the value and the derivatives in jaxact or jax.nn."""
    return {order: jax.jit(function) for order, function in functions(library, name, orders).items()}


def functions(library: str, name: str, orders: tuple[str, ...]) -> dict[str, Any]:
    """Return the same as they run outside of jit, one operation and one kernel of jaxact after the other."""
    case = ALL[name]
    function = (JAX_NN if library == "jax.nn" else vars(jaxact))[case.function]

    def value(x: jax.Array) -> jax.Array:
        return function(x, **case.parameters)

    def by_parameter(x: jax.Array) -> jax.Array:
        (name, number), *others = case.parameters.items()
        p = jnp.asarray(number, x.dtype)
        return jax.jvp(lambda p: function(x, **{name: p}, **dict(others)), (p,), (jnp.ones_like(p),))[1]

    slope = _derivative(value)
    known = {"value": value, "derivative": slope, SECOND: _derivative(slope), BY_PARAMETER: by_parameter}
    return {order: known[order] for order in orders}


def _derivative(function: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
    def derivative(x: jax.Array) -> jax.Array:
        y, pull_back = jax.vjp(function, x)
        return pull_back(jnp.ones_like(y))[0]

    return derivative


def _run_jax(functions: dict[str, Any], x: Any) -> Results:
    return {order: np.asarray(function(jnp.asarray(x))) for order, function in functions.items()}


def _run_torch(case: Case, orders: tuple[str, ...], x: Any) -> Results:
    tensor = to_torch(x, copy=True).requires_grad_()
    y = counterpart(BY_NAME[case.function], case.parameters, tensor)(tensor)
    second = SECOND in orders
    (dx,) = torch.autograd.grad(y, tensor, torch.ones_like(y), create_graph=second)
    results = {"value": to_numpy(y.detach()), "derivative": to_numpy(dx.detach())}
    if second:  # that of a piecewise linear function depends on nothing
        ddx = torch.autograd.grad(dx, tensor, torch.ones_like(dx))[0] if dx.requires_grad else torch.zeros_like(dx)
        results[SECOND] = to_numpy(ddx)
    return {order: results[order] for order in orders}


@contextlib.contextmanager
def precision(dtype: str) -> Iterator[None]:
    """Have JAX in 64-bit mode for float64, and as it was afterwards."""
    before = jax.config.jax_enable_x64  # type: ignore[attr-defined]  # JAX makes its options at run time
    jax.config.update("jax_enable_x64", dtype == "float64")
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


def versions(library: str) -> dict[str, str]:
    """Return the versions of what computes in a library."""
    found = {"jaxact": jaxact.__version__, "jax": jax.__version__, "torch": torch.__version__.partition("+")[0]}
    return {
        name: found[name] for name in {"jaxact": ("jaxact", "jax"), "torch": ("torch",), "jax.nn": ("jax",)}[library]
    }


def device(library: str) -> str:
    """Return what kind of device computes: "cpu", or the one that JAX takes."""
    return "cpu" if library == "torch" else jax.default_backend()


def program(library: str, functions: Iterable[Any], shape: tuple[int, ...], dtype: str) -> str:
    """Return a digest of what computes: while it stays, so does what the functions give.

    It is made of the version of JAX or torch, of the device and, under JAX, of the program that is handed to its
    compiler. That program says all about jaxact, whose version is left out, as are the names of functions in it.

    Args:
        library: The library.
        functions: Jitted functions, of no account for torch.
        shape: The shape to compile them for.
        dtype: The type, likewise.
    """
    parts = [device(library), *(v for name, v in versions(library).items() if name != "jaxact")]
    if library != "torch":
        with precision(dtype):
            x = jax.ShapeDtypeStruct(shape, dtype)
            parts += [nameless(function.lower(x).as_text()) for function in functions]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def nameless(text: str) -> str:
    """Return a program with its functions numbered."""
    numbers: dict[str, int] = {}
    return re.sub(r"@\w+", lambda name: f"@{numbers.setdefault(name[0], len(numbers))}", text)


# Measuring


@dataclass
class Errors:
    """The errors of one library on some inputs, of the value or of the derivative.

    Attributes:
        inputs: How many inputs there were, without NaN.
        counted: At how many the bounds apply, the exact result being a normal number, and the one given is not NaN;
            the next five are about these.
        largest: The largest error in ULPs, infinite where the exact result is infinite and the one given is not.
        at: Where that is.
        total: The sum of the errors in ULPs.
        right: How many results are the correctly rounded ones.
        lost: How many results are off by more than half of the exact one, such as 0 instead of a normal number.
        nan: How many results are NaN where the exact one is not.
        reversals: How often a value falls, from one input to the next, where the function is monotone and the exact
            value does not fall.
        subnormal: The largest error where the exact result is 0 or subnormal, in units of the smallest normal number.
        window: The largest absolute error, of those that are forgiven, around the derivative's zero.
        profile: The largest error in ULPs in each of BINS parts of the bit patterns, infinite where one is NaN.
    """

    inputs: int = 0
    counted: int = 0
    largest: float = 0.0
    at: float | None = None
    total: float = 0.0
    right: int = 0
    lost: int = 0
    nan: int = 0
    reversals: int = 0
    subnormal: float = 0.0
    window: float = 0.0
    profile: dict[int, float] = field(default_factory=dict)

    def add(self, other: "Errors") -> None:
        """Take in the errors on other inputs."""
        if other.largest > self.largest:
            self.largest, self.at = other.largest, other.at
        for count in ("inputs", "counted", "total", "right", "lost", "nan", "reversals"):
            setattr(self, count, getattr(self, count) + getattr(other, count))
        self.subnormal = max(self.subnormal, other.subnormal)
        self.window = max(self.window, other.window)
        for key, largest in other.profile.items():
            self.profile[key] = max(largest, self.profile.get(key, 0.0))


def figures(errors: Errors) -> dict[str, Any]:
    """Return errors as data."""
    return {
        "inputs": errors.inputs,
        "counted": errors.counted,
        "largest": _json_number(errors.largest),
        "at": errors.at,
        "mean": _json_number(errors.total / max(errors.counted, 1)),
        "correctly_rounded": errors.right / max(errors.counted, 1),
        "nan": errors.nan,
        "reversals": errors.reversals,
        "subnormal": _json_number(errors.subnormal),
        "window": errors.window,
    }


def _json_number(value: float) -> float | str:
    """Return a number as JSON has it, which knows no infinity: as "inf", which ``float`` reads."""
    return value if math.isfinite(value) else str(value)


class Truth:
    """The exact results of a case at a block of inputs, and how far from them the results of a library are.

    Args:
        case: The case.
        order: Which results.
        x: The inputs, of the type to judge; ascending or descending, if monotonicity is to be judged.
        exact: The exact results, in float64.
        bins: The bin of each input, ascending.
        rest: What rounding to float64 has taken from the exact results, for results in float64.
    """

    def __init__(
        self, case: Case, order: str, x: Floats, exact: Floats, bins: Floats, rest: Floats | float = 0.0
    ) -> None:
        wide = x.astype(np.float64)
        self.order, self.x, self.exact, self.rest = order, x, exact, rest
        kept = is_kept(wide, x.dtype)
        self.known = ~np.isnan(x)
        self.inputs = int(np.count_nonzero(self.known))
        self.counted = kept & is_normal(exact, x.dtype)
        self.tiny = float(jnp.finfo(x.dtype).smallest_normal)
        self.subnormal = kept & (np.abs(exact) < self.tiny)
        self.infinite = np.isinf(exact)
        self.in_window = case.in_window(order, wide)
        self.window_error = WINDOW_ERROR_64 if x.dtype == np.float64 else WINDOW_ERROR
        self.ulp = ulp(exact, x.dtype)
        self.rounded = exact.astype(x.dtype)
        self.direction = np.sign(wide[-1] - wide[0]) if case.monotone and order == "value" else 0
        # As softplus does where it becomes x: a step that no float32 sees.
        self.falls = np.diff(exact) * self.direction <= -self.ulp[1:] if self.direction else np.zeros(0, bool)
        self.bins, self.starts = np.unique(bins, return_index=True)

    def errors(self, y: Floats) -> Errors:
        """Return the errors of the results ``y``."""
        nan = np.isnan(y) & self.known
        error = np.abs((y.astype(np.float64) - self.exact) - self.rest)
        if nan.any():
            error[nan] = 0
        counted = self.counted & ~nan
        forgiven = 0.0
        if self.in_window.any():
            small = self.in_window & (error <= self.window_error)
            counted &= ~small
            forgiven = error[small].max(initial=0)
        ulps = np.where(counted, error / self.ulp, 0)
        if self.infinite.any():
            ulps[self.infinite & ~nan & (y != self.exact)] = np.inf
        worst = ulps.argmax()
        profile = np.maximum.reduceat(np.where(nan, np.inf, ulps) if nan.any() else ulps, self.starts)
        return Errors(
            inputs=self.inputs,
            counted=int(np.count_nonzero(counted)),
            largest=float(ulps[worst]),
            at=float(self.x[worst]),
            total=float(ulps.sum()),
            right=int(np.count_nonzero(counted & (y == self.rounded))),
            lost=int(np.count_nonzero(counted & (error > 0.5 * np.abs(self.exact)))),
            nan=int(np.count_nonzero(nan)),
            reversals=self._reversals(y) if self.direction else 0,
            subnormal=float(error[self.subnormal].max() / self.tiny) if self.subnormal.any() else 0.0,
            window=float(forgiven),
            profile=dict(zip(self.bins.tolist(), profile.tolist(), strict=True)),
        )

    def _reversals(self, y: Floats) -> int:
        """Return how often the results fall where the exact ones do not."""
        return int(np.count_nonzero((np.diff(y) * self.direction < 0) & ~self.falls))

"""What the libraries give, how far that is from the exact results, and which program gave it."""

import functools
import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from reference import CASES, WINDOW_ERROR, Case, is_kept, is_normal, ulp

import jaxact
from jaxact.interop import to_numpy, to_torch
from jaxact.interop.speed import JAX_NN

Floats = np.ndarray[Any, Any]
Results = dict[str, Floats]


# Running the libraries


def has(library: str, case: Case) -> bool:
    """Say whether a library has the function of a case: jax.nn lacks some."""
    return library != "jax.nn" or case.function in JAX_NN


@functools.cache
def runner(library: str, name: str) -> Callable[[Floats], Results]:
    """Return the function that gives a library's value and derivative at a NumPy array.

    Args:
        library: One of LIBRARIES.
        name: One of CASES.
    """
    case = CASES[name]
    if library == "torch":
        return functools.partial(_run_torch, getattr(torch.nn.functional, case.function), case)
    return functools.partial(_run_jax, compiled(library, name))


@functools.cache
def compiled(library: str, name: str) -> dict[str, Any]:
    """Return the jitted functions that give the value and the derivative in jaxact or jax.nn."""
    case = CASES[name]
    functions = JAX_NN if library == "jax.nn" else vars(jaxact)
    function = functools.partial(functions[case.function], **case.parameters)

    def derivative(x: jax.Array) -> jax.Array:
        y, pull_back = jax.vjp(function, x)
        return pull_back(jnp.ones_like(y))[0]

    return {"forward": jax.jit(function), "derivative": jax.jit(derivative)}


def _run_jax(functions: dict[str, Any], x: Any) -> Results:
    return {order: np.asarray(function(x)) for order, function in functions.items()}


def _run_torch(function: Callable[..., torch.Tensor], case: Case, x: Any) -> Results:
    tensor = to_torch(x, copy=True).requires_grad_()
    y = function(tensor, **case.parameters)
    (dx,) = torch.autograd.grad(y, tensor, torch.ones_like(y))
    return {"forward": to_numpy(y), "derivative": to_numpy(dx)}


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
        x = jax.ShapeDtypeStruct(shape, dtype)
        parts += [_nameless(function.lower(x).as_text()) for function in functions]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _nameless(text: str) -> str:
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
            the next four are about these.
        largest: The largest error in ULPs.
        at: Where that is.
        total: The sum of the errors in ULPs.
        right: How many results are the correctly rounded ones.
        nan: How many results are NaN where the exact one is not.
        reversals: How often a value falls, from one input to the next, where the function is monotone.
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
    nan: int = 0
    reversals: int = 0
    subnormal: float = 0.0
    window: float = 0.0
    profile: dict[int, float] = field(default_factory=dict)

    def add(self, other: "Errors") -> None:
        """Take in the errors on other inputs."""
        if other.largest > self.largest:
            self.largest, self.at = other.largest, other.at
        for count in ("inputs", "counted", "total", "right", "nan", "reversals"):
            setattr(self, count, getattr(self, count) + getattr(other, count))
        self.subnormal = max(self.subnormal, other.subnormal)
        self.window = max(self.window, other.window)
        for key, largest in other.profile.items():
            self.profile[key] = max(largest, self.profile.get(key, 0.0))


class Truth:
    """The exact results of a case at a block of inputs, and how far from them the results of a library are.

    Args:
        case: The case.
        order: One of ORDERS.
        x: The inputs, of the type to judge; ascending or descending, if monotonicity is to be judged.
        exact: The exact results, in float64.
        bins: The bin of each input, ascending.
    """

    def __init__(self, case: Case, order: str, x: Floats, exact: Floats, bins: Floats) -> None:
        wide = x.astype(np.float64)
        self.x, self.exact = x, exact
        kept = is_kept(wide, x.dtype)
        self.known = ~np.isnan(x)
        self.inputs = int(np.count_nonzero(self.known))
        self.counted = kept & is_normal(exact, x.dtype)
        self.tiny = float(jnp.finfo(x.dtype).smallest_normal)
        self.subnormal = kept & (np.abs(exact) < self.tiny)
        self.in_window = case.in_window(order, wide)
        self.ulps = 1 / ulp(exact, x.dtype)
        self.rounded = exact.astype(x.dtype)
        self.direction = np.sign(wide[-1] - wide[0]) if case.monotone and order == "forward" else 0
        self.bins, self.starts = np.unique(bins, return_index=True)

    def errors(self, y: Floats) -> Errors:
        """Return the errors of the results ``y``."""
        nan = np.isnan(y) & self.known
        error = np.abs(y.astype(np.float64) - self.exact)
        if nan.any():
            error[nan] = 0
        counted = self.counted & ~nan
        forgiven = 0.0
        if self.in_window.any():
            small = self.in_window & (error <= WINDOW_ERROR)
            counted &= ~small
            forgiven = error[small].max(initial=0)
        ulps = np.where(counted, error * self.ulps, 0)
        worst = ulps.argmax()
        profile = np.maximum.reduceat(np.where(nan, np.inf, ulps) if nan.any() else ulps, self.starts)
        return Errors(
            inputs=self.inputs,
            counted=int(np.count_nonzero(counted)),
            largest=float(ulps[worst]),
            at=float(self.x[worst]),
            total=float(ulps.sum()),
            right=int(np.count_nonzero(counted & (y == self.rounded))),
            nan=int(np.count_nonzero(nan)),
            reversals=int(np.count_nonzero(np.diff(y) * self.direction < 0)) if self.direction else 0,
            subnormal=float(error[self.subnormal].max() / self.tiny) if self.subnormal.any() else 0.0,
            window=float(forgiven),
            profile=dict(zip(self.bins.tolist(), profile.tolist(), strict=True)),
        )

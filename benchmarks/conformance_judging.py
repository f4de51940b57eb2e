"""Whether what jaxact gives for a call is right, beside torch's results and the exact ones."""

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from conformance_calls import Array, Call, Results, cotangent, run_torch
from conformance_exact import definition, exactly, exactly_attention, largest_errors
from conformance_tally import Tally
from reference import BOUNDS, CASES, SUBNORMAL_BOUND, WINDOW, WINDOW_ERROR, ulp

from jaxact.catalog import BY_NAME

Mask = np.ndarray[Any, np.dtype[np.bool_]]

# How many numbers of an array mpmath is asked for at most: torch's arrays have up to a million. Half are those where
# jaxact is farthest from torch, and half are spread evenly over the others.
MOST = 2000
# A multiple of how many numbers torch's code for long arrays takes at a time.
VECTOR = 64
# The largest error of complex numbers, in ULPs of their modulus.
COMPLEX_BOUNDS = {"value": 8.0, "derivative": 16.0}


def distance(y: Array, exact: Array) -> Array:
    """Return how far results are from the exact ones; 0 where both are NaN or the same infinity.

    An infinity counts as the number at which the dtype of ``y`` overflows, so that a result may round to it.
    """
    overflow = 2.0 ** jnp.finfo(y.dtype).maxexp if jnp.finfo(y.dtype).maxexp < 1024 else np.inf
    total = np.zeros(y.shape)
    for part in (np.real, np.imag) if np.iscomplexobj(y) else (np.real,):
        a, b = np.clip(part(y).astype(np.float64), -overflow, overflow), np.clip(part(exact), -overflow, overflow)
        difference = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
        total = np.hypot(total, np.where(np.isnan(difference), np.inf, difference))
    return total


@dataclass(frozen=True, eq=False)
class Comparison:
    """An array from jaxact beside torch's and the exact one.

    Attributes:
        order: "value" or "derivative".
        alone: Whether each number comes from one number.
        ours: jaxact's, floats or complex numbers.
        theirs: torch's, of the same dtype.
        exact: The exact results, in float64 or complex128.
        forgiven: How far off a number may be whatever its size.
        unjudged: Where the exact results are not known.
    """

    order: str
    alone: bool
    ours: Array
    theirs: Array
    exact: Array
    forgiven: Array | float = 0.0
    unjudged: Mask | bool = False

    @functools.cached_property
    def error(self) -> Array:
        """The errors of jaxact."""
        return distance(self.ours, self.exact)

    @functools.cached_property
    def ulps(self) -> tuple[Array, Array]:
        """The errors of jaxact and torch in ULPs."""
        size = np.abs(np.where(np.isfinite(self.exact), self.exact, 1.0))
        unit = ulp(size, jnp.finfo(self.ours.dtype).dtype)
        return self.error / unit, distance(self.theirs, self.exact) / unit

    @functools.cached_property
    def right(self) -> Mask:
        """Where jaxact is right."""
        tiny = float(jnp.finfo(self.ours.dtype).smallest_normal)
        bound = BOUNDS[str(jnp.finfo(self.ours.dtype).dtype)][self.order]
        ours, theirs = self.ulps
        if np.iscomplexobj(self.ours):
            farthest = np.max(theirs, initial=0.0, where=np.isfinite(theirs))
            bound, theirs = COMPLEX_BOUNDS[self.order], np.maximum(theirs, farthest)
        right = (ours <= np.maximum(bound, 2 * theirs)) | (self.error <= self.forgiven)
        right |= (np.abs(self.exact) < tiny) & (self.error <= SUBNORMAL_BOUND * tiny)
        right |= self.unjudged
        return right & ~self.lost(self.ours)

    def lost(self, y: Array) -> Mask:
        """Return where results are NaN and the exact one is not, or, alone, 0 where it is a normal number."""
        normal = np.abs(self.exact) >= float(jnp.finfo(y.dtype).smallest_normal)
        return (np.isnan(y) & ~np.isnan(self.exact)) | (self.alone & (y == 0) & normal)


def compared(call: Call, what: str, ours: Array, theirs: Array, exact: Array) -> Comparison:
    """Compare a result with torch's, and with better ones than its in float64 where these are not exact."""
    order = "value" if what.startswith("output") else "derivative"
    row = BY_NAME[call.name]
    alone = row.elementwise and what in ("output 0", f"gradient of {call.first}")  # else mpmath does not decide
    comparison = Comparison(order, alone, ours, theirs, exact)
    if alone:
        multiple = np.ones(exact.shape) if order == "value" else cotangent(exact.shape)
        comparison = dataclasses.replace(comparison, forgiven=_around_zeros(call, order) * np.abs(multiple))
        doubtful = ~comparison.right | np.isnan(exact)
        if not row.piecewise:
            doubtful |= (exact == 0) & (call.x != 0)  # a tail that is lost in float64 too, where jaxact may lose it
        if doubtful.any() and definition(call) is not None:
            undefined = doubtful & np.isnan(call.x)
            exact, chosen = exact.copy(), undefined | _chosen(doubtful & ~undefined, comparison.ulps[0])
            exact[chosen] = exactly(call, order, call.x[chosen].astype(exact.dtype)) * multiple[chosen]
            unjudged = doubtful & ~chosen
            comparison = dataclasses.replace(comparison, exact=exact, unjudged=unjudged)
        return comparison
    if call.name == "multi_head_attention_forward" and order == "derivative" and call.dtype == torch.float64:
        wrong = ~comparison.right  # torch's float64, which cancels where a weight is nearly 1, does not decide it
        if wrong.any():
            exact = exact.copy()
            exact[wrong] = exactly_attention(call, what, wrong)
            comparison = dataclasses.replace(comparison, exact=exact)
    if not comparison.right.all() and not np.iscomplexobj(ours):
        comparison = dataclasses.replace(comparison, forgiven=2 * largest_errors(call)[what])
    return comparison


def _chosen(doubtful: Mask, error: Array) -> Mask:
    """Return at most MOST of the doubtful numbers."""
    by_error = np.flatnonzero(doubtful)[np.argsort(-error[doubtful], kind="stable")]
    others = by_error[MOST // 2 :]
    spread = others[np.linspace(0, others.size - 1, min(others.size, MOST // 2)).astype(int)]
    chosen = np.zeros(doubtful.shape, bool)
    chosen.flat[np.append(by_error[: MOST // 2], spread)] = True
    return chosen


def _around_zeros(call: Call, order: str) -> Array | float:
    """Return the absolute error that is allowed, for a derivative around its own zero."""
    zeros = [case.zero for case in CASES.values() if case.function == call.name and case.zero is not None]
    if order == "value" or not zeros or np.iscomplexobj(call.x):
        return 0.0
    nearest = np.min([np.abs(call.x.astype(np.float64) - zero) for zero in zeros], axis=0)
    return np.where(nearest <= WINDOW, WINDOW_ERROR, 0.0)


def judge(call: Call, theirs: Results, ours: Results, tally: Tally) -> None:
    """Judge what jaxact gives for a call that both take, and write down what comes of it."""
    exact = run_torch(call.widened())
    for what, result in theirs.items():
        tally.outputs += what.startswith("output")
        tally.gradients += what.startswith("gradient")
        tally.numbers += result.size
        error = _unlike(ours[what], result) or _unequal(ours[what], result)
        if error is None and result.dtype.kind not in "biu":
            with np.errstate(all="ignore"):
                comparison = compared(call, what, ours[what], result, exact[what])
                error = _off(comparison, call.x) or _other_zero(comparison, call)
                tally.unjudged += int(np.count_nonzero(comparison.unjudged))
                if exact[what].dtype != result.dtype:
                    tally.add(comparison)
        if error is not None:
            tally.misses.append(f"{call}: {what}{error}")


def _unlike(ours: Array, theirs: Array) -> str | None:
    if (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype):
        return None
    return f" is {ours.dtype}{list(ours.shape)}, torch's {theirs.dtype}{list(theirs.shape)}"


def _unequal(ours: Array, theirs: Array) -> str | None:
    if ours.dtype.kind not in "biu" or (ours == theirs).all():
        return None
    where = _first(ours != theirs)
    return f"{list(where)} is {ours[where]}, torch's {theirs[where]}"


def _off(c: Comparison, x: Array) -> str | None:
    if c.right.all():
        return None
    where = _first(~c.right)
    ours, theirs = (errors[where] for errors in c.ulps)
    at = f" at {x[where]!r}" if c.alone else ""
    return (
        f"{list(where)}{at} is {c.ours[where]!r}, torch's {c.theirs[where]!r}, exact {c.exact[where]!r}: "
        f"{ours:.3g} ULP, torch {theirs:.3g} ({np.count_nonzero(~c.right):,} of {c.ours.size:,} numbers)"
    )


def _other_zero(c: Comparison, call: Call) -> str | None:
    """Return what to say where a value is not the zero that torch has at both precisions, and in long arrays."""
    if not c.alone or c.order != "value" or np.iscomplexobj(c.ours):
        return None
    ours, theirs, exact = (np.signbit(y.astype(np.float64)) for y in (c.ours, c.theirs, c.exact))
    other = (c.ours == 0) & (c.theirs == 0) & (c.exact == 0) & (ours != theirs) & (exact == theirs)
    if other.any() and definition(call) is not None:
        long = torch.from_numpy(np.repeat(call.x[other].astype(np.float64), VECTOR)).to(call.dtype)
        again = run_torch(call.replaced(**{call.first: long}))["output 0"][::VECTOR]
        other[other] = np.signbit(again.astype(np.float64)) != ours[other]
    if not other.any():
        return None
    where = _first(other)
    return f"{list(where)} at {call.x[where]!r} is {c.ours[where]!r}, torch's {c.theirs[where]!r}"


def _first(mask: Mask) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(mask)[0])

"""The verdict on one array: is the port as near to the exact value as rounding lets torch be.

No tolerance is given by anyone. Torch's function in float64 is the reference, and two rules say how far from it the
port may be. The array's rule: no farther than ``ARRAY_FACTOR`` times torch's own largest error in the array, or what
rounding does there where torch has less. That rule alone is blind beside one huge element, so each element
has a rule too: no farther than ``ELEMENT_FACTOR`` times what rounding does to this element, measured by running torch
in float64 with every operation's result disturbed by as much as it would be rounded.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxact.interop.ulps import ulp_distance

from .report import Element, Row

# Both factors and the floors are measured on right and wrong ports, see docs/crosscheck.md.
ARRAY_FACTOR = 3.0
ELEMENT_FACTOR = 32.0
ARRAY_NOISE = 2.0  # of the most that roundings move an element, by root mean square
ARRAY_FLOOR = 2.0  # roundings (eps) of the array's largest value
ELEMENT_FLOOR = 4.0  # units in the last place of the element


MakeRow = Callable[..., Row]


@dataclasses.dataclass(frozen=True)
class Reference:
    """One array of torch's.

    Attributes:
        native: In the dtype that torch computes it in.
        exact: Computed in float64.
        noise: How far roundings move each element, by root mean square; None where that was not measured.
    """

    native: np.ndarray
    exact: np.ndarray
    noise: np.ndarray | None = None


def judge(
    name: str, kind: str, port: np.ndarray, reference: Reference, x: np.ndarray | None, max_ulp: float | None
) -> Row:
    """Return the row of one array.

    Args:
        name: Its name.
        kind: Its kind.
        port: The port's array.
        reference: torch's.
        x: The input that each element stems from, if it has the same shape.
        max_ulp: How many units in the last place the port may be from torch, instead of the rules above.
    """
    native = reference.native
    row = functools.partial(Row, name=name, kind=kind, dtype=port.dtype.name, shape=port.shape)
    differs = functools.partial(row, passed=False, ulps=math.inf, absolute=math.inf, ratio=math.inf)
    if port.shape != native.shape:
        return differs(verdict=f"shape: torch has {native.shape}")
    if not _same_dtype(port.dtype, native.dtype):
        return differs(verdict=f"dtype: torch has {native.dtype.name}")
    if port.size == 0:
        return row(passed=True, verdict="equal")
    if port.dtype.kind in "biu":
        return _judge_integers(row, port, native.astype(port.dtype), x)
    parts = [(port.real, native.real, reference.exact.real), (port.imag, native.imag, reference.exact.imag)]
    rows = [
        _judge_floats(row, *part, reference.noise, x, max_ulp)
        for part in (parts if port.dtype.kind == "c" else [(port, native, reference.exact)])
    ]
    return min(rows, key=lambda judged: (judged.passed, -judged.ratio))


def _same_dtype(port: np.dtype, torch: np.dtype) -> bool:
    """Say whether the dtypes agree; JAX may hold torch's integers of 64 bits in 32."""
    return port == torch or (port.kind == torch.kind and port.kind in "iu")


def _judge_integers(row: MakeRow, port: np.ndarray, torch: np.ndarray, x: np.ndarray | None) -> Row:
    distance = ulp_distance(port, torch)
    index = np.unravel_index(int(distance.argmax()), port.shape)
    largest = float(distance.max())
    worst = _element(index, x, port, torch, torch) if largest else None
    verdict = "differs" if largest else "equal"
    ratio = np.inf if largest else 0.0
    return row(passed=not largest, verdict=verdict, ulps=largest, absolute=largest, ratio=ratio, worst=worst)


def _judge_floats(
    row: MakeRow,
    port: np.ndarray,
    native: np.ndarray,
    exact: np.ndarray,
    noise: np.ndarray | None,
    x: np.ndarray | None,
    max_ulp: float | None,
) -> Row:
    finfo = jnp.finfo(port.dtype)
    eps, least = float(finfo.eps), float(finfo.smallest_subnormal)
    with np.errstate(all="ignore"):
        wide, theirs, exact = port.astype(np.float64), native.astype(np.float64), exact.astype(np.float64)
        ulps = ulp_distance(port, native)
        same = ulps == 0
        error, own = _distance(wide, exact), _distance(theirs, exact)
        finite = np.isfinite(exact) & np.isfinite(theirs)
        scale = float(np.abs(exact, where=finite, out=np.zeros(exact.shape)).max())
        largest_own = float(own.max(where=finite, initial=0.0))
        if noise is not None:  # torch's error is one draw, which may be small by luck; in float64 it has none
            largest_own = max(largest_own, ARRAY_NOISE * float(noise.max(where=finite, initial=0.0)))
        floor = ARRAY_FLOOR * eps * scale
        allowed = np.full(exact.shape, ARRAY_FACTOR * max(largest_own, floor, least))
        if noise is not None:
            rounding = ELEMENT_FACTOR * np.maximum(np.where(np.isfinite(own), own, 0), noise)
            # XLA's code flushes what is below the normal numbers to zero, of float16 where it computes, in float32.
            flushed = max(least, min(float(finfo.tiny), float(np.finfo(np.float32).tiny)))
            spacing = np.maximum(np.abs(exact) * eps, flushed)
            allowed = np.minimum(allowed, np.maximum(rounding, ELEMENT_FLOOR * spacing))
        passed = same | (error <= allowed) if max_ulp is None else ulps <= max_ulp
        excess = np.where(same, 0, error / allowed) if max_ulp is None else ulps
        excess = np.where(np.isnan(excess), np.inf, excess)
    index = np.unravel_index(int(excess.argmax()), port.shape)
    error = np.where(same, own, error)  # both are NaN or infinite
    largest = float(np.where(np.isfinite(own) | ~same, error, 0).max())
    ratio = float(largest / max(largest_own, floor, least))
    if not passed.all():
        verdict = "differs"
        if (np.isnan(wide) != np.isnan(theirs)).any():
            verdict = "NaN on one side"
    elif same.all():
        verdict = "equal"
    else:
        verdict = "nearer than torch" if largest < largest_own else "within rounding"
    absolute = float(np.where(same, 0, _distance(wide, theirs)).max())
    worst = None if same.all() else _element(index, x, wide, theirs, exact)
    return row(
        passed=bool(passed.all()),
        verdict=verdict,
        ulps=float(ulps.max()),
        absolute=absolute,
        ratio=ratio,
        worst=worst,
    )


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return ``|a - b|``; infinite where one is NaN or infinite and the other is something else."""
    with np.errstate(invalid="ignore"):
        difference = np.abs(a - b)
    equal = (a == b) | (np.isnan(a) & np.isnan(b))
    return np.where(equal, 0, np.where(np.isnan(difference), np.inf, difference))


def _element(
    index: tuple[Any, ...], x: np.ndarray | None, port: np.ndarray, torch: np.ndarray, exact: np.ndarray
) -> Element:
    values = [float(array[index]) for array in (port, torch, exact)]
    at = None if x is None or x.dtype.kind == "c" else float(x[index])
    return Element(tuple(map(int, index)), at, *values)

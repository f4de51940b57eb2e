"""How far the activations are from the true value where not every input can be tried: on a stratified choice of them.

That is so in float64, at parameters other than the defaults, and of second derivatives. ``accuracy.py`` calls it after
its sweep over all floats.
"""

import datetime
from collections.abc import Iterable
from typing import Any

import exact
import numpy as np
import torch
from accuracy_measure import (
    ALL,
    BY_PARAMETER,
    SECOND,
    Errors,
    Floats,
    Truth,
    compiled,
    device,
    figures,
    functions,
    has,
    precision,
    runner,
    versions,
)
from accuracy_measure import program as digest
from reference import CASES, GENERAL, ORDERS, Case
from strata import stratified

from jaxact.catalog import BY_NAME

DTYPES = ("float32", "float64")
# How many numbers to take from each stratum: where a formula in float64 is exact enough, and where mpmath has to be.
COUNT, COUNT_EXACT = 2**14, 2**9

# Of these, which are no lines and parabolas, the second derivative counts.
SMOOTH = tuple(name for name, case in CASES.items() if not BY_NAME[case.function].piecewise)

Key = tuple[str, str, str]


def keys(names: Iterable[str], dtypes: Iterable[str], libraries: Iterable[str]) -> list[Key]:
    """Return what there is to measure, each as the name of a case, type and library.

    Args:
        names: The functions, or names of CASES.
        dtypes: The types.
        libraries: The libraries.
    """
    return [
        (name, dtype, library)
        for dtype in DTYPES
        for name, case in ALL.items()
        for library in libraries
        if dtype in dtypes
        and {name, case.function} & set(names)
        and has(library, case)
        and orders(name, dtype, library)
    ]


def orders(name: str, dtype: str, library: str) -> tuple[str, ...]:
    """Return what is measured of a case: what the sweep does not do. torch does not differentiate by parameters."""
    if name in GENERAL:
        return ORDERS if library == "torch" else (*ORDERS, BY_PARAMETER)
    swept = () if dtype == "float32" else ORDERS
    return (*swept, SECOND) if name in SMOOTH else swept


def program(name: str, dtype: str, library: str) -> str:
    """Return a digest of what computes: see `accuracy_measure.program`."""
    jitted = () if library == "torch" else compiled(library, name, orders(name, dtype, library)).values()
    return digest(library, jitted, (COUNT,), dtype)


def measure(name: str, dtype: str, libraries: Iterable[str]) -> list[dict[str, Any]]:
    """Return the errors of a case in each library, as data.

    Args:
        name: One of ALL.
        dtype: One of DTYPES.
        libraries: The libraries.
    """
    torch.set_num_threads(1)
    case, records, truths = ALL[name], [], {}
    with np.errstate(all="ignore"), precision(dtype):
        for library in libraries:
            found = {}
            for order in orders(name, dtype, library):
                if order not in truths:
                    truths[order] = truth(case, order, inputs(case, order, dtype))
                found[order] = figures(errors := _errors(library, name, truths[order])) | {"lost": errors.lost}
            records.append(
                {
                    "name": name,
                    "parameters": dict(case.parameters),
                    "dtype": dtype,
                    "library": library,
                    "versions": versions(library),
                    "device": device(library),
                    "program": program(name, dtype, library),
                    "date": datetime.date.today().isoformat(),
                }
                | found
            )
    return records


def _errors(library: str, name: str, truth: Truth) -> Errors:
    """Return the errors of a library within jit, where parameters are constants, and of jaxact where they are not."""
    x, order = truth.x, truth.order
    errors = truth.errors(runner(library, name, (order,))(x)[order])
    if library == "jaxact" and name in GENERAL:
        errors.add(truth.errors(np.asarray(functions(library, name, (order,))[order](x))))
    return errors


def inputs(case: Case, order: str, dtype: str) -> Floats:
    """Return the inputs to judge an order of a case at."""
    x = stratified(case, np.dtype(dtype).type, COUNT if has_formula(order, dtype) else COUNT_EXACT)
    if order not in ORDERS:  # where several functions have no such derivative
        x = x[(x != 0) & ~np.isin(x, case.kinks)]
    if "beta" in case.parameters:  # rounding beta x may move it over the threshold, and either side is right
        (kink,) = case.kinks
        x = x[np.abs(x - kink) > 2 * np.finfo(dtype).eps * abs(kink)]
    return x


def has_formula(order: str, dtype: str) -> bool:
    """Say whether the formulas of reference.py are exact enough."""
    return dtype == "float32" and order in ORDERS


def truth(case: Case, order: str, x: Floats) -> Truth:
    """Return the exact results of an order of a case at x."""
    wide = x.astype(np.float64)
    if has_formula(order, x.dtype.name):
        return Truth(case, order, x, case.exact(wide)[order], np.zeros(x.size))
    times = {"value": 0, "derivative": 1, SECOND: 2, BY_PARAMETER: 1}[order]
    by = next(iter(case.parameters)) if order == BY_PARAMETER else None
    function = getattr(exact, case.function)
    results = [exact.derivatives(function, at, (times,), by, **case.parameters)[0] for at in wide]
    nearest = np.array([float(result) for result in results])
    rest = np.array([float(a - float(b)) if np.isfinite(b) else 0.0 for a, b in zip(results, nearest, strict=True)])
    if order in ORDERS:  # the derivative at a kink is a convention
        kink = np.isin(wide, case.kinks)
        nearest[kink], rest[kink] = case.exact(wide[kink])[order], 0
    return Truth(case, order, x, nearest, np.zeros(x.size), rest)

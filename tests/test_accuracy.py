"""Accuracy: how far values and derivatives are from the exact ones, held to the bounds of benchmarks/reference.py.

Every bfloat16 and float16 and a stratified part of float32 and float64. ``make accuracy`` does all of float32.
"""

import functools
import importlib
import sys
from pathlib import Path

import exact
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mpf

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
accuracy = importlib.import_module("accuracy")
report = importlib.import_module("accuracy_report")
reference = importlib.import_module("reference")

CASES = [pytest.param(case, id=case.name) for case in reference.CASES.values()]
MONOTONE = [parameter for parameter in CASES if parameter.values[0].monotone]
ODD = [parameter for parameter in CASES if parameter.id in ("tanh", "softsign", "tanhshrink", "softshrink", "hardtanh")]
ORDERS = reference.ORDERS

# Where kernels change from one formula to another, saturate or overflow, and where results become subnormal.
CORNERS = (
    0.0,
    0.35,
    0.5,
    0.55,
    1.0,
    1.1,
    3.0,
    6.0,
    8.0,
    9.0,
    13.2,
    14.4,
    17.0,
    20.0,
    44.0,
    64.0,
    87.3,
    88.0,
    88.7,
    104.0,
)
CORNERS += (1e-19, 4e-13, 1e-7, 1e-4, 1e12, 6e12, 1.8e19, 5.7e37)


def every(dtype):
    """Return every number of a 16-bit type but NaN, ascending."""
    x = np.arange(2**16, dtype=np.uint16).view(jnp.dtype(dtype)).astype(np.float32)
    return np.sort(x[~np.isnan(x)]).astype(dtype)


def stratified(case, dtype, count):
    """Return numbers of all magnitudes, dense where the functions bend and their tails end, ascending.

    The neighbours of every corner, kink and zero of the derivative are among them, and both infinities.
    """
    rng = np.random.default_rng(0)
    info = np.finfo(dtype)
    exponents = np.repeat(np.arange(info.minexp, info.maxexp), count // (info.maxexp - info.minexp))
    tail = 1.05 * -np.log(float(info.smallest_normal))
    zero = case.zero or 0.0
    corners = np.array([*CORNERS, *case.kinks, zero, np.cbrt(float(info.smallest_normal)), info.smallest_normal], dtype)
    neighbours = (corners.view(f"i{corners.itemsize}")[:, None] + np.arange(-4, 5)).view(dtype)
    positive = [np.ldexp(rng.uniform(1, 2, exponents.size), exponents), rng.uniform(0, tail, count), neighbours.ravel()]
    positive += [rng.uniform(0, 16, count), np.geomspace(info.smallest_normal, 16 * info.smallest_normal, count // 16)]
    magnitudes = np.abs(np.concatenate(positive)).astype(dtype)
    around_zero = (zero + rng.uniform(-0.3, 0.3, count // 4)).astype(dtype)
    x = np.concatenate([magnitudes, -magnitudes, around_zero, np.array([np.inf, -np.inf], dtype)])
    return np.unique(x[~np.isnan(x)])


@functools.cache
def judged(name, dtype):
    """Return the errors of jaxact on the sample of a type, and its results, by the order of derivation."""
    case = reference.CASES[name]
    x = stratified(case, np.float32, 2**16) if dtype == "float32" else every(dtype)
    results = accuracy.runner("jaxact", name)(x)
    truths = case.exact(x.astype(np.float64))
    with np.errstate(all="ignore"):
        errors = {
            order: accuracy.Truth(case, order, x, truths[order], np.zeros(x.size)).errors(results[order])
            for order in ORDERS
        }
    return x, results, errors


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_bounds(case, dtype, order):
    errors = judged(case.name, dtype)[-1][order]
    assert errors.largest <= reference.BOUNDS[dtype][order], f"{errors.largest} ULP at {errors.at!r}"
    assert errors.subnormal <= reference.SUBNORMAL_BOUND
    assert errors.nan == 0


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_derivative_is_finite_at_finite_inputs(case, dtype):
    x, results, _ = judged(case.name, dtype)
    finite = np.isfinite(results["derivative"].astype(np.float32))
    assert finite.all(), f"{results['derivative'][~finite]} at {x[~finite]}"


@pytest.mark.parametrize("case", MONOTONE)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_monotone(case, dtype):
    assert judged(case.name, dtype)[-1]["forward"].reversals == 0


@pytest.mark.parametrize("case", MONOTONE)
def test_monotone_from_float_to_float(case):
    starts = stratified(case, np.float32, 2**10)
    starts = starts[np.abs(starts) < 2**100]
    x = np.unique((starts.view(np.int32)[:, None] + np.arange(256, dtype=np.int32)).view(np.float32))
    y = accuracy.runner("jaxact", case.name)(x)["forward"]
    falls = np.flatnonzero(np.diff(y) < 0)
    assert not falls.size, f"{falls.size} times, the first from {x[falls[0]]!r} to {x[falls[0] + 1]!r}"


@pytest.mark.parametrize("case", ODD)
def test_odd(case):
    x, _, _ = judged(case.name, "float32")
    run = accuracy.runner("jaxact", case.name)
    results, mirrored = run(x), run(-x)
    np.testing.assert_array_equal(mirrored["forward"], -results["forward"])
    np.testing.assert_array_equal(mirrored["derivative"], results["derivative"])


@pytest.mark.parametrize("case", CASES)
def test_exact_points(case):
    x = np.array([0.0, -0.0, 200.0, -200.0, np.inf, -np.inf], np.float32)
    results = accuracy.runner("jaxact", case.name)(x)
    for order, truth in case.exact(x.astype(np.float64)).items():
        is_float = truth == truth.astype(np.float32)
        np.testing.assert_array_equal(results[order][is_float], truth[is_float])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("order", ORDERS)
def test_float64(case, order, x64):
    x = judicious(case, order, np.float64)
    y = accuracy.runner("jaxact", case.name)(x)[order]
    error, truth = distance(case, order, x, y)
    ulps = error / reference.ulp(truth, np.float64)
    ulps[case.in_window(order, x) & (error <= reference.WINDOW_ERROR)] = 0
    worst = ulps.argmax()
    assert ulps[worst] <= reference.BOUNDS["float64"][order], f"{ulps[worst]} ULP at {x[worst]!r}: {y[worst]!r}"


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("order", ORDERS)
def test_reference(case, order):
    """The float64 formulas are good to a thousandth of a float32 ULP."""
    x = judicious(case, order, np.float32).astype(np.float64)
    error, truth = distance(case, order, x, case.exact(x)[order])
    limit = 1e-3 * reference.ulp(truth, np.float32)
    limit[case.in_window(order, x)] = 1e-3 * reference.WINDOW_ERROR
    assert (error <= limit).all(), x[error > limit]


def judicious(case, order, dtype):
    """Return a few hundred numbers to compute exactly: no kinks, and results that are normal."""
    x = stratified(case, dtype, 4096)
    normal = reference.is_normal(case.exact(x.astype(np.float64))[order], dtype)
    x = x[np.isfinite(x) & reference.is_kept(x, dtype) & ~np.isin(x, case.kinks) & normal]
    return np.random.default_rng(1).choice(x, min(300, x.size), replace=False)


def distance(case, order, x, y):
    """Return how far y is from the results of mpmath at float64 inputs, and those, both as float64."""
    compute = exact.value if order == "forward" else exact.derivative
    truth = [compute(getattr(exact, case.function), at, **case.parameters) for at in x]
    error = [float(abs(mpf(float(a)) - b)) for a, b in zip(y, truth, strict=True)]
    return np.array(error), np.array([float(b) for b in truth])


@pytest.mark.parametrize("case", [case for case in CASES if case.values[0].zero])
def test_the_window_is_around_the_zero(case):
    around = np.nextafter(case.zero, [-2.0, 0.0])
    below, above = (exact.derivative(getattr(exact, case.function), x, **case.parameters) for x in around)
    assert below < 0 < above

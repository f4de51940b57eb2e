"""Accuracy where not every input can be tried: float64, parameters other than the defaults, second derivatives.

A part of what ``make accuracy`` does, against exact results from mpmath.
"""

import accuracy
import accuracy_report as report
import accuracy_strata as strata
import exact
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from accuracy_measure import ALL, BY_PARAMETER, SECOND, figures, functions, precision, runner
from mpmath import mp, mpf

ORDERS = reference.ORDERS
KEYS = strata.keys(accuracy.FUNCTIONS, strata.DTYPES, report.LIBRARIES)
JUDGED = [(*key[:2], order) for key in KEYS if key[2] == "jaxact" for order in strata.orders(*key)]
GENERAL = [pytest.param(case, id=case.name) for case in reference.GENERAL.values()]

# At so many of the inputs an exact result is computed.
FEW = 100


def few(x):
    """Return some of the inputs, ascending."""
    return np.sort(np.random.default_rng(2).choice(x, min(FEW, x.size), replace=False))


def results(name, order, x):
    """Return what jaxact gives: with other parameters as in an eager call, where one kernel does for all of them."""
    with precision(x.dtype.name):
        if name in reference.GENERAL:
            return np.asarray(functions("jaxact", name, (order,))[order](jnp.asarray(x)))
        return runner("jaxact", name, (order,))(x)[order]


def violations(name, order, x, y):
    """Return a line for each bound that the results y exceed."""
    with np.errstate(all="ignore"):
        errors = strata.truth(ALL[name], order, x).errors(y)
    entry = {"name": name, "parameters": {}, "dtype": x.dtype.name, "library": "jaxact"}
    return report.violations([entry | {order: figures(errors) | {"lost": errors.lost}}])


@pytest.mark.parametrize(("name", "dtype", "order"), JUDGED, ids=str)
def test_bounds(name, dtype, order):
    x = strata.inputs(ALL[name], order, dtype)
    y = results(name, order, x)
    assert not np.isnan(y).any(), f"{np.isnan(y).sum()} results are NaN, the first at {x[np.isnan(y)][0]!r}"
    if order != BY_PARAMETER:  # which has no bounds
        chosen = np.isin(x, x if strata.has_formula(order, dtype) else few(x))
        assert violations(name, order, x[chosen], y[chosen]) == []


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("case", GENERAL)
def test_the_formulas_in_float64_are_good_enough_for_float32(case, order):
    x = few(strata.inputs(case, order, "float32")).astype(np.float64)
    formula, truth = case.exact(x)[order], strata.truth(case, order, x)
    normal = reference.is_normal(formula, np.float32)
    error = abs((formula[normal] - truth.exact[normal]) - truth.rest[normal])
    assert (error <= 1e-3 * reference.ulp(formula[normal], np.float32)).all()


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in ALL.items()])
def test_the_exact_derivatives_are_those_of_the_values(case):
    """What the rules of calculus give is what differences over tiny steps give."""
    function = getattr(exact, case.function)

    def value(x, **parameters):
        result = function(exact.Jet(x), **dict(case.parameters) | parameters)
        return result.orders[0] if isinstance(result, exact.Jet) else mpf(result)

    for x in case.scale * np.array([-31.3, -1.7, -0.2, 0.3, 2.9, 40.1]):
        found = exact.derivatives(function, x, **case.parameters)
        with mp.workdps(60):
            expected = [value(mpf(x)), mp.diff(value, x), mp.diff(value, x, 2)]
        assert found == [pytest.approx(number, rel=1e-18, abs=1e-30) for number in expected]
        for name, number in case.parameters.items() if case.name in reference.GENERAL else ():
            (found,) = exact.derivatives(function, x, (1,), name, **case.parameters)
            with mp.workdps(60):
                expected = mp.diff(lambda p, x=x, name=name: value(mpf(x), **{name: p}), number)
            assert found == pytest.approx(expected, rel=1e-18, abs=1e-30)


# What is found


def test_strata_have_every_exponent_every_corner_and_both_infinities():
    for dtype in (np.float32, np.float64):
        info = np.finfo(dtype)
        x = strata.stratified(reference.CASES["gelu"], dtype, 64)
        exponents = np.frexp(x[np.isfinite(x) & (x != 0)])[1] - 1
        wanted = np.arange(info.minexp - info.nmant, info.maxexp)
        for side in (x > 0, x < 0):
            assert np.isin(wanted, np.frexp(x[side & np.isfinite(x)])[1] - 1).all()
        assert exponents.min() == wanted[0]
        assert x[0] == -np.inf
        assert x[-1] == np.inf
        assert np.isin(np.nextafter(dtype(20), dtype([0, 30])), x).all()


def test_what_float64_leaves_of_the_exact_results_counts():
    x = np.linspace(-3, 3, 50)
    truth = strata.truth(ALL["sigmoid"], "value", x)
    assert 0.4 < truth.errors(truth.exact).largest <= 0.5


def test_a_fall_of_the_exact_value_is_none():
    """In float64 one sees that softplus falls from 20 + 2e-9 to 20 at its threshold."""
    x = np.array([19.0, 20.0, np.nextafter(20, 21), 21.0])
    truth = strata.truth(ALL["softplus"], "value", x)
    assert truth.exact[1] > truth.exact[2]
    assert truth.errors(truth.exact).reversals == 0
    assert truth.errors(truth.exact - [0, 2, 0, 0]).reversals == 1


@pytest.mark.parametrize(
    ("name", "order", "wrong", "found"),
    [
        ("sigmoid", "value", lambda x, y: np.where(x < -709.8, np.nan, y), "2 results are NaN"),
        ("sigmoid", "value", lambda x, y: np.where(x < -700, 0, y), "the bound is 32"),
        ("tanh", "derivative", lambda x, y: y * (1 + 65 * 2**-52), "the bound is 64"),
        ("relu", "value", lambda x, y: np.minimum(y, 1e300), "inf ULP at inf"),
        ("sigmoid", "value", lambda x, y: np.where(x == 1.0, y - 0.2, y), "1 times not monotone"),
        ("silu", "derivative", lambda x, y: y + 1e-15 * (abs(x + 1.28) < 0.1), "the bound is 64"),
        ("mish", SECOND, lambda x, y: np.where(abs(x) > 300, 0, y), "3 results are lost"),
        ("mish", SECOND, lambda x, y: y * np.nan, "results are NaN"),
    ],
)
def test_a_wrong_result_is_found(name, order, wrong, found):
    x = np.array([-np.inf, -800.0, -705.0, -400.0, -1.3, -0.5, 0.5, 1.0, 2.0, 310.0, np.inf])
    truth = strata.truth(ALL[name], order, x)
    assert violations(name, order, x, truth.exact) == []
    assert found in str(violations(name, order, x, wrong(x, truth.exact)))


def test_a_rounded_product_is_found(monkeypatch):
    name = next(name for name in reference.GENERAL if name.startswith("softplus(beta=0.3"))
    x = strata.inputs(ALL[name], "derivative", "float32")
    rounded = reference.sigmoid((x * np.float32(0.3)).astype(np.float64))[0].astype(np.float32)
    assert "the bound is 4" in str(violations(name, "derivative", x, np.where(x > 20 / 0.3, np.float32(1), rounded)))


# What the command has found, as it is committed


def test_the_figures_are_complete_and_hold_the_bounds():
    records = report.load_strata()
    assert {report.key(entry) for entry in records} == set(KEYS)
    assert all(order in entry for entry in records for order in strata.orders(*report.key(entry)))
    assert report.violations(records) == []


def test_the_figures_of_the_sweep_are_those_of_the_program():
    """What has changed since is listed by ``python benchmarks/accuracy.py --stale``, and done again without it."""
    records = [entry for entry in report.load()[0] if entry["library"] == "jaxact" and entry["dtype"] == "float32"]
    if any(entry["versions"]["jax"] != accuracy.versions("jaxact")["jax"] for entry in records):
        pytest.skip("the figures are those of another version of JAX")
    assert accuracy.stale([report.key(entry) for entry in records], records, accuracy.sweep_program) == []

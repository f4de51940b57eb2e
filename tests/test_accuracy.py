"""Accuracy: how far values and derivatives are from the exact ones, held to the bounds of benchmarks/reference.py.

Every bfloat16 and float16 and a stratified part of float32. ``make accuracy`` does all of float32. float64 and other
parameters are in test_accuracy_strata.py.
"""

import functools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import accuracy
import accuracy_report as report
import accuracy_rows as rows
import accuracy_strata as strata
import exact
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
import typer
from mpmath import mpf
from strata import stratified

import jaxact
from jaxact.catalog import CATALOG
from oracle import SELECTING

CASES = [pytest.param(case, id=case.name) for case in reference.CASES.values()]
MONOTONE = [parameter for parameter in CASES if parameter.values[0].monotone]
ODD = [parameter for parameter in CASES if parameter.values[0].odd]
ORDERS = reference.ORDERS


def every(dtype):
    """Return every number of a 16-bit type but NaN, ascending."""
    x = np.arange(2**16, dtype=np.uint16).view(jnp.dtype(dtype)).astype(np.float32)
    return np.sort(x[~np.isnan(x)]).astype(dtype)


def judge(case, x, results):
    """Return the errors of results at x, by the order of derivation."""
    truths = case.exact(x.astype(np.float64))
    with np.errstate(all="ignore"):
        return {
            order: accuracy.Truth(case, order, x, truths[order], np.zeros(x.size)).errors(results[order])
            for order in ORDERS
        }


@functools.cache
def judged(name, dtype):
    """Return the sample of a type, jaxact's results and their errors by the order of derivation."""
    case = reference.CASES[name]
    x = stratified(case, np.float32, 2**16) if dtype == "float32" else every(dtype)
    results = accuracy.runner("jaxact", name)(x)
    return x, results, judge(case, x, results)


def sample(case, order, dtype):
    """Return a few hundred numbers to compute exactly: no kinks, and results that are normal."""
    x = stratified(case, dtype, 4096)
    normal = reference.is_normal(case.exact(x.astype(np.float64))[order], dtype)
    x = x[np.isfinite(x) & reference.is_kept(x, dtype) & ~np.isin(x, case.kinks) & normal]
    return np.random.default_rng(1).choice(x, min(300, x.size), replace=False)


def distance(case, order, x, y):
    """Return how far y is from the results of mpmath at float64 inputs, and those, both as float64."""
    compute = exact.value if order == "value" else exact.derivative
    truth = [compute(getattr(exact, case.function), at, **case.parameters) for at in x]
    error = [float(abs(mpf(float(a)) - b)) for a, b in zip(y, truth, strict=True)]
    return np.array(error), np.array([float(b) for b in truth])


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
    assert judged(case.name, dtype)[-1]["value"].reversals == 0


@pytest.mark.parametrize("case", MONOTONE)
def test_monotone_from_float_to_float(case):
    starts = stratified(case, np.float32, 2**10)
    starts = starts[np.abs(starts) < 2**100]
    x = np.unique((starts.view(np.int32)[:, None] + np.arange(256, dtype=np.int32)).view(np.float32))
    y = accuracy.runner("jaxact", case.name)(x)["value"]
    falls = np.flatnonzero(np.diff(y) < 0)
    assert not falls.size, f"{falls.size} times, the first from {x[falls[0]]!r} to {x[falls[0] + 1]!r}"


@pytest.mark.parametrize("case", ODD)
def test_odd(case):
    x, _, _ = judged(case.name, "float32")
    run = accuracy.runner("jaxact", case.name)
    results, mirrored = run(x), run(-x)
    np.testing.assert_array_equal(mirrored["value"], -results["value"])
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
def test_reference(case, order):
    """The float64 formulas are good to a thousandth of a float32 ULP."""
    x = sample(case, order, np.float32).astype(np.float64)
    error, truth = distance(case, order, x, case.exact(x)[order])
    limit = 1e-3 * reference.ulp(truth, np.float32)
    limit[case.in_window(order, x)] = 1e-3 * reference.WINDOW_ERROR
    assert (error <= limit).all(), x[error > limit]


@pytest.mark.parametrize("case", [case for case in CASES if case.values[0].zero])
def test_the_window_is_around_the_zero(case):
    around = np.nextafter(case.zero, [-2.0, 0.0])
    below, above = (exact.derivative(getattr(exact, case.function), x, **case.parameters) for x in around)
    assert below < 0 < above


def test_every_function_is_held_against_exact_values():
    """By its case or bit for bit; what is not elementwise below, or in test_values.py or a file of its own."""
    cases = {case.function for case in reference.CASES.values()}
    assert cases | SELECTING == {row.name for row in CATALOG if row.elementwise}
    of_rows = {row.name for row in CATALOG if row.of_one_array and not row.elementwise}
    assert of_rows == {"glu", "softmax2d", *rows.FUNCTIONS}


def test_glu():
    """Its value and its two derivatives are products with a sigmoid: as good as silu."""
    a, b = np.random.default_rng(3).normal(scale=10, size=(2, 10_000)).astype(np.float32)
    y, pull_back = jax.vjp(jaxact.glu, np.concatenate([a, b]))
    da, db = np.split(np.asarray(pull_back(jnp.ones_like(y))[0]), 2)
    gate, slope = reference.sigmoid(b.astype(np.float64))
    for order, result, truth in (("value", y, a * gate), ("derivative", da, gate), ("derivative", db, a * slope)):
        assert (abs(result - truth) / reference.ulp(truth, np.float32)).max() <= reference.BOUNDS["float32"][order]


@pytest.mark.parametrize("dtype", rows.DTYPES)
@pytest.mark.parametrize("name", rows.FUNCTIONS)
def test_softmax_family(name, dtype, monkeypatch):
    monkeypatch.setattr(rows, "COUNT", 256)
    assert rows.violations([rows.measure(name, dtype, "jaxact")]) == []


# The sweep itself


def test_a_wrong_result_is_found():
    case = reference.CASES["sigmoid"]
    x = np.array([-1.0, 0.0, 1.0, 2.0], np.float32)
    exact = {order: truth.astype(np.float32) for order, truth in case.exact(x.astype(np.float64)).items()}
    assert judge(case, x, exact)["value"].right == 4
    off = exact["value"] + np.float32([0, 5 * 2**-24, 0, 0])
    errors = judge(case, x, exact | {"value": off})["value"]
    assert (errors.largest, errors.at, errors.right) == (5.0, 0.0, 3)
    errors = judge(case, x, exact | {"value": exact["value"][::-1]})["value"]
    assert errors.reversals == 3
    errors = judge(case, x, exact | {"derivative": exact["value"] * np.nan})["derivative"]
    assert (errors.nan, errors.right) == (4, 0)


def test_the_blocks_of_a_type_are_all_of_it():
    blocks = [x for x, _ in accuracy.inputs("float16", 0, 1)]
    np.testing.assert_array_equal(np.concatenate(blocks).view(np.uint16), np.arange(2**16))
    (x, bins), *rest = accuracy.inputs("float32", 255, 2**12)
    assert not rest
    np.testing.assert_array_equal(x.view(np.uint32) >> 12, np.arange(255 * 2**12, 256 * 2**12))
    np.testing.assert_array_equal(bins, x.view(np.uint32) >> 20)


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """Return a function that sweeps a function over bfloat16, in small chunks, a folder of its own and this process.

    It returns the exit status and the chunks that it did.
    """
    chunks = []
    measure = accuracy.measure

    def noting(name, dtype, chunk, *arguments):
        chunks.append(chunk)
        return measure(name, dtype, chunk, *arguments)

    monkeypatch.setattr(accuracy, "measure", noting)
    monkeypatch.setattr(accuracy, "PARTIAL", tmp_path)
    monkeypatch.setattr(accuracy, "CHUNK", 2**14)
    monkeypatch.setattr(accuracy, "ProcessPoolExecutor", lambda jobs, **_: ThreadPoolExecutor(jobs))
    monkeypatch.setattr(report, "ROOT", tmp_path)
    for name in ("DATA", "PROFILES", "DATA_OF_ROWS", "DATA_OF_STRATA", "PAGE", "PLOTS"):
        monkeypatch.setattr(report, name, tmp_path / getattr(report, name).name)

    def run(**options):
        chunks.clear()
        with pytest.raises(typer.Exit) as ended:
            accuracy.main(**{"functions": "sigmoid", "dtypes": "bfloat16", "jobs": 1} | options)
        return ended.value.exit_code, sorted(chunks)

    return run


def test_the_sweep_writes_data_and_page(sweep):
    assert sweep() == (0, [0, 1, 2, 3])
    records, _ = report.load()
    assert [record["library"] for record in records] == ["jaxact", "torch", "jax.nn"]
    assert {record["value"]["inputs"] for record in records} == {2**16 - 2 * 127}
    assert "| sigmoid | 0.5 | 0.5 | 2.04 |" in report.PAGE.read_text()


def test_the_sweep_goes_on_where_it_was_interrupted(sweep):
    sweep(libraries="jaxact")
    (partial,) = accuracy.PARTIAL.glob("*.jsonl")
    partial.write_text(partial.read_text()[:-100])
    report.DATA.unlink()
    assert sweep(libraries="jaxact") == (0, [3])
    assert sweep(libraries="jaxact") == (0, [])
    assert sweep(libraries="jaxact,torch") == (0, [0, 1, 2, 3])


def test_the_sweep_fails_where_a_bound_is_exceeded(sweep, monkeypatch, capsys):
    monkeypatch.setitem(reference.BOUNDS["bfloat16"], "value", 0.25)
    assert sweep(libraries="jaxact")[0] == 1
    assert "the bound is 0.25" in capsys.readouterr().out
    assert sweep(only_report=True) == (1, [])


def test_the_sweep_is_done_again_where_the_program_changes(sweep, monkeypatch):
    sweep(libraries="jaxact")
    monkeypatch.setattr(jaxact, "sigmoid", lambda x: jax.nn.sigmoid(x))
    accuracy.compiled.cache_clear()
    assert sweep(libraries="jaxact")[1] == [0, 1, 2, 3]
    accuracy.compiled.cache_clear()


def test_only_stale_figures_are_made_again(sweep, monkeypatch, capsys):
    monkeypatch.setattr(rows, "COUNT", 64)
    options = {"functions": "sigmoid,tanh,softmax", "libraries": "jaxact"}
    assert sweep(**options, only_list=True) == (1, [])
    assert sweep(**options)[0] == 0
    assert sweep(**options, only_list=True) == (0, [])
    for partial in accuracy.PARTIAL.glob("*.jsonl"):
        partial.unlink()
    monkeypatch.setattr(jaxact, "sigmoid", lambda x: 1 / (1 + jnp.exp(-x)))
    monkeypatch.setattr(jaxact, "softmax", lambda x, dim: jax.nn.softmax(x, axis=dim))
    accuracy.compiled.cache_clear()
    before = {report.key(entry): entry for entry in report.load()[0]}
    capsys.readouterr()
    assert sweep(**options, only_list=True) == (1, [])
    assert capsys.readouterr().out.splitlines() == ["sweep sigmoid bfloat16 jaxact", "rows softmax bfloat16 jaxact"]
    assert sweep(**options)[1] == [0, 1, 2, 3]
    after = {report.key(entry): entry for entry in report.load()[0]}
    assert {key for key in after if after[key] != before[key]} == {("sigmoid", "bfloat16", "jaxact")}
    assert sweep(**options, everything=True)[1] == [0, 1, 2, 3]
    accuracy.compiled.cache_clear()


def test_a_program_has_no_names():
    def double(x):
        return 2 * x

    def twice(x):
        return 2 * x

    def program(f):
        return accuracy.program("jaxact", [jax.jit(lambda x: jax.jit(f)(x))], (8,), "float32")

    assert program(double) == program(twice) != program(jnp.exp)


def test_the_softmax_family_is_measured_on_rows(sweep, monkeypatch, capsys):
    monkeypatch.setattr(rows, "COUNT", 64)
    options = {"functions": "sigmoid,softmax,log_softmax", "dtypes": "bfloat16,float16"}
    assert sweep(**options)[0] == 0
    assert "### bfloat16, softmax family" in report.PAGE.read_text()
    assert [row["name"] for row in report.load_rows()] == 6 * ["softmax"] + 6 * ["log_softmax"]
    monkeypatch.setitem(reference.BOUNDS["float16"], "value", 0.25)
    assert sweep(**options)[0] == 1
    assert "log_softmax, float16, rows, value: 0." in capsys.readouterr().out


def test_what_no_sweep_reaches_is_measured_on_strata(sweep, monkeypatch, capsys):
    monkeypatch.setattr(strata, "COUNT", 64)
    monkeypatch.setattr(strata, "COUNT_EXACT", 16)
    options = {"functions": "threshold,tanhshrink", "dtypes": "float32", "parts": "strata"}
    assert sweep(**options) == (0, [])
    assert sweep(**options, only_list=True) == (0, [])
    assert [report.key(entry)[::2] for entry in report.load_strata()] == [
        *(("tanhshrink", library) for library in report.LIBRARIES),
        *(
            (f"threshold(threshold={pair})", library)
            for pair in ("0.1, value=20", "-1.3, value=-0.3")
            for library in ("jaxact", "torch")
        ),
    ]
    page = report.PAGE.read_text()
    assert "### float32, second derivative" in page
    assert "### float32, other parameters" in page
    monkeypatch.setattr(jaxact, "threshold", lambda x, threshold, value: jnp.where(x >= threshold, x, value))
    accuracy.runner.cache_clear()
    accuracy.compiled.cache_clear()
    capsys.readouterr()
    assert sweep(**options, only_list=True) == (1, [])
    assert "strata threshold(threshold=0.1, value=20) float32 jaxact" in capsys.readouterr().out
    assert sweep(**options) == (1, [])
    assert "float32, value: " in capsys.readouterr().out
    accuracy.runner.cache_clear()
    accuracy.compiled.cache_clear()


def test_rows_that_do_not_sum_to_one_are_found(monkeypatch):
    monkeypatch.setattr(rows, "COUNT", 64)
    good = rows.measure("softmax", "float32", "jaxact")
    assert rows.violations([good]) == []
    monkeypatch.setattr(jaxact, "softmax", lambda x, dim: jax.nn.softmax(x, axis=dim) * (1 + 1e-6))
    found = rows.violations([rows.measure("softmax", "float32", "jaxact")])
    assert len(found) == 2
    assert "ULP from 1, the bound is 2" in found[1]
    monkeypatch.setattr(jaxact, "softmax", lambda x, dim: x * jnp.nan)
    lost = [rows.measure("softmax", "float32", "jaxact")]
    assert "results are NaN" in str(rows.violations(lost))
    assert report.table(lost, rows.FUNCTIONS, "float32", ["value"]) == [
        ["function", "jaxact"],
        ["softmax", "0, 100% NaN"],
    ]


@pytest.mark.parametrize("options", [{"functions": "sigmoid,nosuch"}, {"libraries": "keras"}, {"stride": 3}], ids=str)
def test_the_sweep_refuses_what_it_does_not_know(options):
    with pytest.raises(typer.BadParameter, match=r"nosuch; there are relu|keras; there are jaxact|power of 2"):
        accuracy.main(**options)


def test_plot(tmp_path):
    profile = np.linspace(0, 3, report.BINS)
    profile[-1] = np.inf
    report.plot("gelu_tanh", {"gelu_tanh.jaxact.value": profile}).savefig(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size < 100_000


# What the sweep has found, as it is committed


def test_the_sweep_was_full_and_holds_the_bounds():
    records, _ = report.load()
    ours = {(r["name"], r["dtype"]): r for r in records if r["library"] == "jaxact"}
    assert ours.keys() == {(name, dtype) for name in reference.CASES for dtype in report.DTYPES}
    for (_, dtype), record in ours.items():
        info = jnp.finfo(dtype)
        assert record["value"]["inputs"] == 2**info.bits - 2 * (2**info.nmant - 1)  # without NaN
    assert report.violations(records) == []
    assert {(r["name"], r["dtype"]) for r in report.load_rows()} == {
        (n, d) for n in rows.FUNCTIONS for d in rows.DTYPES
    }
    assert rows.violations(report.load_rows()) == []
    assert report.PAGE.read_text() == report.page(records, report.load_rows(), report.load_strata())


def test_the_readme_has_the_figures_of_the_sweep():
    records, _ = report.load()
    found = {report.key(record): record for record in records}
    lines = (Path(__file__).parents[1] / "README.md").read_text().partition("derivative: jaxact")[2].splitlines()[2:]
    table = [line.strip("| ").split(" | ") for line in lines[: lines.index("")]]
    assert len(table) >= 8
    for label, *cells in table:
        name = "gelu_tanh" if "tanh form" in label else label.strip("`")
        errors = [found[name, "float32", library][order] for order in ORDERS for library in report.LIBRARIES]
        for error, cell in zip(errors, cells, strict=True):
            if cell.startswith("NaN on "):
                assert f"{error['nan'] / error['inputs']:.0%}" == cell.removeprefix("NaN on ")
            else:
                assert float(cell) == pytest.approx(float(error["largest"]), rel=0.02, abs=0.006)

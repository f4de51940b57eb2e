"""The speed benchmark: it times what it says, judges by the bounds, and can find a bound missed."""

import dataclasses
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from jaxact.bench import kernels, memory, timing
from jaxact.bench.command import ENVIRONMENT, bench, restart_in_environment
from jaxact.bench.jax_nn import JAX_NN
from jaxact.bench.results import COMPUTED, Conversion, EagerCall, Imports, Kernel, Results, Temporaries
from jaxact.bench.tables import measured_and_limit
from jaxact.bench.workloads import LEFT_OUT, ROW, SHAPES, Workload, normal, workloads
from jaxact.catalog import BY_NAME
from jaxact.interop import to_numpy, to_torch

GOOD = Results(
    date="2026-01-01",
    versions={"jaxact": "1"},
    device="cpu",
    cpus=2,
    rounds=5,
    kernels=[Kernel("relu", "value", "float32", 2048, {"floor": 2.0, "jaxact": 2.1, "jax.nn": 3.0, "torch": 1.0}, 1.0)],
    calls=[EagerCall("relu", {"floor": 4.0, "jaxact": 5.0})],
    imports=Imports(jax=1.0, jaxact=0.01),
    temporaries=[Temporaries("relu", {"jaxact": 10, "jax.nn": 10})],
    conversions=[Conversion("JAX to torch", {"jaxact": 5.0, "native": 4.0}, bounded=True)],
)


def slower(kernel, **milliseconds):
    """Return the results with other times of the kernel."""
    times = kernel.milliseconds | milliseconds
    return dataclasses.replace(GOOD, kernels=[dataclasses.replace(kernel, milliseconds=times)])


MISSED = {
    "kernel": slower(GOOD.kernels[0], jaxact=3.5),
    "bandwidth": slower(GOOD.kernels[0], copy=1.5),
    "call": dataclasses.replace(GOOD, calls=[EagerCall("relu", {"floor": 4.0, "jaxact": 6.1})]),
    "import": dataclasses.replace(GOOD, imports=Imports(jax=1.0, jaxact=0.06)),
    "memory": dataclasses.replace(GOOD, temporaries=[Temporaries("relu", {"jaxact": 11, "jax.nn": 10})]),
    "conversion": dataclasses.replace(
        GOOD, conversions=[Conversion("JAX to torch", {"jaxact": 8.0, "native": 4.0}, bounded=True)]
    ),
}


@pytest.fixture
def environment(monkeypatch):
    """Run the test as under the environment of the benchmark, so that the command does not start anew."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


# What is timed


def test_every_function_is_measured_but_what_takes_weights():
    measured = {workload.function for workload in workloads().values()}
    assert measured | LEFT_OUT == BY_NAME.keys()
    assert not measured & LEFT_OUT
    assert all("weight" in " ".join(BY_NAME[name].required) for name in LEFT_OUT)
    assert JAX_NN.keys() <= measured


@pytest.mark.parametrize("name", sorted(workloads().keys() - {"gumbel_softmax"}))
def test_all_contenders_compute_the_same_function(name):
    workload = workloads()[name]
    x = normal(ROW, "float32", 0).reshape(workload.shape(ROW))
    tensor = to_torch(x)
    expected = np.asarray(workload.jaxact(x))
    # jax.nn's errors are of a few ULPs, of values up to 12.
    np.testing.assert_allclose(to_numpy(workload.torch(tensor)(tensor)), expected, rtol=1e-5, atol=1e-5)
    if workload.function in JAX_NN:
        np.testing.assert_allclose(workload.jax_nn(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("computes", COMPUTED)
@pytest.mark.parametrize("name", ["gelu", "glu", "prelu", "gumbel_softmax"])
def test_a_kernel_is_timed_for_every_contender(name, computes):
    workload = workloads()[name]
    kernel = kernels.kernel(workload, computes, "bfloat16", 2 * ROW, rounds=2, compiled=False)
    peers = {"torch", "jax.nn"} if workload.function in JAX_NN else {"torch"}
    assert kernel.milliseconds.keys() == {"jaxact", "floor"} | peers
    assert all(milliseconds > 0 for milliseconds in kernel.milliseconds.values())
    assert kernel.traffic == (0.75 if name == "glu" else 1.0) * (1 if computes == "value" else 2)


@pytest.mark.parametrize("size", [ROW, 3 * ROW, 2**17, 3 * 2**17, 2**22])
@pytest.mark.parametrize("name", ["relu", *SHAPES])
def test_every_multiple_of_a_row_has_a_shape(name, size):
    shape = workloads()[name].shape(size)
    assert size % -np.prod(shape) == 0
    assert size / -np.prod(shape) >= 1


def test_value_and_gradient_are_both_given():
    x, cotangent = jnp.array([-1.0, 2.0]), jnp.array([3.0, 5.0])
    y, gradient = kernels.value_and_gradient(jnp.square)(x, cotangent)
    np.testing.assert_array_equal(y, [1.0, 4.0])
    np.testing.assert_array_equal(gradient, [-6.0, 20.0])


def test_a_compiler_that_fails_is_left_out_with_a_warning(monkeypatch):
    def fail(*_, **__):
        def call(_):
            raise RuntimeError("no C++ compiler")

        return call

    monkeypatch.setattr("torch.compile", fail)
    with pytest.warns(UserWarning, match=r"torch\.compile of relu failed and is left out: no C\+\+ compiler"):
        kernel = kernels.kernel(workloads()["relu"], "value", "float32", ROW, rounds=1, compiled=True)
    assert "torch.compile" not in kernel.milliseconds


def test_medians_tell_a_slow_contender_from_a_fast_one():
    counts = {"fast": 0, "slow": 0}

    def contender(name, seconds):
        def run(calls):
            counts[name] += calls
            time.sleep(calls * seconds)

        return run

    medians = timing.interleaved({"fast": contender("fast", 0.0), "slow": contender("slow", 0.002)}, 3, calls=2)
    assert counts == {"fast": 8, "slow": 8}  # once to warm up
    assert medians["slow"] >= 0.002 > medians["fast"]


def test_what_takes_long_is_measured_less_often(monkeypatch):
    monkeypatch.setattr(timing, "PATIENCE", 0.0)
    calls = []
    timing.interleaved({"only": calls.append}, rounds=10 * timing.FEWEST_ROUNDS)
    assert len(calls) == timing.FEWEST_ROUNDS + 1


def test_the_memory_of_a_wasteful_gradient_is_larger():
    @jax.custom_vjp
    def wasteful(x):
        return jnp.tanh(x)

    wasteful.defvjp(lambda x: (jnp.tanh(x), (x, jnp.sin(x), jnp.exp(x))), lambda kept, c: (c * sum(kept),))

    class Wasteful(Workload):
        def jaxact(self, x):
            return wasteful(x)

    found = memory.temporaries(Wasteful("tanh", "tanh", {}))
    assert found.bound_ratio > 1.5
    assert memory.temporaries(workloads()["tanh"]).bytes["jax.nn"] == found.bytes["jax.nn"]


# How it is judged


@pytest.mark.parametrize(
    ("jaxact", "floor", "jax_nn", "torch", "bound", "aim"),
    [
        (3.0, 1.0, 2.0, 1.5, 1.5, 2.0),
        (3.0, 4.0, 2.0, 1.5, 0.75, 0.75),
        (3.0, 1.0, None, 1.5, 3.0, 2.0),
        (3.0, 1.0, 2.0, None, 1.5, 1.5),
    ],
)
def test_ratios_are_to_the_fastest_or_the_floor(jaxact, floor, jax_nn, torch, bound, aim):
    times = {"jaxact": jaxact, "floor": floor, "jax.nn": jax_nn, "torch": torch}
    kernel = Kernel("relu", "value", "float32", 1024, {k: v for k, v in times.items() if v is not None}, 1.0)
    assert kernel.bound_ratio() == bound
    assert kernel.aim_ratio == aim
    assert kernel.bound_ratio(["torch"]) == aim


def test_what_holds_is_no_miss():
    assert GOOD.misses() == []


@pytest.mark.parametrize("kind", MISSED)
def test_what_does_not_hold_is_a_miss(kind):
    (miss,) = MISSED[kind].misses()
    assert not miss.aim


def test_only_a_peer_as_accurate_makes_an_aim_a_bound():
    results = slower(GOOD.kernels[0], jaxact=3.0)
    (aim,) = results.misses()
    (bound,) = results.misses({("relu", "float32"): ["torch"]})
    assert (aim.aim, bound.aim) == (True, False)
    assert aim.measured == bound.measured == 1.5


def test_the_smaller_sizes_are_not_judged():
    small = dataclasses.replace(MISSED["kernel"].kernels[0], size=1024)
    assert dataclasses.replace(GOOD, kernels=[small, *GOOD.kernels]).misses() == []


# How it is shown


def test_results_survive_json():
    results = MISSED["kernel"]
    data = json.loads(json.dumps(results.to_json()))
    assert len(data["misses"]) == 1
    assert Results.from_json(data) == results


def test_the_page_names_what_is_missed_and_why(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    script = importlib.import_module("speed")
    monkeypatch.setitem(script.TRIED, "relu", "nothing helped")
    page = script.page(MISSED["kernel"], {})
    assert "| relu | float32, value: time over floor, jax.nn, accurate peer | 1.17 | 1.10 |" in page
    assert "- `relu`: nothing helped.\n" in page
    assert "## Aims that are missed\n\nNone." in page
    assert "| relu | 3.50 | 1.00 | 3.00 | 2.00 | 1.17 | 1.75 |" in page


def test_a_miss_says_more_than_its_limit():
    """Memory has no noise: a miss of 3 KiB in 4 MiB is one, and must not read as if it were none."""
    temporaries = [Temporaries("log_softmax", {"jaxact": 4464128, "jax.nn": 4461056})]
    (miss,) = dataclasses.replace(GOOD, temporaries=temporaries).misses()
    assert measured_and_limit(miss) == ("1.001", "1.000")
    (miss,) = MISSED["kernel"].misses()
    assert measured_and_limit(miss) == ("1.17", "1.10")


def test_the_page_is_the_one_that_the_figures_make(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    script = importlib.import_module("speed")
    results = Results.from_json(json.loads(script.DATA.read_text()))
    assert script.page(results, script.accurate_peers()) == script.PAGE.read_text()


def test_the_plot_has_a_point_for_each_contender(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    (axis,) = importlib.import_module("speed").plot(GOOD).axes
    points = {line.get_label(): list(line.get_xdata()) for line in axis.lines}
    assert {name: points[name] for name in ("torch", "jax.nn", "jaxact")} == {
        "torch": [0.5],
        "jax.nn": [1.5],
        "jaxact": [1.05],
    }


# The command


def test_the_command_starts_anew_unless_the_environment_is_set(monkeypatch, environment):
    started = []
    monkeypatch.setattr(os, "execve", lambda *arguments: started.append(arguments))
    restart_in_environment()
    assert started == []
    monkeypatch.delenv("MALLOC_ARENA_MAX")
    restart_in_environment()
    ((program, arguments, variables),) = started
    assert program == arguments[0] == sys.executable
    assert ENVIRONMENT.items() <= variables.items()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--functions", "relu,swish"], "no function swish"),
        (["--dtypes", "float8"], "no dtype float8"),
        (["--sizes", "1000"], "multiples of 1024"),
        (["--sizes", "1024,big"], "must be integers"),
    ],
)
def test_a_wrong_option_is_refused(environment, options, message):
    app = typer.Typer()
    app.command()(bench)
    result = CliRunner().invoke(app, options, env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert message in result.output


def test_the_command_measures_and_prints_json(tmp_path):
    options = ["--quick", "--functions", "relu", "--dtypes", "float32", "--sizes", "1024", "--json"]
    output = tmp_path / "new" / "speed.json"
    command = [sys.executable, "-m", "jaxact.bench", *options, "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    printed = json.loads(done.stdout)
    assert printed == json.loads(output.read_text())
    results = Results.from_json(printed)
    assert [(k.function, k.computes, k.dtype, k.size) for k in results.kernels] == [
        ("relu", computes, "float32", 1024) for computes in COMPUTED
    ]
    assert [c.function for c in results.calls] == [t.function for t in results.temporaries] == ["relu"]
    assert results.conversions

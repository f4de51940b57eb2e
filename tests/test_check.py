"""``jaxact check``: the whole catalog agrees, what is wrong is found, and the command says both."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

import jaxact
from jaxact.catalog import BY_NAME, CATALOG, SAMPLES
from jaxact.cli import app
from jaxact.divergences import DIVERGENCES, Divergence
from jaxact.interop.crosscheck import catalog_calls, catalog_check
from jaxact.interop.crosscheck.catalog_calls import DTYPES, KINDS, calls
from jaxact.interop.crosscheck.catalog_check import check_catalog, documented_here, failures, steps
from jaxact.interop.crosscheck.usage import UsageError


def run(*arguments, **env):
    """Run the command in this process, on a wide terminal."""
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200", **env})


@pytest.fixture(scope="module")
def whole():
    """Return the check of the whole catalog, and the steps that it told of."""
    told = []
    return check_catalog(step=told.append), told


@pytest.mark.parametrize("call", [*calls()], ids=lambda call: call.name)
def test_the_function_agrees(whole, call):
    (checked,) = [row for row in whole[0].functions if row.name == call.name]
    assert checked.passed, [*failures(dataclasses.replace(whole[0], functions=(checked,)))]
    assert {(trial.dtype, trial.kind) for trial in checked.trials} == {(d, k) for d in DTYPES for k in KINDS}
    kinds = {row.kind for trial in checked.trials for row in trial.report.rows}
    assert kinds == {"output", "gradient"}


def test_it_is_of_all_functions_that_torch_has(whole):
    assert {row.function for row in whole[0].functions} == {
        row.name for row in CATALOG if row.torch_function or row.torch_module
    }
    assert [outcome.sample for outcome in whole[0].samples] == list(SAMPLES)
    assert whole[0].passed


def test_each_step_is_told(whole):
    assert len(whole[1]) == steps() == len(SAMPLES) + len(list(calls())) * len(DTYPES) * len(KINDS)
    assert whole[1][0] == "sample of relu"
    assert whole[1][-1] == "multi_head_attention_forward float16 extreme"


def test_every_documented_divergence_is_looked_at_and_holds(whole):
    shown = Counter(id(part.divergence) for row in whole[0].functions for part in row.on_purpose())
    assert shown == {id(row): 1 for row in DIVERGENCES}
    assert {part.status for row in whole[0].functions for part in row.documented} == {"as documented"}


def test_it_goes_through_json(whole):
    record = whole[0].to_dict()
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def wrong_slope(x, negative_slope):
    return jaxact.leaky_relu(x, negative_slope / 10)


@jax.custom_jvp
def one_at_the_kink(x):
    return jaxact.relu(x)


@one_at_the_kink.defjvp
def _(primals, tangents):
    (x,), (dx,) = primals, tangents
    return one_at_the_kink(x), jnp.where(x >= 0, dx, 0)


def coarse(x):
    return jaxact.tanh(x.astype(jnp.bfloat16)).astype(x.dtype)


def off_by_a_few_ulps(x):
    return jaxact.silu(x) * x.dtype.type(1 + 9 * jnp.finfo(x.dtype).eps)


def nan_at_infinity(x):
    return x / (1 + jnp.abs(x))


def wrong_far_out(x):
    return jnp.where(x > 100, 0 * x, jaxact.relu(x))


WRONG = {
    "relu": one_at_the_kink,
    "leaky_relu": wrong_slope,
    "gelu": lambda x, approximate="none": jaxact.gelu(x, "tanh"),
    "softmax": lambda x, dim: jaxact.softmax(x, 0),
    "tanh": coarse,
    "silu": off_by_a_few_ulps,
    "softsign": nan_at_infinity,
    "scaled_dot_product_attention": lambda q, k, v: jaxact.scaled_dot_product_attention(q, k, v, scale=1.0),
    "adaptive_log_softmax_log_prob": lambda *arrays: 1.0001 * jaxact.adaptive_log_softmax_log_prob(*arrays),
}


def replace(monkeypatch, name, function):
    """Let the catalog have another function by the name."""
    right = BY_NAME[name].function

    def wrong(*args, **kwargs):
        return function(*args, **kwargs)

    wrong.__name__, wrong.__module__ = right.__name__, right.__module__
    changed = dataclasses.replace(BY_NAME[name], function=wrong)
    monkeypatch.setattr(catalog_calls, "CATALOG", [changed if row.name == name else row for row in CATALOG])
    monkeypatch.setitem(BY_NAME, name, changed)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_function_is_found(name, monkeypatch):
    replace(monkeypatch, name, WRONG[name])
    check = check_catalog([name], ["float32"], size=256)
    assert not check.passed
    assert [*failures(check)]
    assert not check.functions[0].passed


def test_where_it_is_wrong_is_said(monkeypatch):
    replace(monkeypatch, "relu", wrong_far_out)
    check = check_catalog(["relu"], ["float32", "bfloat16"], size=64)
    assert {what for what, _ in failures(check)} == {
        "relu, float32, extreme inputs",
        "relu, bfloat16, extreme inputs",
    }
    replace(monkeypatch, "softsign", nan_at_infinity)
    what = {what for what, _ in failures(check_catalog(["softsign"], ["float32"], size=64))}
    assert "softsign, float32, value at inf" in what


def test_what_torch_has_put_right_is_no_failure():
    here = documented_here(Divergence("relu", "value", (-1.0,), (5.0,), (0.0,), "it was so"), "float32")
    assert (here.status, here.passed, here.jaxact, here.torch) == ("torch is right here", True, (0.0,), (0.0,))
    here = documented_here(Divergence("relu", "value", (-1.0,), (0.0,), (5.0,), "it is so"), "float32")
    assert (here.status, here.passed) == ("differs", False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["releu"], "there is no function releu; there are relu, relu6"),
        (["relu", "--dtype", "float8"], "there is no dtype float8; there are float32, bfloat16, float16"),
        (["relu", "--size", "3"], "size must be at least 16, got 3"),
    ],
)
def test_wrong_usage_exits_with_2(arguments, message):
    result = run("check", *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"jaxact check: {message}")
    assert result.stdout == ""


def test_an_unknown_option_exits_with_2():
    assert run("check", "--sizes", "3").exit_code == 2


def test_the_seed_and_the_size_change_the_inputs():
    (call,) = calls(("relu",))
    inputs = [call.inputs("random", "float32", size, seed)[0] for size, seed in ((64, 0), (64, 1), (32, 0))]
    assert not np.array_equal(inputs[0], inputs[1])
    assert [x.size for x in inputs] == [64, 64, 32]
    records = [json.loads(run("check", "relu", "--json", "--seed", str(s), "--size", "32").stdout) for s in (0, 1)]
    assert [(record["seed"], record["size"]) for record in records] == [(0, 32), (1, 32)]


def test_only_what_is_named_is_checked():
    result = run("check", "threshold", "tanh", "--dtype", "float16", "--dtype", "float32", "--size", "32")
    assert result.exit_code == 0
    assert "1 of 1 samples agree with PyTorch" in result.stdout
    assert "2 of 2 functions agree with PyTorch, or differ on purpose" in result.stdout
    assert "1 - y² with y rounded to 1" in result.stdout
    assert "OverflowError" in result.stdout
    assert "bfloat16" not in result.stdout
    assert "gelu" not in result.stdout


def test_what_differs_is_printed_and_exits_with_1(monkeypatch):
    replace(monkeypatch, "relu", wrong_far_out)
    result = run("check", "relu", "--size", "32", "--dtype", "float32")
    assert result.exit_code == 1
    assert "DIFFERS" in result.stdout
    assert "relu, float32, extreme inputs\nFAILED: 2 of 2 arrays differ" in result.stdout
    assert "0 of 1 functions agree" in result.stdout
    record = json.loads(run("check", "relu", "--size", "32", "--dtype", "float32", "--json").stdout)
    assert [record["passed"], record["functions"][0]["passed"]] == [False, False]


def test_a_terminal_sees_how_far_it_is():
    said = run("check", "relu", "--size", "32", "--dtype", "float32", FORCE_COLOR="1").stderr
    assert "/5" in said
    assert "relu float32" in said
    assert run("check", "relu", "--size", "32", "--dtype", "float32").stderr == ""


def test_ctrl_c_ends_with_one_line(monkeypatch):
    right = catalog_check.compare
    seen = []

    def interrupted(*arguments, **options):
        seen.append(arguments)
        if len(seen) == 3:
            signal.raise_signal(signal.SIGINT)  # in this thread: os.kill may choose another, and then it comes later
        return right(*arguments, **options)

    monkeypatch.setattr(catalog_check, "compare", interrupted)
    result = run("check", "relu", "--size", "32")
    assert result.exit_code == 130
    assert (result.stdout, result.stderr) == ("", "jaxact check: interrupted\n")
    assert len(seen) == 3


def test_unknown_names_are_refused_in_python_too():
    with pytest.raises(UsageError, match="there is no function nothing"):
        check_catalog(["nothing"])


@pytest.mark.timing
def test_the_whole_catalog_takes_less_than_a_minute():
    env = {key: value for key, value in os.environ.items() if "COMPILATION_CACHE" not in key}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "jaxact", "check"], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.perf_counter() - start < 60

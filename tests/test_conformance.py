"""Conformance: the tests of others hold, and the command that runs them finds a function that is wrong.

``make conformance`` runs all of PyTorch's inputs; here it is a few of each function's.
"""

import dataclasses
import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import typer

import jaxact
from jaxact.catalog import BY_NAME

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))
conformance = importlib.import_module("conformance")
reports = importlib.import_module("conformance_reports")
inputs = importlib.import_module("conformance_inputs")
judging = importlib.import_module("conformance_judging")
samples = importlib.import_module("conformance_samples")


def test_samples():
    """Run in a process of its own: torch's test inputs change the one that imports them."""
    command = [sys.executable, str(ROOT / "benchmarks" / "conformance.py"), "--quick"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("table", conformance.IN_NUMPY)
def test_numpys_tables(table, dtype, x64):
    found = conformance.validate(table, dtype)
    assert found.misses == []
    assert found.numbers > 300
    assert found.beyond == 0 or found.name != "tanh"


@pytest.mark.parametrize("report", reports.REPORTS, ids=lambda report: f"{report.numbers}, {report.what}")
def test_public_reports(report, x64):
    found = reports.find(report)
    assert found.right, found


# What the command has found, as it is committed


def test_nothing_was_missed():
    data = json.loads(conformance.DATA.read_text())
    assert conformance.misses(data) == []
    ran = {entry["name"] for entry in data["samples"]}
    assert ran | data["without"].keys() == set(BY_NAME)
    assert {name for name in BY_NAME if conformance.why_without(name)} == data["without"].keys()


def test_the_readme_has_the_figures():
    assert conformance.readme(json.loads(conformance.DATA.read_text())) in (ROOT / "README.md").read_text()


def test_what_mpmath_is_asked_for():
    """The farthest from torch, and others from all over."""
    error = np.random.default_rng(0).uniform(5, 9, 10_000)
    error[[17, 4_000]] = 1e6, np.inf
    doubtful = np.arange(10_000) % 2 == 1
    chosen = judging._chosen(doubtful, error)
    assert np.count_nonzero(chosen) == judging.MOST
    assert not chosen[~doubtful].any()
    assert chosen[17]
    assert not chosen[4_000]
    assert np.count_nonzero(chosen[:5_000]) > judging.MOST / 3
    assert judging._chosen(doubtful[:100], error[:100]).tolist() == doubtful[:100].tolist()


def test_the_command_fails_where_something_is_missed(x64, tmp_path, monkeypatch, capsys):
    data = conformance.record(
        [dataclasses.asdict(samples.conform(operation(torch.tanh, X), "tanh", "float32"))],
        [conformance.validate("tanh", "float32")],
        [reports.find(reports.REPORTS[0])],
    )
    assert conformance.misses(data) == []
    monkeypatch.setattr(conformance, "DATA", tmp_path / "conformance.json")
    for part, entry, told in (
        ("samples", {"misses": ["tanh is off"]}, "tanh is off"),
        ("tables", {"misses": ["expm1 is off"]}, "expm1 is off"),
        ("reports", {"right": False, "jaxact": "nan"}, "'nan', exact"),
    ):
        wrong = data | {part: [data[part][0] | entry, *data[part][1:]]}
        conformance.DATA.write_text(json.dumps(wrong))
        with pytest.raises(typer.Exit) as exit:
            conformance.main(only_report=True)
        assert exit.value.exit_code == 1
        assert told in capsys.readouterr().out


def test_what_is_missing_for_torchs_inputs_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "expecttest", None)
    with pytest.raises(ImportError, match=r"cannot import its test inputs .* pip install expecttest"):
        inputs.op_infos()


# The command finds what is wrong


def operation(function, *inputs, gradients=True, **parameters):
    """Return what looks like torch's description of an operation, with inputs of our choice."""
    made = [SimpleNamespace(input=torch.as_tensor(x), args=(), kwargs=parameters) for x in inputs]
    return SimpleNamespace(
        op=function,
        sample_inputs=lambda device, dtype: made,
        reference_inputs=lambda device, dtype: made,
        error_inputs_func=None,
        supported_backward_dtypes=lambda device: {made[0].input.dtype} if gradients else set(),
    )


X = np.linspace(-20, 20, 41, dtype=np.float32)
SCORES = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
LAST_AXIS = {"dim": -1}


def conform(name, function, *inputs, **options):
    """Return the misses of jaxact's function at these inputs."""
    dtype = str(torch.as_tensor(inputs[0]).dtype).removeprefix("torch.")
    return samples.conform(operation(function, *inputs, **options), name, dtype).misses


@jax.custom_jvp
def wrong_gradient(x):
    return RIGHT["sigmoid"](x)


wrong_gradient.defjvp(lambda x, t: (RIGHT["sigmoid"](*x), t[0] * jax.nn.sigmoid(-x[0])))


def lossy_gelu(x):
    return x * (1 + jax.lax.erf(x * 0.5**0.5)) / 2


RIGHT = {name: getattr(jaxact, name) for name in ("tanh", "relu", "sigmoid", "softmax")}
BROKEN = {
    "a value": ("tanh", torch.tanh, lambda x: RIGHT["tanh"](x) * (1 + 1e-6), X, "ULP"),
    "a gradient": ("sigmoid", torch.sigmoid, wrong_gradient, X, "gradient of x"),
    "a NaN": ("tanh", torch.tanh, lambda x: jnp.where(x > 19, jnp.nan, RIGHT["tanh"](x)), X, "nan"),
    "a NaN where torch has one": (
        "gelu",
        torch.nn.functional.gelu,
        jax.nn.gelu,
        np.float32([-np.inf]),
        "exact np.float64(-0.0)",
    ),
    "a number at NaN": ("relu", torch.relu, jnp.nan_to_num, np.float32([np.nan]), "torch's np.float32(nan)"),
    "a tail": ("gelu", torch.nn.functional.gelu, lossy_gelu, np.float32([-9.0]), "exact np.float64(-1.0"),
    "a dtype": ("tanh", torch.tanh, lambda x: RIGHT["tanh"](x).astype(jnp.bfloat16), X, "is bfloat16[41]"),
    "a shape": ("tanh", torch.tanh, lambda x: RIGHT["tanh"](x)[:, None], X, "float32[41, 1]"),
    "a zero": (
        "hardshrink",
        torch.nn.functional.hardshrink,
        lambda x: x * 0,
        np.float32([-0.1]),
        "is np.float32(-0.0)",
    ),
    "an integer": (
        "relu",
        torch.relu,
        lambda x: RIGHT["relu"](x) + (x == 3).astype(x.dtype),
        np.arange(-5, 5, dtype=np.int32),
        "is 4, torch's 3",
    ),
    "a weight": ("softmax", torch.softmax, lambda x, dim: RIGHT["softmax"](x, dim) * (1 + 1e-5), SCORES, "ULP"),
    "a refusal": ("relu", torch.relu, lambda x: RIGHT["relu"](list(x)), X, "jaxact: TypeError"),
    "a leniency": ("relu", torch.relu, lambda x: x, np.array([1j], np.complex64), "jaxact: takes it; torch:"),
}


@pytest.mark.parametrize(("name", "function", "broken", "x", "told"), BROKEN.values(), ids=BROKEN)
def test_the_command_finds(name, function, broken, x, told, monkeypatch):
    parameters = LAST_AXIS if name == "softmax" else {}
    gradients = np.issubdtype(x.dtype, np.floating)
    if not told.startswith("jaxact: takes"):
        assert conform(name, function, x, gradients=gradients, **parameters) == []
    monkeypatch.setattr(jaxact, name, broken)
    misses = conform(name, function, x, gradients=gradients, **parameters)
    assert misses
    assert told in misses[0]

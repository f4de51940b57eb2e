"""The command line: what it prints, and the status it exits with."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

import jaxact
from jaxact.catalog import BY_NAME, CATALOG, SAMPLES
from jaxact.cli import app


def run(*arguments):
    """Run the command in this process, on a wide terminal."""
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})


# What prints the documented samples, and is quick.
SAMPLED = sorted({sample.function for sample in SAMPLES})
CHECK = ("check", *SAMPLED, "--dtype", "float32", "--size", "32")


def test_check_prints_every_sample_and_exits_with_0():
    result = run(*CHECK)
    assert result.exit_code == 0
    assert f"{len(SAMPLES)} of {len(SAMPLES)} samples agree with PyTorch" in result.output
    for sample in SAMPLES:
        assert sample.function in result.output
    for number in ("0.2689", "0.8808", "0.0474", "0.9820", "0.6364"):
        assert number in result.output


def test_check_as_json():
    records = json.loads(run(*CHECK, "--json").output)["samples"]
    assert [record["function"] for record in records] == [sample.function for sample in SAMPLES]
    assert all(record["passed"] for record in records)
    assert records[0]["output"] == {
        "jaxact": [0, 2, 0, 4, 0],
        "torch": [0, 2, 0, 4, 0],
        "ulps": 0,
        "verdict": "equal",
    }


@pytest.mark.parametrize("arguments", [CHECK, (*CHECK, "--json")], ids=["table", "json"])
def test_check_exits_with_1_when_anything_differs(arguments, monkeypatch):
    right = BY_NAME["tanh"]
    wrong = dataclasses.replace(right, function=lambda x: right.function(x) + np.float32(1e-4))
    monkeypatch.setitem(BY_NAME, "tanh", wrong)
    assert run(*arguments).exit_code == 1
    assert f"{len(SAMPLES) - 1} of {len(SAMPLES)}" in run(*CHECK).output


def test_check_exits_with_1_when_the_documented_output_differs(monkeypatch):
    changed = [dataclasses.replace(SAMPLES[0], output=(0.0, 2.0, 0.0, 4.0, 0.1)), *SAMPLES[1:]]
    monkeypatch.setattr("jaxact.interop.crosscheck.catalog_check.SAMPLES", changed)
    result = run(*CHECK)
    assert result.exit_code == 1
    assert "differs from the documented output" in result.output


def test_table_prints_the_catalog():
    output = run("table").output
    for row in CATALOG:
        for cell in (row.name, row.range, row.use_case, row.advantages):
            assert cell in output


def test_table_as_json():
    records = json.loads(run("table", "--json").output)
    assert records[0] == {
        "function": "relu",
        "range": "[0, inf)",
        "use case": "hidden layers",
        "advantages": "fast, avoids vanishing gradients",
    }
    assert len(records) == len(CATALOG)


def test_version_and_help():
    assert run("--version").output == f"jaxact {jaxact.__version__}\n"
    assert "cross-check" in run("--help").output.lower()
    assert "--json" in run("check", "--help").output


WITHOUT = """
import sys
from importlib.abc import MetaPathFinder

class Missing(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] == {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
sys.argv = ["jaxact", {command!r}]
from jaxact.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("missing", "command", "status", "message"),
    [
        (
            "torch",
            "check",
            2,
            "compares with PyTorch, which is not installed; install it with: pip install 'jaxact[torch]'",
        ),
        ("typer", "table", 1, "the command line needs typer; install it with: pip install 'jaxact[cli]'"),
        ("rich", "table", 1, "the command line needs rich; install it with: pip install 'jaxact[cli]'"),
    ],
)
def test_a_missing_extra_is_named(missing, command, status, message):
    program = WITHOUT.format(missing=missing, command=command)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_the_installed_command_and_the_module_are_the_same():
    done = subprocess.run([sys.executable, "-m", "jaxact", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"jaxact {jaxact.__version__}\n"

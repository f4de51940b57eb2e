"""``jaxact compare``: two functions by name, what it says of them, and what it says where that cannot be."""

import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from jaxact.cli import app

PORTS = """
import jax, torch, jax.numpy as jnp

model = torch.nn.Sequential(torch.nn.Linear(16, 4), torch.nn.GELU())
weight, bias = (jnp.asarray(model[0].weight.detach().numpy()), jnp.asarray(model[0].bias.detach().numpy()))

def right(x):
    return jax.nn.gelu(x @ weight.T + bias[None], approximate=False)

def wrong(x):
    return jax.nn.gelu(x @ weight.T + bias[None])

def make():
    return model

class Net(torch.nn.Module):
    pass

class Ports:
    right = staticmethod(right)

def raises(x):
    raise RuntimeError("it is [bold]broken[/bold]")

def returns_a_model(x):
    return model

def take(ids, table):
    return jnp.take(table, ids, axis=0)

def take_in_torch(ids, table):
    return table[ids]

number = 3
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return the command, run in a folder with ports."""
    (tmp_path / "some_ports.py").write_text(PORTS)
    (tmp_path / "imports_nothing.py").write_text("import there_is_no_such_module")
    (tmp_path / "no_python.py").write_text("x = = 1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    yield lambda *arguments: CliRunner().invoke(app, ["compare", *arguments])
    sys.modules.pop("some_ports", None)


def test_a_right_port_passes(run):
    result = run("some_ports:right", "some_ports:model", "--shape", "2,16")
    assert result.exit_code == 0
    assert result.stdout.startswith("passed: 2 arrays are equal to torch's as far as rounding can tell")
    assert "gradient of input 0" in result.stdout
    assert result.stderr == ""


def test_a_wrong_port_exits_with_1_and_shows_the_report(run):
    result = run("some_ports:wrong", "some_ports:model", "--shape", "2,16")
    assert result.exit_code == 1
    assert result.stdout.startswith("FAILED: 2 of 2 arrays differ")


def test_as_json(run):
    result = run("some_ports:wrong", "some_ports:model", "--shape", "2,16", "--no-gradient", "--json", "--seed", "3")
    assert result.exit_code == 1
    record = json.loads(result.stdout)
    assert [row["name"] for row in record["rows"]] == ["output"]
    assert record["passed"] is False
    other = run("some_ports:wrong", "some_ports:model", "--shape", "2,16", "--no-gradient", "--json")
    assert json.loads(other.stdout)["rows"] != record["rows"]


def test_as_a_page(run, tmp_path):
    result = run("some_ports:wrong", "some_ports:model", "--shape", "2,16", "--html", "report.html")
    assert result.exit_code == 1
    assert "FAILED" in (tmp_path / "report.html").read_text()
    result = run("some_ports:wrong", "some_ports:model", "--shape", "2,16", "--html", "nowhere/report.html")
    assert result.exit_code == 2
    assert result.stderr == "jaxact: cannot write nowhere/report.html: No such file or directory\n"


def test_several_inputs_have_shapes_and_dtypes_of_their_own(run):
    names = ("some_ports:take", "some_ports:take_in_torch")
    arguments = ("--shape", "5", "--shape", "2,3", "--dtype", "int32", "--dtype", "bfloat16", "--json")
    rows = json.loads(run(*names, *arguments).stdout)["rows"]
    assert [(row["name"], row["dtype"], row["shape"]) for row in rows] == [
        ("output", "bfloat16", [5, 3]),
        ("gradient of input 1", "bfloat16", [2, 3]),
    ]


def test_a_name_may_have_dots_and_a_scalar_no_shape(run):
    assert run("some_ports:Ports.right", "some_ports:model.forward", "--shape", "2,16").exit_code == 0
    result = run("jaxact:silu", "torch.nn.functional:silu", "--shape", "", "--dtype", "float16")
    assert result.exit_code == 0
    assert "scalar" in result.stdout


WRONG = {
    "class": (["some_ports:right", "some_ports:Net"], "some_ports:Net is a class, which is not called to make one"),
    "factory": (
        ["some_ports:right", "some_ports:make"],
        "some_ports:make cannot be called with 1 input: too many positional arguments; what makes a model is not",
    ),
    "factory with an argument": (
        ["some_ports:right", "some_ports:returns_a_model"],
        "TypeError: compare: the torch function returned a Sequential at the top; return tensors",
    ),
    "number": (["some_ports:number", "some_ports:model"], "some_ports:number is no function or module but of type int"),
    "misspelt": (["some_ports:rihgt", "some_ports:model"], "some_ports has no rihgt; it has right"),
    "import that fails": (
        ["imports_nothing:f", "some_ports:model"],
        "imports_nothing cannot be imported: No module named 'there_is_no_such_module'",
    ),
    "no Python": (["no_python:f", "some_ports:model"], "no_python cannot be imported: SyntaxError: invalid syntax"),
    "no module": (["some_port:f", "some_ports:model"], "there is no module some_port, here or installed"),
    "no name": (["some_ports", "some_ports:model"], "'some_ports' is no name of the form MODULE:NAME, as model:apply"),
    "function that raises": (
        ["some_ports:raises", "some_ports:model"],
        "RuntimeError: it is [bold]broken[/bold] (some_ports.py:",
    ),
    "wrong order": (["some_ports:model", "some_ports:right"], "some_ports:model is a torch module; the JAX function"),
}


@pytest.mark.parametrize(("names", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_called_is_said(run, names, message):
    result = run(*names, "--shape", "2,16")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"jaxact compare: {message.removeprefix('TypeError: compare: ')}")
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


OPTIONS = {
    "a shape that is none": (["--shape", "2,a"], "'2,a' is no shape; write it as 2,16"),
    "a negative shape": (["--shape", "2,-1"], "'2,-1' is no shape; write it as 2,16"),
    "a dtype that is none": (["--shape", "2,16", "--dtype", "float17"], "there is no dtype 'float17'"),
    "a dtype that cannot be drawn": (["--shape", "2,16", "--dtype", "U3"], "inputs of U3 cannot be drawn"),
    "dtypes for other inputs": (
        ["--shape", "2,16", "--dtype", "float32", "--dtype", "float16"],
        "there are 1 shapes and 2 dtypes: give one for all, or one for each",
    ),
    "two shapes for one input": (
        ["--shape", "2,16", "--shape", "2"],
        "some_ports:right cannot be called with 2 inputs",
    ),
    "a shape that torch refuses": (["--shape", "2,15"], "RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
}


@pytest.mark.parametrize(("options", "message"), OPTIONS.values(), ids=OPTIONS)
def test_what_cannot_be_drawn_is_said(run, options, message):
    result = run("some_ports:right", "some_ports:model", *options)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"jaxact compare: {message}")
    assert len(result.stderr.splitlines()) == 1


def test_without_a_shape_it_exits_with_2(run):
    assert run("some_ports:right", "some_ports:model").exit_code == 2


def test_the_installed_command_finds_modules_of_the_current_directory(run, tmp_path):
    program = "import sys; sys.path[0] = '/nowhere'; from jaxact.__main__ import main; main()"
    arguments = ["compare", "some_ports:right", "some_ports:model", "--shape", "2,16"]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=tmp_path,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("passed")

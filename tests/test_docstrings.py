"""Docstrings: every example runs and prints what it says; every public function has what a reader needs."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import jaxact
import jaxact.interop
from oracle import ROWS

MODULES = sorted(
    module.name
    for package in (jaxact, jaxact.interop)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if module.name != "jaxact.__main__"
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


@pytest.mark.parametrize(
    "section", ["Args:", "Returns:", "Raises:", "Example:", "See Also:", "References:", ".. math::"]
)
@pytest.mark.parametrize("row", ROWS)
def test_sections(row, section):
    assert section in row.function.__doc__


@pytest.mark.parametrize("row", ROWS)
def test_names_the_torch_counterpart(row):
    counterparts = [counterpart for counterpart in (row.torch_function, row.torch_module) if counterpart]
    assert all(counterpart in row.function.__doc__ for counterpart in counterparts)
    assert f"jaxact.{row.name}(" in row.function.__doc__


def test_the_readmes_examples_print_what_they_say(capsys):
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", readme, re.S))
    exec(code, {})
    expected = re.findall(r"^print\(.*\)  # (.*)$", code, re.M)
    assert capsys.readouterr().out.splitlines() == expected
    assert len(expected) == code.count("print(")

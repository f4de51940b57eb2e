"""Divergences: the list in the docs is true of both libraries."""

import re
from pathlib import Path

import exact
import jax
import numpy as np
import pytest

from jaxact.catalog import BY_NAME
from oracle import torch_gradient, torch_value

PAGE = Path(__file__).parents[1] / "docs" / "divergences.md"
LINES = re.findall(r"^\| `(\w+)` \| (.*?) ?\| (\w+) \| (\S+) \| (\S+) \| (\S+) \|", PAGE.read_text(), re.M)


def test_the_list_is_read():
    assert len(LINES) == PAGE.read_text().count("\n| `")
    assert LINES


def number(text):
    """Return a parameter's value, which is a number or a word."""
    return text if text.isalpha() else float(text)


@pytest.mark.parametrize(("name", "parameters", "what", "at", "theirs", "true"), LINES)
def test_row(name, parameters, what, at, theirs, true):
    row, x, theirs, true = BY_NAME[name], np.float32(at), np.float32(theirs), float(true)
    parameters = {key: number(v) for key, v in re.findall(r"(\w+)=([\w.+-]+)", parameters)}
    if what == "value":
        torchs, ours = torch_value(row, x, **parameters), row.function(x, **parameters)
        exactly, ulps = exact.value, 2
    else:
        torchs = torch_gradient(row, x, np.float32(1), **parameters)
        ours = jax.grad(lambda x: row.function(x, **parameters))(x)
        exactly, ulps = exact.derivative, 4
    if np.isfinite(x):  # else the exact value is a limit
        assert true == pytest.approx(float(exactly(getattr(exact, name), x, **parameters)), rel=1e-15)
    np.testing.assert_array_equal(torchs, theirs)
    assert abs(float(ours) - true) <= ulps * np.spacing(np.float32(abs(true)))
    assert not abs(float(torchs) - true) <= ulps * np.spacing(np.float32(abs(true)))

"""Divergences: the list in the docs is true of both libraries."""

import contextlib
import re
from pathlib import Path

import exact
import jax
import numpy as np
import pytest
import torch

from jaxact.catalog import BY_NAME
from jaxact.interop import to_numpy, to_torch
from oracle import torch_call, torch_gradient, torch_value

PAGE = Path(__file__).parents[1] / "docs" / "divergences.md"
ALL = re.findall(r"^\| `(\w+)` \| (.*?) ?\| (\w+) \| (\S+) \| (\S+) \| (\S+) \|", PAGE.read_text(), re.M)
INTEGERS = [line for line in ALL if "int" in line[2]]  # where others say of what they are, these name their dtype
LINES = [line for line in ALL if line not in INTEGERS]


def test_the_list_is_read():
    assert len(ALL) == PAGE.read_text().count("\n| `")
    assert LINES
    assert INTEGERS


def parsed(parameters):
    """Return the parameters, of which each is an integer, a number or a word."""
    return {key: _value(text) for key, text in re.findall(r"(\w+)=([\w.+-]+)", parameters)}


def _value(text):
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


@pytest.mark.parametrize(("name", "parameters", "what", "at", "theirs", "true"), LINES)
def test_row(name, parameters, what, at, theirs, true):
    row, x, theirs, true = BY_NAME[name], np.float32(at), np.float32(theirs), float(true)
    parameters = parsed(parameters)
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


EXACT = {
    "softmin": lambda x, dim, dtype: np.exp(-x) / np.sum(np.exp(-x)),
    "softsign": exact.softsign,
    "threshold": lambda x, threshold, value: np.where(x > threshold, x, value),
}


@pytest.mark.parametrize(("name", "parameters", "dtype", "at", "theirs", "true"), INTEGERS)
def test_row_of_integers(name, parameters, dtype, at, theirs, true):
    row, parameters = BY_NAME[name], parsed(parameters)
    x, theirs, true = (np.array(text.split(","), float) for text in (at, theirs, true))
    np.testing.assert_allclose(true, EXACT[name](x, **parameters), rtol=1e-15)
    x = x.astype(dtype)
    torchs = to_numpy(torch_call(row, to_torch(x), parameters | {k: torch.float32 for k in parameters if k == "dtype"}))
    np.testing.assert_array_equal(torchs, theirs.astype(torchs.dtype))
    if name == "threshold":
        with pytest.raises(OverflowError, match="threshold: value must be in the range of the input's dtype"):
            row.function(x, **parameters)
    else:
        assert (abs(row.function(x, **parameters) - true) <= 2 * np.spacing(np.float32(abs(true)))).all()
    assert (abs(torchs - true) > 2 * np.spacing(np.float32(abs(true)))).all()

"""Divergences: the list in the docs is true of both libraries."""

import re
from pathlib import Path

import exact
import jax
import numpy as np
import pytest
import torch

from jaxact.catalog import BY_NAME
from jaxact.divergences import DIVERGENCES, REMARKS, remarks
from jaxact.interop import to_numpy, to_torch
from jaxact.interop.counterparts import counterpart
from oracle import torch_call

PAGE = (Path(__file__).parents[1] / "docs" / "divergences.md").read_text()
FLOATS = [row for row in DIVERGENCES if row.dtype == "float32"]
INTEGERS = [row for row in DIVERGENCES if row.dtype != "float32"]


def identity(row):
    """Return what a row is called in the tests."""
    return f"{row.function}-{row.of}-{row.at[0]:g}-{row.dtype}"


def numbers(text):
    return [repr(float(number)) for number in text.split(",")]


def test_the_page_shows_the_list():
    cells = r"^\| `(\w+)` \| (.*?) ?\| (\w+) \| (\S+) \| (\S+) \| (\S+) \| (.*) \|$"
    shown = [
        [name, parameters, of, *map(numbers, (at, theirs, true)), because]
        for name, parameters, of, at, theirs, true, because in re.findall(cells, PAGE, re.M)
    ]
    assert len(shown) == PAGE.count("\n| `")
    assert shown == [
        [
            row.function,
            ", ".join(f"{key}={value}" for key, value in row.parameters.items()),
            row.of if row.dtype == "float32" else row.dtype,  # where integers go in, the page names their dtype
            *([repr(float(number)) for number in part] for part in (row.at, row.torch, row.exact)),
            row.because,
        ]
        for row in [*FLOATS, *INTEGERS]
    ]


def test_the_page_shows_the_remarks():
    shown = [" ".join(point.split()) for point in re.findall(r"^- (.*(?:\n  .*)*)", PAGE, re.M)]
    assert shown == list(REMARKS.values())
    for functions, text in REMARKS.items():
        assert set(functions) <= set(BY_NAME)
        assert all(f"`{name}`" in text for name in functions)
        assert all(text.replace("`", "") in remarks(name) for name in functions)


@pytest.mark.parametrize("divergence", FLOATS, ids=identity)
def test_row(divergence):
    name, parameters = divergence.function, divergence.parameters
    row, x, true = BY_NAME[name], np.float32(divergence.at[0]), divergence.exact[0]

    def in_torch(tensor):
        return counterpart(row, parameters, tensor)(tensor)

    if divergence.of == "value":
        torchs, ours = to_numpy(in_torch(to_torch(x))), row.function(x, **parameters)
        exactly, ulps = exact.value, 2
    else:
        tensor = to_torch(x, copy=True).requires_grad_()
        torchs = to_numpy(torch.autograd.grad(in_torch(tensor), tensor)[0])
        ours = jax.grad(lambda x: row.function(x, **parameters))(x)
        exactly, ulps = exact.derivative, 4
    if np.isfinite(x):  # else the exact value is a limit
        assert true == pytest.approx(float(exactly(getattr(exact, name), x, **parameters)), rel=1e-15)
    np.testing.assert_array_equal(torchs, np.float32(divergence.torch[0]))
    assert abs(float(ours) - true) <= ulps * np.spacing(np.float32(abs(true)))
    assert not abs(float(torchs) - true) <= ulps * np.spacing(np.float32(abs(true)))


EXACT = {
    "softmin": lambda x, dim, dtype: np.exp(-x) / np.sum(np.exp(-x)),
    "softsign": exact.softsign,
    "threshold": lambda x, threshold, value: np.where(x > threshold, x, value),
}


@pytest.mark.parametrize("divergence", INTEGERS, ids=identity)
def test_row_of_integers(divergence):
    name, parameters = divergence.function, dict(divergence.parameters)
    row, x = BY_NAME[name], np.array(divergence.at)
    theirs, true = (np.array(part, float) for part in (divergence.torch, divergence.exact))
    np.testing.assert_allclose(true, EXACT[name](x, **parameters), rtol=1e-15)
    x = x.astype(divergence.dtype)
    torchs = to_numpy(torch_call(row, to_torch(x), parameters | {k: torch.float32 for k in parameters if k == "dtype"}))
    np.testing.assert_array_equal(torchs, theirs.astype(torchs.dtype))
    if name == "threshold":
        with pytest.raises(OverflowError, match="threshold: value must be in the range of the input's dtype"):
            row.function(x, **parameters)
    else:
        assert (abs(row.function(x, **parameters) - true) <= 2 * np.spacing(np.float32(abs(true)))).all()
    assert (abs(torchs - true) > 2 * np.spacing(np.float32(abs(true)))).all()

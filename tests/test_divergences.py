"""Divergences: the list in the docs is true of both libraries."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

import exact
from jaxact.catalog import BY_NAME
from oracle import torch_gradient, torch_value

PAGE = Path(__file__).parents[1] / "docs" / "divergences.md"
LINES = re.findall(r"^\| `(\w+)` \| (.*?) ?\| (\w+) \| (\S+) \| (\S+) \| (\S+) \|", PAGE.read_text(), re.M)


def test_the_list_is_read():
    assert len(LINES) == PAGE.read_text().count("\n| `")
    assert LINES


@pytest.mark.parametrize(("name", "parameters", "what", "at", "theirs", "true"), LINES)
def test_row(name, parameters, what, at, theirs, true):
    row, x = BY_NAME[name], np.float32(at)
    parameters = {key: float(v) for key, v in re.findall(r"(\w+)=([\w.+-]+)", parameters)}
    if what == "value":
        torchs = torch_value(row, x, **parameters)
        ours = row.function(x, **parameters)
        truth, ulps = exact.value(getattr(exact, name), x, **parameters), 2
    else:
        torchs = torch_gradient(row, x, np.float32(1), **parameters)
        ours = jax.grad(lambda x: row.function(x, **parameters))(x)
        truth, ulps = exact.derivative(getattr(exact, name), x, **parameters), 4
    assert float(torchs) == float(np.float32(theirs)) or (np.isnan(torchs) and theirs == "nan")
    assert float(true) == pytest.approx(float(truth), rel=1e-15)
    assert abs(float(ours) - float(true)) <= ulps * np.spacing(np.float32(abs(float(true))))
    assert float(torchs) != float(ours)

"""Live torch as the oracle: the counterpart of a catalog row, run forward and backward."""

import numpy as np
import pytest
import torch

from jaxact.catalog import CATALOG
from jaxact.interop import to_numpy, to_torch
from jaxact.interop.counterparts import counterpart

# The rows that most tests walk; what always draws at random or takes several arrays has test files of its own.
ROWS = [pytest.param(row, id=row.name) for row in CATALOG if row.of_one_array]

# Functions that only select, or scale once, are torch's bit for bit; the two others of lines and parabolas round twice.
SELECTING = {row.name for row in CATALOG if row.piecewise} - {"hardsigmoid", "hardswish"}

SHAPES = [(), (8,), (3, 6), (2, 0, 4), (2, 3, 4), (2, 3, 4, 6), (2, 1, 3, 2, 4)]


def names(*wanted):
    """Return the rows of these functions, as parameters of a test."""
    assert set(wanted) <= {row.name for row in CATALOG}
    return [parameter for parameter in ROWS if parameter.id in wanted]


def accepts(row, shape):
    """Say whether the function takes an array of this shape."""
    if row.name == "softmax2d":
        return len(shape) in (3, 4)
    return row.name != "glu" or (len(shape) > 0 and shape[-1] % 2 == 0)


def shaped(row, x):
    """Return the numbers x as an array that the function takes; one that mixes numbers gets them in pairs."""
    if row.name == "softmax2d":
        return np.stack([x, np.roll(x, 1)])[..., None]
    return x.reshape(-1, 1) if row.elementwise else np.stack([x, np.roll(x, 1)], -1)


def flushed(x):
    """Return x with subnormal numbers set to 0, as XLA's CPU code does."""
    return np.where(np.abs(x) < np.finfo(x.dtype).tiny, np.copysign(x.dtype.type(0), x), x)


def torch_call(row, tensor, parameters):
    """Return torch's output for a tensor."""
    return counterpart(row, dict(row.parameters) | parameters, tensor)(tensor)


def torch_value(row, x, dtype=None, **parameters):
    """Return torch's value at the NumPy array x, computed at the torch dtype given."""
    return to_numpy(torch_call(row, to_torch(x, copy=True, dtype=dtype), parameters))


def torch_gradient(row, x, cotangent, dtype=None, **parameters):
    """Return torch's gradient at x for the cotangent, computed at the torch dtype given."""
    tensor = to_torch(x, copy=True, dtype=dtype).requires_grad_()
    y = torch_call(row, tensor, parameters)
    (dx,) = torch.autograd.grad(y, tensor, to_torch(cotangent, copy=True, dtype=dtype))
    return to_numpy(dx)


def special_points(row, dtype=np.float32):
    """Return where things go wrong: kinks and their neighbours, zeros, infinities, NaN, extremes."""
    info = np.finfo(dtype)
    kinks = np.array(row.kinks, dtype)
    around = np.concatenate([kinks, np.nextafter(kinks, dtype(np.inf)), np.nextafter(kinks, dtype(-np.inf))])
    around = around[(around == 0) | (np.abs(around) >= info.tiny)]  # XLA's CPU code flushes subnormals
    magnitudes = np.array([0.0, info.tiny, info.eps, 1.0, 88.0, 104.0, 1e4, 1e30, info.max, np.inf], dtype)
    return np.concatenate([magnitudes, -magnitudes, around, np.array([np.nan], dtype)])


def spread(rng, shape, dtype=np.float32, low=-20, high=6):
    """Return random numbers of both signs over the magnitudes 2**low to 2**high."""
    return (np.exp2(rng.uniform(low, high, shape)) * rng.choice([-1, 1], shape)).astype(dtype)

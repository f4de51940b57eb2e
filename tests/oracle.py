"""Live torch as the oracle: the counterpart of a catalog row, run forward and backward."""

import numpy as np
import pytest
import torch

from jaxact.catalog import CATALOG
from jaxact.interop import to_numpy, to_torch
from jaxact.interop.parity import resolve

ROWS = [pytest.param(row, id=row.name) for row in CATALOG]


def names(*wanted):
    """Return the rows of these functions, as parameters of a test."""
    assert set(wanted) <= {row.name for row in CATALOG}
    return [parameter for parameter in ROWS if parameter.id in wanted]


def torch_value(row, x, dtype=None, **parameters):
    """Return torch's value at the NumPy array x, computed at the torch dtype given."""
    y = resolve(row.torch_function)(to_torch(x, copy=True, dtype=dtype), **(dict(row.parameters) | parameters))
    return to_numpy(y)


def torch_gradient(row, x, cotangent, dtype=None, **parameters):
    """Return torch's gradient at x for the cotangent, computed at the torch dtype given."""
    tensor = to_torch(x, copy=True, dtype=dtype).requires_grad_()
    y = resolve(row.torch_function)(tensor, **(dict(row.parameters) | parameters))
    (dx,) = torch.autograd.grad(y, tensor, to_torch(cotangent, copy=True, dtype=dtype))
    return to_numpy(dx)


def special_points(row, dtype=np.float32):
    """Return the places where things go wrong: kinks and their neighbours, zeros, infinities, NaN, extremes."""
    info = np.finfo(dtype)
    kinks = np.array(row.kinks, dtype)
    around = [kinks, np.nextafter(kinks, dtype(np.inf)), np.nextafter(kinks, dtype(-np.inf))]
    around = np.concatenate(around)
    around = around[(around == 0) | (np.abs(around) >= info.tiny)]  # XLA's CPU code flushes subnormals
    magnitudes = np.array([0.0, info.tiny, info.eps, 1.0, 88.0, 104.0, 1e4, 1e30, info.max, np.inf], dtype)
    return np.concatenate([magnitudes, -magnitudes, around, np.array([np.nan], dtype)])


def spread(rng, shape, dtype=np.float32, low=-20, high=6):
    """Return random numbers of both signs over the magnitudes 2**low to 2**high."""
    return (np.exp2(rng.uniform(low, high, shape)) * rng.choice([-1, 1], shape)).astype(dtype)

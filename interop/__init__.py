"""Between frameworks: arrays, and functions, moved between JAX, NumPy and PyTorch."""

from ._dtypes import PrecisionWarning
from .tensors import to_jax, to_numpy, to_torch

__all__ = ["PrecisionWarning", "to_jax", "to_numpy", "to_torch"]

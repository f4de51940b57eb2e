"""Between frameworks: arrays, functions and modules moved between JAX, NumPy and PyTorch.

Importing this package imports no torch. The conversions import it when a tensor comes in or is asked for; the
functions that take torch functions and modules to JAX, or back, import it when they are looked up.
"""

from typing import TYPE_CHECKING, Any

from ._dtypes import PrecisionWarning
from ._to_jax import to_jax
from ._to_numpy import to_numpy
from ._to_torch import to_torch

if TYPE_CHECKING:
    from ._as_jax import as_jax
    from ._as_torch import as_torch
    from ._port import port

__all__ = ["PrecisionWarning", "as_jax", "as_torch", "port", "to_jax", "to_numpy", "to_torch"]


def __getattr__(name: str) -> Any:
    if name == "as_jax":
        from ._as_jax import as_jax

        return as_jax
    if name == "as_torch":
        from ._as_torch import as_torch

        return as_torch
    if name == "port":
        from ._port import port

        return port
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

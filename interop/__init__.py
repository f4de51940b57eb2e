"""Between frameworks: arrays, functions and modules moved between JAX, NumPy and PyTorch.

Importing this package imports no torch. The conversions import it when a tensor comes in or is asked for; the
bridges between functions and modules are made of torch, and import it when they are looked up.
"""

from typing import TYPE_CHECKING, Any

from ._dtypes import PrecisionWarning
from .tensors import to_jax, to_numpy, to_torch

if TYPE_CHECKING:
    from .jax_bridge import as_jax
    from .modules import port
    from .torch_bridge import as_torch

__all__ = ["PrecisionWarning", "as_jax", "as_torch", "port", "to_jax", "to_numpy", "to_torch"]


def __getattr__(name: str) -> Any:
    if name == "as_jax":
        from .jax_bridge import as_jax

        return as_jax
    if name == "as_torch":
        from .torch_bridge import as_torch

        return as_torch
    if name == "port":
        from .modules import port

        return port
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

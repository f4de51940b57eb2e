"""Between frameworks: arrays, functions and modules moved between JAX, NumPy and PyTorch.

Importing this package imports no torch. The conversions import it when a tensor comes in or is asked for; the
functions that take torch functions and modules to JAX, or back, import it when they are looked up.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ._dtypes import PrecisionWarning
from ._to_jax import to_jax
from ._to_numpy import to_numpy
from ._to_torch import to_torch
from ._torch_missing import torch_missing

if TYPE_CHECKING:
    from ._as_jax import as_jax
    from ._as_torch import as_torch
    from ._port import port
    from .crosscheck.comparing import assert_parity, compare

__all__ = [
    "PrecisionWarning",
    "as_jax",
    "as_torch",
    "assert_parity",
    "compare",
    "port",
    "to_jax",
    "to_numpy",
    "to_torch",
]

# The functions whose modules import torch.
_LOOKED_UP = {
    "as_jax": "._as_jax",
    "as_torch": "._as_torch",
    "assert_parity": ".crosscheck.comparing",
    "compare": ".crosscheck.comparing",
    "port": "._port",
}


def __getattr__(name: str) -> Any:
    if name not in _LOOKED_UP:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(_LOOKED_UP[name], __name__)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise torch_missing(name) from None
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

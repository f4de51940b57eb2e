"""The tuples with names in which ``torch.max``, ``sort`` or ``svd`` return results, as classes that JAX knows.

``jax.tree`` takes torch's own, ``torch.return_types``, for leaves.
"""

import collections
import functools
import sys
from typing import Any


def is_named_result(x: Any) -> bool:
    """Say whether ``x`` is a result that torch names."""
    return isinstance(x, tuple) and type(x).__module__ == "torch.return_types"


def named_tuple(result: Any) -> Any:
    """Return the class of named tuples with the same names as a result that torch names."""
    return _of_name(type(result).__name__)


@functools.cache
def _of_name(name: str) -> Any:
    fields = getattr(sys.modules["torch"].return_types, name).__match_args__
    return collections.namedtuple(name, fields, module=__name__)  # noqa: PYI024 - known at run time only


def __getattr__(name: str) -> Any:
    """Return the named tuple of that name, where ``pickle`` looks for it."""
    if not name.startswith("_"):
        import torch

        if hasattr(torch.return_types, name):
            return _of_name(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

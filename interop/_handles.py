"""The functions that ``as_torch`` has returned, each by a number, which is what a graph of ``torch.compile`` can hold.

Both ``_as_torch``, which enters them, and ``_graph_call``, which finds them, import this module, and it neither.
"""

import itertools
import weakref
from collections.abc import Callable
from typing import Any

_functions: weakref.WeakValueDictionary[int, Callable[..., Any]] = weakref.WeakValueDictionary()
_unused = itertools.count()


def handle_of(function: Callable[..., Any]) -> int:
    """Return a new number for the function, which is forgotten with it."""
    handle = next(_unused)
    _functions[handle] = function
    return handle


def function_of(handle: int) -> Any:
    """Return the function of that number."""
    return _functions[handle]

"""What ``torch.compile`` meets where it cannot look inside: a break of the graph, at a conversion or a call of as_jax.

Only Dynamo imports this module, while it traces: importing jaxact.interop imports no torch, and
``torch.compiler.disable`` imports ``torch._dynamo``, which takes seconds.
"""

from collections.abc import Callable
from typing import Any

import torch


@torch.compiler.disable(reason="it is JAX that works here, which no graph of torch can hold")
def call(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function as if nobody compiled, between the graph before and the graph after."""
    return fn(*args, **kwargs)

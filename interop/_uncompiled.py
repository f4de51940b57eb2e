"""What ``torch.compile`` meets when it traces a call of an ``as_jax`` function: a break of the graph.

Only Dynamo imports this module, while it traces, because ``torch.compiler.disable`` imports ``torch._dynamo``, which
takes seconds.
"""

from collections.abc import Callable
from typing import Any

import torch


@torch.compiler.disable(reason="a function of as_jax runs in JAX")
def call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a function as if nobody compiled."""
    return fn(*args, **kwargs)

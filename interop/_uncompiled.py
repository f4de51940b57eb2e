"""What a conversion is to ``torch.compile``: a break in the graph.

Only Dynamo imports this module, while it traces, so that importing jaxact.interop imports no torch.
"""

from collections.abc import Callable
from typing import Any

import torch


@torch.compiler.disable(reason="it moves arrays out of torch or into it, which no graph can hold")
def call(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call ``fn`` on real arrays, between the graph before and the graph after."""
    return fn(*args, **kwargs)

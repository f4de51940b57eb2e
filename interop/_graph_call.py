"""What ``torch.compile`` meets when it traces a call of an ``as_torch`` function.

Only Dynamo imports this module, while it traces: importing ``torch._dynamo`` takes seconds, which nobody
who does not compile should wait for.
"""

from typing import Any

import jax
import torch

from ._handles import function_of

# Public as torch.compiler.nonstrict_trace since torch 2.14; until then documented under torch._dynamo.
if hasattr(torch.compiler, "nonstrict_trace"):
    _nonstrict_trace = torch.compiler.nonstrict_trace
else:
    import torch._dynamo

    _nonstrict_trace = torch._dynamo.nonstrict_trace


@_nonstrict_trace
def call(handle: int, args: Any, kwargs: Any) -> Any:
    """Call the ``as_torch`` function of that handle; Dynamo does not look inside, AOTAutograd does."""
    return _call(handle, args, kwargs)


# After a graph break the call runs for real, and there Dynamo must not look inside either.
@torch.compiler.disable
def _call(handle: int, args: Any, kwargs: Any) -> Any:
    args, kwargs = jax.tree.map(_concrete, (args, kwargs))
    return function_of(handle).call(*args, **kwargs)


def _concrete(leaf: Any) -> Any:
    """Return the number behind a symbolic one, with a guard that compiles anew for another."""
    if isinstance(leaf, torch.SymInt):
        return int(leaf)
    if isinstance(leaf, torch.SymFloat):
        return float(leaf)
    return leaf

"""torch's functions in float64: whatever the code casts to a narrower float stays as wide as it is."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_WIDER = {
    torch.float32: torch.float64,
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.complex64: torch.complex128,
}
_CASTS = {torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16}


@contextlib.contextmanager
def in_float64() -> Iterator[None]:
    """Run torch's functions in float64 while this lasts, casts and weights of narrower floats included.

    ``module.double()`` would change the module, and nothing where its code says ``.float()``, as many norms do.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Lifting():
            yield
    finally:
        torch.set_default_dtype(before)


class _Lifting(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if func is torch.autograd.grad:  # it finds its tensors by identity
            return func(*args, **kwargs)
        if name in ("__get__", "__set__", "__delete__"):  # an attribute
            attribute = func(*args, **kwargs)
            return _lift(attribute) if isinstance(attribute, torch.dtype) else attribute
        if func in _CASTS:
            func = torch.Tensor.double
        # What is written to stays what it is: a wider copy would take the values, and be dropped.
        kept = 1 if name == "__setitem__" or (name.endswith("_") and not name.endswith("__")) else 0
        lifted = _lift(args[kept:])
        return func(*args[:kept], *lifted, **{k: v if k == "out" else _lift(v) for k, v in kwargs.items()})


def _lift(x: Any) -> Any:
    if type(x) in (tuple, list):
        return type(x)(map(_lift, x))
    if type(x) is dict:
        return {key: _lift(value) for key, value in x.items()}
    if isinstance(x, torch.dtype):
        return _WIDER.get(x, x)
    if isinstance(x, torch.Tensor) and x.dtype in _WIDER:
        return x.to(_WIDER[x.dtype])
    return x

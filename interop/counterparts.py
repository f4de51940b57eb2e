"""Torch's counterpart of a row of the catalog, ready to be called: for the tests, the checks and the benchmarks."""

from collections.abc import Callable, Mapping
from pkgutil import resolve_name
from typing import Any

import torch

from jaxact.catalog import Activation


def counterpart(row: Activation, parameters: Mapping[str, Any], like: torch.Tensor) -> Callable[..., torch.Tensor]:
    """Return torch's function of tensors, or where torch has none its module, at these parameters.

    Args:
        row: The activation.
        parameters: Its parameters by name. A ``weight``, which torch wants as a tensor, may be a number.
        like: A tensor of the dtype and on the device of what the function will be called with.

    Raises:
        ValueError: If torch has neither.
    """
    parameters = dict(parameters)
    if "weight" in parameters:
        parameters["weight"] = torch.as_tensor(parameters["weight"], dtype=like.dtype, device=like.device)
    if row.torch_function is not None:
        function = resolve_name(row.torch_function)
        return lambda *inputs: function(*inputs, **parameters)
    if row.torch_module is not None:
        return resolve_name(row.torch_module)(**parameters)
    raise ValueError(f"counterpart: torch has neither a function nor a module for {row.name}")

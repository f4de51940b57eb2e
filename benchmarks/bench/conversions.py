"""What it costs to move an array, or a call, between JAX, NumPy and torch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.utils.dlpack import from_dlpack

import jaxact
from jaxact.interop import as_torch, to_jax, to_numpy, to_torch

from .results import Conversion
from .timing import microseconds
from .workloads import ROW, normal


def conversions(*, rounds: int) -> list[Conversion]:
    """Measure the conversions of arrays, and calls through ``as_torch``."""
    x = jax.device_put(normal(ROW, "float32", 0), jax.devices("cpu")[0])
    tensor = to_torch(x, copy=True)
    array = tensor.numpy()  # aligned as XLA wants it
    tanh = as_torch(jaxact.tanh)
    leaf, cotangent = tensor.clone().requires_grad_(), torch.ones_like(tensor)
    pairs: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "JAX to torch": (lambda: to_torch(x), lambda: from_dlpack(x)),
        "JAX to NumPy": (lambda: to_numpy(x), lambda: np.from_dlpack(x)),
        "torch to JAX": (lambda: to_jax(tensor), lambda: jnp.from_dlpack(tensor)),
        "torch to NumPy": (lambda: to_numpy(tensor), lambda: np.from_dlpack(tensor)),
        "NumPy to JAX": (lambda: to_jax(array), lambda: jnp.from_dlpack(array)),
        "NumPy to torch": (lambda: to_torch(array), lambda: from_dlpack(array)),
        "as_torch(jaxact.tanh), value": (lambda: tanh(tensor), lambda: torch.tanh(tensor)),
        "as_torch(jaxact.tanh), value and gradient": (
            lambda: torch.autograd.grad(tanh(leaf), leaf, cotangent),
            lambda: torch.autograd.grad(torch.tanh(leaf), leaf, cotangent),
        ),
    }
    return [
        Conversion(name, microseconds({"jaxact": ours, "native": native}, rounds), " to " in name)
        for name, (ours, native) in pairs.items()
    ]

"""What is measured: every function at its default parameters in jaxact, jax.nn and torch, and the inputs for it."""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from jaxact.catalog import BY_NAME, CATALOG
from jaxact.interop.counterparts import counterpart

from .jax_nn import JAX_NN

# A row of a softmax, and the inputs of an eager call.
ROW = 1024

# These take weights: matrix products make up their time, so that x + 1 is no measure for them.
LEFT_OUT = frozenset(row.name for row in CATALOG if not {*row.required} <= {"key", *row.parameters})

# All axes but the first of what takes no rows, for inputs of few elements and of many.
SHAPES = {
    "softmax2d": ((16, 8, 8), (16, 32, 32)),
    "scaled_dot_product_attention": ((1, 16, 64), (8, 256, 64)),
}


@dataclass(frozen=True)
class Workload:
    """A function to measure, at its default parameters where it has some.

    Attributes:
        name: The name of the function, and of the variant.
        function: The function in the catalog.
        parameters: Its parameters; a "key" only JAX knows.
        inputs: How many inputs it takes, the same array each.
    """

    name: str
    function: str
    parameters: Mapping[str, Any]
    inputs: int = 1

    def jaxact(self, x: jax.Array) -> jax.Array:
        """Return jaxact's output."""
        return BY_NAME[self.function].function(*[x] * self.inputs, **self.parameters)

    def jax_nn(self, x: jax.Array) -> jax.Array:
        """Return jax.nn's output, if the function is in JAX_NN."""
        return JAX_NN[self.function](*[x] * self.inputs, **self.parameters)

    def torch(self, like: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return torch's function of one tensor, for tensors of this dtype and on this device."""
        parameters = {name: value for name, value in self.parameters.items() if name != "key"}
        function = counterpart(BY_NAME[self.function], parameters, like)
        return function if self.inputs == 1 else lambda x: function(*[x] * self.inputs)

    def shape(self, size: int) -> tuple[int, ...]:
        """Return the shape of an input of so many elements, a multiple of ROW."""
        small, large = SHAPES.get(self.function, ((ROW,), (ROW,)))
        return -1, *(small if size % math.prod(large) else large)


@functools.cache
def workloads() -> dict[str, Workload]:
    """Return all of them, by name. It is a function, since the key for gumbel_softmax takes JAX some work."""
    found, key = [], jax.random.key(0)
    for row in CATALOG:
        if row.name in LEFT_OUT:
            continue
        known = {"key": key, **row.parameters}
        parameters = {name: known[name] for name in row.required}
        found.append(Workload(row.name, row.name, parameters, row.inputs))
        if row.name == "gelu":
            found.append(Workload("gelu_tanh", "gelu", {"approximate": "tanh"}))
    return {workload.name: workload for workload in found}


def on_gpu() -> bool:
    """Say whether JAX runs on a GPU."""
    return bool(jax.default_backend() == "gpu")


@functools.lru_cache(maxsize=2)
def normal(size: int, dtype: str, seed: int) -> jax.Array:
    """Return normal numbers of standard deviation 3."""
    numbers = np.random.default_rng(seed).standard_normal(size, np.float32)
    return jnp.asarray(3 * numbers).astype(dtype)

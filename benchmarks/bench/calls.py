"""What an eager call costs: on few elements, where all but the arithmetic is what takes the time."""

from collections.abc import Callable
from typing import Any

import jax

from jaxact.interop import to_torch

from .jax_nn import JAX_NN
from .results import EagerCall
from .timing import microseconds
from .workloads import ROW, Workload, normal


def eager_call(workload: Workload, *, rounds: int) -> EagerCall:
    """Measure eager calls of a function."""
    x = normal(ROW, "float32", 0).reshape(workload.shape(ROW))
    tensor = to_torch(x)
    add = jax.jit(lambda x: x + 1)
    functions: dict[str, Callable[[], Any]] = {"floor": lambda: add(x), "jaxact": lambda: workload.jaxact(x)}
    if workload.function in JAX_NN:
        functions["jax.nn"] = lambda: workload.jax_nn(x)
    function = workload.torch(tensor)
    functions["torch"] = lambda: function(tensor)
    return EagerCall(workload.name, microseconds(functions, rounds))

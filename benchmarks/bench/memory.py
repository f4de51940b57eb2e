"""How much temporary memory the compiled gradient of a deep MLP needs with a function."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from .jax_nn import JAX_NN
from .results import Temporaries
from .workloads import ROW, Workload

# How many inputs the MLP takes, and how many layers it has, each ROW wide.
MLP_BATCH = 64
MLP_DEPTH = 16


def temporaries(workload: Workload) -> Temporaries:
    """Compile the gradient of an MLP of MLP_DEPTH layers, ROW wide, and read what memory it needs."""
    functions = {"jaxact": workload.jaxact}
    if workload.function in JAX_NN:
        functions["jax.nn"] = workload.jax_nn
    return Temporaries(workload.name, {name: _mlp_bytes(workload, function) for name, function in functions.items()})


def _mlp_bytes(workload: Workload, function: Callable[[jax.Array], jax.Array]) -> int:
    def activation(hidden: jax.Array) -> jax.Array:
        return function(hidden.reshape(workload.shape(hidden.size))).reshape(MLP_BATCH, -1)

    def loss(weights: list[jax.Array], x: jax.Array) -> jax.Array:
        for weight in weights:
            x = activation(x @ weight)
        return jnp.mean(x**2)

    # The output of glu is half as wide as its input.
    features = jax.eval_shape(activation, jax.ShapeDtypeStruct((MLP_BATCH, ROW), jnp.float32)).shape[-1]
    weights = [jax.ShapeDtypeStruct((features, ROW), jnp.float32)] * MLP_DEPTH
    x = jax.ShapeDtypeStruct((MLP_BATCH, features), jnp.float32)
    compiled = jax.jit(jax.grad(loss)).lower(weights, x).compile()
    analysis = compiled.memory_analysis()
    if analysis is None:
        raise RuntimeError(f"JAX does not say how much memory a program needs on {jax.default_backend()}")
    return int(analysis.temp_size_in_bytes)

"""The time that a compiled function takes, beside torch's and jax.nn's and what no function could beat."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import torch

from jaxact.interop import to_torch

from .jax_nn import JAX_NN
from .results import Kernel
from .timing import Contender, interleaved
from .workloads import Workload, normal, on_gpu

DTYPES = ("float32", "bfloat16")


def value_and_gradient(function: Callable[[jax.Array], jax.Array]) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Return a function of input and cotangent that gives the value and the gradient."""

    def both(x: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
        y, pull_back = jax.vjp(function, x)
        return y, pull_back(cotangent)[0]

    return both


def _jax_contender(function: Callable[..., Any], *arrays: jax.Array) -> Contender:
    compiled = jax.jit(function)

    def run(calls: int) -> None:
        for _ in range(calls):
            out = compiled(*arrays)
        jax.block_until_ready(out)

    return run


def _torch_contender(
    function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, cotangent: torch.Tensor | None
) -> Contender:
    def run(calls: int) -> None:
        for _ in range(calls):
            out = function(x)
            if cotangent is not None:
                torch.autograd.grad(out, x, cotangent)
        if x.is_cuda:
            torch.cuda.synchronize()

    return run


def _compiled_contender(
    name: str, function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, cotangent: torch.Tensor | None
) -> Contender | None:
    """Return the contender of ``torch.compile``, or None where that fails, for want of a C++ compiler perhaps."""
    torch.compiler.reset()  # it would go on uncompiled after eight functions of the same code
    contender = _torch_contender(torch.compile(function, dynamic=False), x, cotangent)
    try:
        contender(1)
    except RuntimeError as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        warnings.warn(f"torch.compile of {name} failed and is left out: {reason}", stacklevel=2)
        return None
    return contender


def kernel(workload: Workload, computes: str, dtype: str, size: int, *, rounds: int, compiled: bool) -> Kernel:
    """Measure a function.

    Args:
        workload: The function.
        computes: One of COMPUTED.
        dtype: The type.
        size: How many elements the input has, a multiple of ROW.
        rounds: How often to measure.
        compiled: Whether ``torch.compile`` takes part, which takes seconds to start.
    """
    x = normal(size, dtype, 0).reshape(workload.shape(size))
    cotangent = normal(size, dtype, 1).reshape(x.shape)
    output = jax.eval_shape(workload.jaxact, x)
    functions = {"jaxact": workload.jaxact}
    if workload.function in JAX_NN:
        functions["jax.nn"] = workload.jax_nn
    contenders: dict[str, Contender] = {}
    if computes == "value":
        contenders["floor"] = _jax_contender(lambda x: x + 1, x)
        contenders |= {name: _jax_contender(function, x) for name, function in functions.items()}
    else:
        contenders["floor"] = _jax_contender(lambda x, cotangent: (x + 1, x * cotangent), x, cotangent)
        cotangent = cotangent.reshape(-1)[: output.size].reshape(output.shape)
        contenders |= {
            name: _jax_contender(value_and_gradient(function), x, cotangent) for name, function in functions.items()
        }
    # torch reads the same memory, so that no library's input is the warmer one in a cache. It cannot on a GPU that
    # it does not see.
    tensor = to_torch(x)
    if tensor.is_cuda == on_gpu():
        tensor = tensor.requires_grad_(computes != "value")
        gradient = None if computes == "value" else to_torch(cotangent)
        function = workload.torch(tensor)
        contenders["torch"] = _torch_contender(function, tensor, gradient)
        if compiled and (contender := _compiled_contender(workload.name, function, tensor, gradient)):
            contenders["torch.compile"] = contender
    if on_gpu() and workload.inputs == 1:
        contenders["copy"] = _jax_contender(jnp.copy, x)
    # A launch takes as long as a small kernel on a GPU: many are queued, and waited for once.
    times = interleaved(contenders, rounds, calls=20 if on_gpu() else 1)
    # With the gradient, input and cotangent are read, output and gradient written.
    moved = (x.size + output.size) * (1 if computes == "value" else 2)
    return Kernel(
        function=workload.name,
        computes=computes,
        dtype=dtype,
        size=size,
        milliseconds={name: 1e3 * seconds for name, seconds in times.items()},
        traffic=moved / (2 * x.size),
    )

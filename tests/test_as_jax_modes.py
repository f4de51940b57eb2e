"""as_jax: no mode and no transform of torch, wherever a call is made, reaches the function."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

from as_jax_cases import close, setting, x
from jaxact.interop import as_jax
from jaxact.interop._torch_private import FakeTensorMode


class Nothing(torch.overrides.TorchFunctionMode):
    """A mode that answers every function with 0."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return torch.zeros(())


@contextlib.contextmanager
def both():
    with torch.inference_mode(), torch.no_grad():
        yield


# The modes of torch, of a thread and of the process, that a call may be made in.
MODES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "no_grad in inference_mode": both,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "device": lambda: torch.device("meta"),
    "default device": lambda: setting(torch.set_default_device, "meta", torch.get_default_device),
    "default dtype": lambda: setting(torch.set_default_dtype, torch.float64, torch.get_default_dtype),
    "function mode": Nothing,
    "dispatch mode": FakeTensorMode,
    "deterministic": lambda: setting(
        torch.use_deterministic_algorithms, True, torch.are_deterministic_algorithms_enabled
    ),
    "forward mode": torch.autograd.forward_ad.dual_level,
    "saved tensors": lambda: torch.autograd.graph.saved_tensors_hooks(torch.zeros_like, lambda t: t),
    "saved tensors refused": lambda: torch.autograd.graph.disable_saved_tensors_hooks("none here"),
    "one thread": lambda: torch.autograd.set_multithreading_enabled(False),
}


class Square(nn.Module):
    def forward(self, x):
        return (torch.sin(x @ x) + torch.ones(2) / 2 + torch.arange(2) / 4 * x).sum()


def square_in_jax(x):
    return (jnp.sin(x @ x) + 0.5 + jnp.array([[0, 0.25]]) * x).sum()


USES = {
    "eager": lambda f: f,
    "gradient": jax.grad,
    "jit": lambda f: jax.jit(jax.value_and_grad(f)),
    "second order": lambda f: jax.jacrev(jax.jacrev(f)),
    "hessian": lambda f: jax.jit(jax.hessian(f)),
    "batch": lambda f: lambda x: jax.vmap(jax.grad(f))(jnp.stack([x, -x])),
}


@functools.cache
def used(use, fn):
    """Return a use of the function in JAX, compiled, and what it must give."""
    matrix = x[:, :2]
    call = functools.partial(use(as_jax(fn)), matrix)
    call()
    return call, use(square_in_jax)(matrix)


@pytest.mark.parametrize("fn", [Square(), lambda x: Square()(x)], ids=["module", "function"])
@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_no_mode_of_torch_reaches_a_call(mode, use, fn):
    call, expected = used(use, fn)
    with mode():
        actual = jax.block_until_ready(call())
    jax.tree.map(functools.partial(close, rtol=1e-5, atol=1e-5), actual, expected)


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_no_mode_of_torch_reaches_the_look_for_shapes(mode):
    fn = as_jax(lambda x: Square()(x))
    with mode():
        close(fn(x[:, :2]), square_in_jax(x[:, :2]))
    close(jax.grad(fn)(x[:, :2]), jax.grad(square_in_jax)(x[:, :2]), rtol=1e-5)


@pytest.mark.parametrize("transform", [torch.func.grad, torch.func.vmap], ids=["grad", "vmap"])
def test_no_transform_of_torch_reaches_the_function(transform):
    fn, gradients = as_jax(torch.sin), []

    def work(t):
        gradients.append(jax.grad(fn)(jnp.ones(())))
        return t * 1

    transform(work)(torch.ones(() if transform is torch.func.grad else 1))
    close(gradients[0], jnp.cos(1.0))


def test_the_default_dtype_is_that_of_as_jax():
    with setting(torch.set_default_dtype, torch.float64, torch.get_default_dtype):
        fn = as_jax(lambda: torch.tensor([1e300]).log())
    close(fn(), [300 * np.log(10)])
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_module_made_in_inference_mode(use):
    class Shifted(Square):
        def __init__(self):
            super().__init__()
            self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
            self.register_buffer("shift", torch.ones(2))

        def forward(self, x):
            return super().forward(x * self.frozen * self.shift)

    with torch.inference_mode():
        net = as_jax(Shifted())
    jax.tree.map(functools.partial(close, rtol=1e-5, atol=1e-5), use(net)(x[:, :2]), use(square_in_jax)(x[:, :2]))

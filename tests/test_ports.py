"""The corpus of ports: the right ones are as near to float64 as torch itself is, and the wrong ones are far off."""

import copy
import functools
import inspect
import linecache
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from ports import PORTS, defaults
from torch.overrides import TorchFunctionMode

from jaxact.interop import to_numpy, to_torch

# The largest error of a right port, and the smallest of a wrong one, in units of torch's own largest error or of two
# epsilons of the largest value.
RIGHT, WRONG = 3, 20
SEEDS = range(3)


@pytest.fixture(autouse=True)
def promotion_as_users_have_it():
    with defaults():
        yield


@pytest.fixture(autouse=True, scope="module")
def fast_to_compile():
    """Compile without optimizing, which takes most of the time here, and let torch wait for no second thread."""
    before = torch.get_num_threads(), jax.config.read("jax_disable_most_optimizations")
    torch.set_num_threads(1)
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    torch.set_num_threads(before[0])
    jax.config.update("jax_disable_most_optimizations", before[1])


class InDouble(TorchFunctionMode):
    """Read what a model casts to float32 by name as a cast to float64."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.float:
            return args[0].double()
        if func is torch.Tensor.to and args[1:] == (torch.float32,):
            return args[0].double()
        return func(*args, **(kwargs or {}))


def listed(outputs):
    return list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]


def cotangents_of(outputs):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(y.shape).astype(np.float32) for y in outputs]


def run_torch(module, inputs):
    """Return the outputs of a module and the gradients of its inputs that are no integers, as NumPy arrays."""
    tensors = [to_torch(x, copy=True) for x in inputs]
    floats = [x.requires_grad_() for x in tensors if x.is_floating_point()]
    outputs = listed(module(*tensors))
    cotangents = [torch.from_numpy(c).to(y.dtype) for c, y in zip(cotangents_of(outputs), outputs, strict=True)]
    gradients = torch.autograd.grad(outputs, floats, cotangents) if floats else []
    return [to_numpy(x.detach()) for x in outputs], [to_numpy(g) for g in gradients]


@functools.cache
def torch_side(name, seed, dtype="float32"):
    """Return the torch module, the inputs, and outputs and gradients in torch's own dtype and in float64."""
    _, module, inputs = PORTS[name].build(seed, dtype=dtype)
    doubles = [x if x.dtype.kind == "i" else x.astype(np.float64) for x in inputs]
    with InDouble():
        exact = run_torch(copy.deepcopy(module).double(), doubles)
    return module, inputs, run_torch(module, inputs), exact


def run_jax(name, seed, mistake=None, dtype="float32", gradients=False, jit=False):
    function, module, inputs = PORTS[name].build(seed, mistake, dtype)
    same_module, same_inputs, *_ = torch_side(name, seed, dtype)
    for ours, theirs in zip(module.state_dict().values(), same_module.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(inputs, same_inputs, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    inputs = [jnp.asarray(x) for x in inputs]
    floats = [i for i, x in enumerate(inputs) if jnp.issubdtype(x.dtype, jnp.floating)]

    def run(*inputs):
        def of_floats(*values):
            return listed(function(*[values[floats.index(i)] if i in floats else x for i, x in enumerate(inputs)]))

        if not gradients or not floats:
            return listed(function(*inputs)), []
        outputs, vjp = jax.vjp(of_floats, *[inputs[i] for i in floats])
        return outputs, vjp([jnp.asarray(c, y.dtype) for c, y in zip(cotangents_of(outputs), outputs, strict=True)])

    return (jax.jit(run) if jit else run)(*inputs)


def excess(ours, theirs, exact):
    """Return the largest error of arrays in units of torch's, infinite where shape or dtype differ, or by a NaN."""
    assert len(ours) == len(theirs) == len(exact)
    return max((excess_of_one(*arrays) for arrays in zip(ours, theirs, exact, strict=True)), default=0.0)


def excess_of_one(ours, theirs, exact):
    if ours.shape != exact.shape or ours.dtype != theirs.dtype:
        return np.inf
    assert np.all(np.isfinite(exact))
    if not jnp.all(jnp.isfinite(ours)):
        return np.inf
    floor = 2 * float(jnp.finfo(ours.dtype).eps) * np.max(np.abs(exact))
    error, torchs = (np.max(np.abs(np.asarray(x, np.float64) - exact)) for x in (ours, theirs))
    return float(error / max(torchs, floor))


@pytest.mark.parametrize("port", PORTS.values(), ids=PORTS)
class TestTheCorpus:
    def test_each_mistake_is_marked_where_it_is_made(self, port):
        made = {mistake.partition("@")[0] for mistake in port.mistakes}
        text = Path(inspect.getfile(port.make)).read_text()
        marked = {word: re.findall(rf"# {word}: (.+)", text) for word in ("mistake", "cause")}
        marked = {word: {name for names in found for name in names.split(", ")} for word, found in marked.items()}
        assert marked["mistake"] == made
        assert marked["cause"] <= made
        for mistake in port.mistakes:
            name = mistake.partition("@")[0]
            shows, causes = port.lines_of(mistake)
            assert port.line_of(mistake) == shows[0]
            for file, number in shows + causes:
                assert name in linecache.getline(file, number).partition("# ")[2]
            # The condition is on the line itself, or the line is alone in the branch of an if.
            switches = [linecache.getline(file, at) for file, n in causes or shows for at in (n, n - 1)]
            assert any(f'wrong("{name}"' in line for line in switches)

    def test_the_modules_named_are_there(self, port):
        _, module, _ = port.build(0)
        there = dict(module.named_modules())
        assert not any(part.training for part in there.values())
        assert there.keys() >= {name for names in port.mistakes.values() for name in names}
        assert port.gradients_only <= port.mistakes.keys()
        assert {mistake for pair in port.pairs for mistake in pair.split("+")} <= port.mistakes.keys()

    def test_an_unknown_mistake_is_refused(self, port):
        with pytest.raises(ValueError, match="has no mistake"):
            port.build(0, "unheard-of")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", PORTS)
def test_a_right_port_is_as_exact_as_torch(name, seed):
    _, _, (theirs, their_gradients), (exact, exact_gradients) = torch_side(name, seed)
    ours, gradients = run_jax(name, seed, gradients=seed == 0, jit=True)
    assert excess(ours, theirs, exact) <= RIGHT
    if seed == 0:
        assert excess(gradients, their_gradients, exact_gradients) <= RIGHT


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", PORTS)
def test_a_right_port_of_halves_is_as_exact_as_torch(name, dtype):
    _, _, (theirs, _), (exact, _) = torch_side(name, 0, dtype)
    if (name, dtype) == ("llama-nnx", "float16"):
        # jax.nn.dot_product_attention does not take float16 on the CPU (jax 0.10.2).
        with pytest.raises(ValueError, match="F16_F16_F32"):
            run_jax(name, 0, dtype=dtype, jit=True)
        return
    ours, _ = run_jax(name, 0, dtype=dtype, jit=True)
    assert excess(ours, theirs, exact) <= RIGHT


@pytest.mark.parametrize("name", PORTS)
def test_mistakes_are_far_off(name):
    port = PORTS[name]
    _, _, (theirs, their_gradients), (exact, exact_gradients) = torch_side(name, 0)
    right, _ = run_jax(name, 0)
    assert excess(right, theirs, exact) <= RIGHT
    found = {}
    for mistake in (*port.mistakes, *port.pairs):
        in_gradients = mistake in port.gradients_only
        ours, gradients = run_jax(name, 0, mistake, gradients=in_gradients, jit=in_gradients)
        found[mistake] = excess(ours, theirs, exact)
        if in_gradients:
            assert found[mistake] <= RIGHT
            found[mistake] = excess(gradients, their_gradients, exact_gradients)
    assert {mistake: off for mistake, off in found.items() if off < WRONG} == {}

"""as_jax: torch functions and modules in JAX, against JAX's own and under all that JAX does to a function."""

import ast
import collections
import contextlib
import copy
import dataclasses
import functools
import gc
import os
import pickle
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from torch import nn
from torch.utils.checkpoint import checkpoint

from jaxact.interop import _torch_program, as_jax, as_torch, to_jax
from jaxact.interop._torch_private import FakeTensorMode

# The same formula in both libraries, and the distance of their results: exp of either is within 1e-7, and the
# sums below add a few of them (measured: 3e-7).
close = functools.partial(np.testing.assert_allclose, rtol=2e-6, atol=1e-6)


def in_torch(x, y):
    return {"a": torch.sin(x) * y, "b": (torch.exp(-x).sum(), None)}


def in_jax(x, y):
    return {"a": jnp.sin(x) * y, "b": (jnp.exp(-x).sum(), None)}


def scalar(fn):
    """Return ``fn`` as a function of one array to a number."""

    def of_one(x):
        tree = fn(x, x + 2)
        return tree["a"].sum() + tree["b"][0] ** 2

    return of_one


x = jnp.linspace(-1, 1, 6).reshape(2, 3)

TRANSFORMS = {
    "call": lambda f: f,
    "jit": jax.jit,
    "grad": jax.grad,
    "grad of grad": lambda f: jax.grad(lambda x: jax.grad(f)(x).sum()),
    "jacrev of jacrev": lambda f: jax.jacrev(jax.jacrev(f)),
    "jacfwd": jax.jacfwd,
    "hessian": jax.hessian,
    "jacrev of jacfwd": lambda f: jax.jacrev(jax.jacfwd(f)),
    "jacfwd of jacfwd": lambda f: jax.jit(jax.jacfwd(jax.jacfwd(f))),
    "linearize": lambda f: lambda x: jax.linearize(f, x)[1](x),
    "jvp of grad of jvp": lambda f: (
        lambda x: jax.jvp(jax.grad(lambda x: jax.jvp(f, (x,), (jnp.cos(x),))[1]), (x,), (x,))
    ),
    "third derivative": lambda f: jax.grad(lambda x: jax.grad(lambda x: jax.grad(f)(x).sum())(x).sum()),
    "vmap": jax.vmap,
    "vmap of grad": lambda f: jax.vmap(jax.grad(f), in_axes=1),
    "grad of vmap": lambda f: jax.grad(lambda x: jax.vmap(f)(x).sum()),
    "jvp of vmap": lambda f: lambda x: jax.jvp(jax.vmap(f), (x,), (x + 1,)),
    "vmap of hessian": lambda f: jax.vmap(jax.hessian(f)),
    "hessian of vmap": lambda f: jax.hessian(lambda x: jax.vmap(f)(x).sum()),
    "vmap of vmap": lambda f: lambda x: jax.vmap(jax.vmap(f, in_axes=1))(jnp.stack([x, -x])),
    "checkpoint": lambda f: jax.grad(jax.checkpoint(f)),
    "scan": lambda f: lambda x: jax.lax.scan(lambda c, row: (c + f(row + c), c), jnp.float32(0), x),
    "grad of scan": lambda f: jax.grad(
        lambda x: jax.lax.scan(lambda c, row: (0.1 * f(row + c), None), jnp.float32(0), x)[0]
    ),
    "while and cond": lambda f: (
        lambda x: jax.lax.fori_loop(
            0, 3, lambda i, c: jax.lax.cond(i == 1, lambda c: c, lambda c: c + 0.1 * f(c), c), x
        )
    ),
}


# One by one, and by torch.func.vmap.
as_jax_by = [functools.partial(as_jax, vmap_method=method) for method in ("sequential", "batched")]


@pytest.mark.parametrize("bridge", as_jax_by, ids=["sequential", "batched"])
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_transforms(transform, bridge):
    actual, expected = transform(scalar(bridge(in_torch)))(x), transform(scalar(in_jax))(x)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-5), actual, expected)


def test_transforms_without_jit():
    gradient = jax.vmap(jax.grad(scalar(as_jax(in_torch))))
    with jax.disable_jit():
        close(gradient(x), jax.vmap(jax.grad(scalar(in_jax)))(x), rtol=1e-5)


@pytest.mark.parametrize("bridge", as_jax_by, ids=["sequential", "batched"])
@pytest.mark.parametrize("argnums", [0, (0, 1)], ids=str)
@pytest.mark.parametrize("in_axes", [(0, None), (None, 1)], ids=str)
@pytest.mark.parametrize("derivative", [jax.grad, jax.hessian, lambda f, n: f], ids=["grad", "hessian", "value"])
def test_a_batch_of_some_arguments(derivative, in_axes, argnums, bridge):
    def value(fn):
        return lambda x, y: fn(x, y)["a"].sum() + fn(y, x)["b"][0]

    y = jnp.sin(3 * x)
    x_, y_ = (
        z if axis is None else jnp.stack([z, z + 1, z - 1], axis) for z, axis in zip((x, y), in_axes, strict=True)
    )
    actual, expected = (jax.vmap(derivative(value(fn), argnums), in_axes)(x_, y_) for fn in (bridge(in_torch), in_jax))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-5), actual, expected)


def test_a_batch_is_one_call():
    rows = []

    def fn(x):
        rows.append(x.shape)
        return x * 2

    for method, calls in (("sequential", 5), ("batched", 1)):
        f = jax.vmap(as_jax(fn, vmap_method=method, result_shape_dtypes=x[0]))
        rows.clear()
        jax.block_until_ready(f(jnp.ones((5, 3))))
        assert len(rows) == calls


@pytest.mark.parametrize("bridge", as_jax_by, ids=["sequential", "batched"])
@pytest.mark.parametrize("derivative", [lambda f: f, jax.grad], ids=["value", "grad"])
def test_an_empty_batch(derivative, bridge):
    assert jax.vmap(derivative(bridge(lambda x: x.sin().sum())))(jnp.ones((0, 3))).shape[0] == 0


def over_shards(f, x):
    mesh = jax.make_mesh((2,), ("a",), axis_types=(AxisType.Auto,))
    return jax.shard_map(f, mesh=mesh, in_specs=PartitionSpec("a"), out_specs=PartitionSpec("a"))(x)


def on_a_mesh(axis_type):
    def use(f, x):
        mesh = jax.make_mesh((2,), ("a",), axis_types=(axis_type,))
        with jax.set_mesh(mesh):
            return jax.jit(f)(jax.device_put(x, NamedSharding(mesh, PartitionSpec("a"))))

    return use


@pytest.mark.parametrize("derivative", [lambda f: f, lambda f: jax.grad(lambda x: f(x).sum())], ids=["value", "grad"])
@pytest.mark.parametrize(
    "use", [on_a_mesh(AxisType.Auto), on_a_mesh(AxisType.Explicit), over_shards], ids=["auto", "explicit", "shard_map"]
)
def test_two_devices(use, derivative):
    values = jnp.linspace(-1, 1, 8).reshape(4, 2)
    close(use(derivative(as_jax(torch.sin)), values), derivative(jnp.sin)(values))


def test_forward_mode_of_complex_functions():
    z, t = jnp.array([1 + 2j, 3 - 1j]), jnp.array([0.5 - 1j, 2 + 0.5j])
    actual = jax.jvp(as_jax(lambda z: (z * z.conj() * z).exp().imag), (z,), (t,))
    expected = jax.jvp(lambda z: jnp.exp(z * jnp.conj(z) * z).imag, (z,), (t,))
    jax.tree.map(functools.partial(close, rtol=1e-5), actual, expected)


@contextlib.contextmanager
def setting(set_value, value, get_value):
    """Set one of torch's settings for a while."""
    before = get_value()
    set_value(value)
    try:
        yield
    finally:
        set_value(before)


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


def test_a_call_breaks_the_graph_of_torch_compile():
    fn, arrays = as_jax(torch.sin), []

    @torch.compiler.disable  # older releases of Dynamo warn of what they know not of list.append
    def keep(array):
        arrays.append(array)

    def work(t):
        keep(fn(x))
        return t * 2

    assert torch.compile(work, backend="eager")(torch.ones(())) == 2
    close(arrays[0], jnp.sin(x))
    with pytest.raises(torch._dynamo.exc.Unsupported, match="it is JAX that works here"):
        torch.compile(lambda t: (fn(x), t)[1], backend="eager", fullgraph=True)(torch.ones(()))


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


@pytest.mark.parametrize("fn", [in_torch, jax.tree_util.Partial(in_torch)], ids=["function", "partial"])
def test_trees_come_back(fn):
    result = as_jax(fn)(x, y=x)
    assert jax.tree.structure(result) == jax.tree.structure(in_jax(x, x))
    jax.tree.map(close, result, in_jax(x, x))


@pytest.mark.parametrize("transform", [lambda f: f, lambda f: jax.vmap(jax.grad(f))], ids=["value", "gradients"])
def test_the_callback_of_other_platforms(transform):
    jaxpr = jax.make_jaxpr(transform(as_jax(torch.sin)))(jnp.ones(3))
    programs = [eqn.params["program"] for eqn in _equations(jaxpr.jaxpr) if eqn.primitive.name == "torch_call"]
    assert programs
    for program in programs:
        arrays = [jnp.linspace(0.5, 1, 3)] * (1 if program.derivation is None else 2)
        through_copies = jax.jit(functools.partial(_torch_program._through_copies, program=program))
        assert "pure_callback" in str(jax.make_jaxpr(through_copies)(*arrays))
        jax.tree.map(np.testing.assert_array_equal, through_copies(*arrays), program(*arrays))


def _equations(jaxpr):
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in jax.tree.leaves(eqn.params, is_leaf=lambda leaf: hasattr(leaf, "jaxpr")):
            if hasattr(inner, "jaxpr"):
                yield from _equations(inner.jaxpr)


def test_a_second_call_does_not_look_for_shapes_again():
    runs = []

    def fn(x):
        runs.append(type(x) is torch.Tensor)
        return x * 2

    call = as_jax(fn)
    for _ in range(3):
        jax.block_until_ready(call(x))
    assert runs.count(False) == 1
    assert runs.count(True) == 3


class TestArguments:
    @pytest.mark.parametrize("slope", [0.2, 1, True], ids=str)
    def test_numbers_reach_torch_as_they_are(self, slope):
        close(as_jax(F.leaky_relu)(x, slope), F.leaky_relu(torch.tensor(np.asarray(x)), slope).numpy())

    def test_static_values_of_one_hash_are_told_apart(self):
        call = as_jax(lambda x, n: x + (1 if n is True else 2))
        assert call(jnp.zeros(()), True) == 1
        assert call(jnp.zeros(()), 1) == 2

    def test_zeros_of_two_signs_are_told_apart(self):
        call = as_jax(F.leaky_relu)
        assert jnp.signbit(call(-jnp.ones(()), 0.0))
        assert not jnp.signbit(call(-jnp.ones(()), -0.0))

    def test_numpy(self):
        close(as_jax(torch.sin)(np.asarray(x)), jnp.sin(x))

    @pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int32", "float16", "bfloat16", "float32", "complex64"])
    def test_dtypes(self, dtype):
        values = jnp.array([0, 1, 1]).astype(dtype)
        result = jax.jit(as_jax(lambda x: torch.cat([x, x])))(values)
        assert result.dtype == values.dtype
        assert jnp.array_equal(result, jnp.concatenate([values, values]))

    def test_integers_have_no_gradient(self):
        fn = as_jax(lambda x, index: (x[index.long()], index))
        gradient = jax.grad(lambda x: fn(x, jnp.array([2, 0]))[0].sum())(jnp.ones(3))
        assert gradient.tolist() == [1, 0, 1]

    def test_a_result_without_gradient_has_gradient_zero(self):
        assert jax.grad(as_jax(lambda x: x.detach().sum()))(jnp.ones(3)).tolist() == [0, 0, 0]

    def test_complex_gradients_are_jaxs(self):
        z = jnp.array([1 + 2j, 3 - 1j], jnp.complex64)
        actual = jax.grad(as_jax(lambda z: (z * z * z.conj()).abs().sum()))(z)
        close(actual, jax.grad(lambda z: jnp.abs(z * z * jnp.conj(z)).sum())(z), rtol=1e-5)

    @pytest.mark.parametrize(
        ("fn", "arguments"),
        [
            (lambda x, y, w: F.cross_entropy(x, y.long(), weight=w), (x, jnp.array([0.0, 2.0]), jnp.ones(3))),
            (F.binary_cross_entropy, (jax.nn.sigmoid(x), jnp.ones((2, 3)), jnp.full((2, 3), 2.0))),
            (lambda x, w: F.nll_loss(x, torch.tensor([0, 2]), weight=w), (x, jnp.ones(3))),
            (lambda x, mean, var: F.batch_norm(x, mean, var).square().sum(), (x, jnp.ones(3), jnp.ones(3))),
            (lambda x, w: (x * w.bool()).sum(), (x, x)),
        ],
        ids=["cross entropy", "bce", "nll", "batch norm", "cast"],
    )
    def test_torch_is_asked_for_no_derivative_but_those_asked_for(self, fn, arguments):
        tensors = [torch.tensor(np.asarray(argument)) for argument in arguments]
        tensors[0].requires_grad_()
        fn(*tensors).backward()
        for gradient in (jax.grad, lambda f: jax.jit(jax.grad(f)), lambda f: jax.grad(jax.jit(f))):
            close(gradient(as_jax(fn))(*arguments), tensors[0].grad)
        hessian = torch.func.jacrev(torch.func.grad(fn))(tensors[0].detach(), *tensors[1:])
        close(jax.jacrev(jax.grad(as_jax(fn)))(*arguments), hessian, atol=1e-5)

    @pytest.mark.parametrize("dtype", ["int8", "int16", "int32"])
    @pytest.mark.parametrize(
        ("fn", "arguments"),
        [
            (lambda y, x: F.cross_entropy(x, y), [x]),
            (lambda y, x: F.nll_loss(x, y), [x]),
            (lambda y, x: F.multi_margin_loss(x, y), [x]),
            (lambda y, x: x.gather(1, y[:, None]).sum(), [x]),
            (lambda y, x: torch.take(x, y).sum(), [x]),
            (lambda y, x: x[y].sum(), [x]),
            (lambda y, x: F.embedding(y, x).sum(), [x.T]),
            (lambda y, x: (F.one_hot(y, 3) * x).sum(), [x]),
            (lambda y, x: x.scatter_add(1, y[:, None].expand(2, 3), x * 2).sum(), [x]),
        ],
        ids=["cross entropy", "nll", "margin", "gather", "take", "index", "embedding", "one hot", "scatter"],
    )
    def test_labels_and_indices_of_fewer_bits_than_torch_wants(self, fn, arguments, dtype):
        y = jnp.array([1, 0], dtype)
        tensors = [torch.tensor([1, 0]), *(torch.tensor(np.asarray(argument)) for argument in arguments)]
        expected = torch.func.grad_and_value(fn, 1)(*tensors)[::-1]
        for _ in range(2):
            actual = jax.jit(jax.value_and_grad(as_jax(fn), 1))(y, *arguments)
            jax.tree.map(close, actual, expected)

    def test_integers_that_torch_takes_reach_it_as_they_are(self):
        assert as_jax(lambda i: i.view(torch.float32) * (i.dtype == torch.int32))(jnp.array(1 << 30)) == 2.0

    def test_what_fails_on_wide_integers_too_says_both(self):
        with pytest.raises(jax.errors.JaxRuntimeError, match=r"Target 7 is out of bounds"):
            jax.block_until_ready(as_jax(F.cross_entropy)(x, jnp.array([7, 0])))
        with pytest.raises(RuntimeError, match=r"got torch.int64") as caught:
            as_jax(_refuse)(jnp.array(1))
        assert "got torch.int32" in str(caught.value.__context__)

    def test_a_function_that_writes_before_it_fails_is_tried_on_what_there_was(self):
        fn = as_jax(lambda y, x: (x.mul_(2), F.nll_loss(x, y))[1])
        assert fn(jnp.array([0, 0]), jnp.ones((2, 3))) == -2

    def test_wide_integers_are_narrowed(self):
        largest, where = as_jax(lambda x: tuple(x.max(-1)))(x)
        assert where.dtype == jnp.int32
        assert jnp.array_equal(largest, x.max(-1))

    @pytest.mark.parametrize(
        "fn",
        [lambda x: torch.tensor(2**40), lambda x: torch.tensor([1e300], dtype=torch.float64)],
        ids=["int", "float"],
    )
    def test_a_result_out_of_range_is_an_error(self, fn):
        with pytest.raises(jax.errors.JaxRuntimeError, match="cannot hold"):
            jax.block_until_ready(as_jax(fn)(x))

    def test_float64(self, x64):
        third = jnp.array(1 / 3)
        assert as_jax(torch.square)(third) == (1 / 3) ** 2
        assert jax.grad(as_jax(torch.square))(third) == 2 / 3


def _refuse(i):
    raise RuntimeError(f"got {i.dtype}")


NAMED = {
    "max": (lambda x: torch.max(x, 1), ("values", "indices")),
    "sort": (torch.sort, ("values", "indices")),
    "topk": (lambda x: torch.topk(x, 2), ("values", "indices")),
    "svd": (torch.linalg.svd, ("U", "S", "Vh")),
    "eigh": (lambda x: torch.linalg.eigh(x @ x.T + torch.diag(torch.arange(2.0))), ("eigenvalues", "eigenvectors")),
    "slogdet": (lambda x: torch.linalg.slogdet(x[:, :2] + torch.eye(2)), ("sign", "logabsdet")),
}


@pytest.mark.parametrize(("fn", "names"), NAMED.values(), ids=NAMED)
def test_results_that_torch_names(fn, names):
    result, expected = as_jax(lambda x: {"a": fn(x)})(x)["a"], fn(torch.tensor(np.asarray(x)))
    assert isinstance(result, tuple)
    assert result._fields == names
    for actual, named, tensor in zip(result, names, expected, strict=True):
        assert getattr(result, named) is actual
        close(actual, tensor)
    again = pickle.loads(pickle.dumps(result))
    assert type(again) is type(result)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, again, result))
    gradient = jax.grad(lambda x: as_jax(fn)(x)[names.index(names[-1]) if names[0] == "sign" else 0].sum())
    assert jnp.isfinite(gradient(x)).all()


@dataclasses.dataclass
class Output:
    loss: object
    state: object = None


@dataclasses.dataclass
class ModelOutput(collections.OrderedDict):
    """As Hugging Face's: a dataclass and a dict of what is not None."""

    loss: object = None
    state: object = None

    def __post_init__(self):
        self.update({name: value for name, value in vars(self).items() if value is not None})


@pytest.mark.parametrize("cls", [Output, ModelOutput], ids=["dataclass", "ModelOutput"])
def test_a_class_that_jax_does_not_know_is_an_error_that_says_how_to_register_it(cls):
    class Result(cls):
        """A class of this test, since what is registered stays so."""

    fn = as_jax(lambda x: Result(x * 2))
    with pytest.raises(TypeError, match="got a Result; JAX takes it for a tree after jax") as caught:
        fn(x)
    exec(str(caught.value).partition(" after ")[2], {"jax": jax, "Result": Result})
    result = jax.jit(fn)(x)
    assert isinstance(result, Result)
    close(result.loss, 2 * x)
    assert result.state is None


class WithBridge(nn.Module):
    """A module with a function of JAX in it, of an argument and of a constant."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.activation = as_torch(jnp.tanh)
        self.multiply = as_torch(jnp.multiply)

    def forward(self, x):
        return self.activation(self.multiply(self.linear(x), np.float32(2.0))).sum()


@pytest.mark.parametrize("bridge", as_jax_by, ids=["sequential", "batched"])
@pytest.mark.parametrize("transform", ["call", "jit", "grad", "hessian", "vmap of grad"])
def test_a_module_that_contains_an_as_torch_function(transform, bridge):
    module = WithBridge()
    weight, bias = (to_jax(value, copy=True) for value in module.linear.parameters())

    def expected(x):
        return jnp.tanh(2 * (weight @ x + bias)).sum()

    actual = TRANSFORMS[transform](bridge(module))
    value = x.T if "vmap" in transform else x[0]
    close(actual(value), TRANSFORMS[transform](expected)(value), rtol=1e-5)


def test_an_as_torch_function_of_tensors_that_fn_holds():
    held, trained = torch.arange(3.0), torch.arange(3.0, requires_grad=True)
    tanh = as_torch(jnp.tanh)
    for of in (held, trained):
        close(as_jax(lambda x, of=of: x * tanh(of))(jnp.ones(3)), jnp.tanh(jnp.arange(3.0)))


def shifted(amount):
    """Return a hook that is another function for each amount."""
    return lambda module, args, result: result + amount


class Named(nn.Linear):
    """A linear layer that holds something besides."""

    def __init__(self, held):
        super().__init__(3, 3)
        self.held = held


class Tied(nn.Module):
    def __init__(self, tie):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        if tie:
            self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x))


def made(module, change):
    change(module)
    return module


def of_one_class(n):
    class Scaled(nn.Linear):
        def forward(self, x):
            return n * super().forward(x)

    return Scaled(3, 3)


# Pairs of modules, equal but for the values of trainable parameters.
EQUAL = {
    "linear": lambda: nn.Linear(3, 3),
    "network": lambda: TestModules.network(),
    "attention": lambda: nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True).eval(),
    "tied": lambda: Tied(True),
    "settings": lambda: Named({"a": (1, 2.0, None, "x", {"b"}), "f": F.relu, "d": torch.float32}),
    "buffer": lambda: made(nn.Linear(3, 3), lambda m: m.register_buffer("b", torch.ones(3))),
    "frozen": lambda: made(nn.Linear(3, 3), lambda m: m.bias.requires_grad_(False).zero_()),
    "recurrent": lambda: nn.LSTM(3, 3, batch_first=True),
}
# And pairs that are not, or of which that is not known.
UNEQUAL = {
    "class": [lambda: nn.ReLU(), lambda: nn.ReLU6()],
    "classes of one name": [lambda: of_one_class(1), lambda: of_one_class(2)],
    "setting": [lambda: nn.LeakyReLU(0.1), lambda: nn.LeakyReLU(0.2)],
    "zeros": [lambda: nn.LeakyReLU(0.0), lambda: nn.LeakyReLU(-0.0)],
    "one and true": [lambda: Named(1), lambda: Named(True)],
    "training": [lambda: nn.Linear(3, 3), lambda: nn.Linear(3, 3).eval()],
    "buffer": [
        lambda n=n: made(nn.Linear(3, 3), lambda m: m.register_buffer("b", torch.full((3,), n))) for n in (0.0, -0.0)
    ],
    "frozen": [lambda n=n: made(nn.Linear(3, 3), lambda m: m.requires_grad_(False).bias.fill_(n)) for n in (1.0, 2.0)],
    "frozen or not": [lambda n=n: made(nn.Linear(3, 3), lambda m: m.bias.requires_grad_(n)) for n in (True, False)],
    "hook": [lambda n=n: made(nn.Linear(3, 3), lambda m: m.register_forward_hook(shifted(n))) for n in (1, 2)],
    "method": [lambda n=n: made(nn.ReLU(), lambda m: setattr(m, "forward", lambda x: n * x)) for n in (1, 2)],
    "tied": [lambda: Tied(True), lambda: Tied(False)],
    "order": [lambda: Named({"a": 1, "b": 2}), lambda: Named({"b": 2, "a": 1})],
    "unknown": [lambda: Named(object()), lambda: Named(object())],
}


class TestEqualBridges:
    @pytest.mark.parametrize("make", EQUAL.values(), ids=EQUAL)
    def test_what_was_compiled_for_one_serves_the_next(self, make):
        first, second = as_jax(make()), as_jax(make())
        assert first.func is second.func
        assert jax.tree.structure(first) == jax.tree.structure(second)

    @pytest.mark.parametrize("makes", UNEQUAL.values(), ids=UNEQUAL)
    def test_what_is_not_known_to_be_equal_is_apart(self, makes):
        first, second = (as_jax(make()) for make in makes)
        assert first.func is not second.func

    def test_functions(self):
        assert as_jax(torch.sin) is as_jax(torch.sin)
        assert as_jax(torch.sin) is not as_jax(torch.sin, vmap_method="batched")
        assert as_jax(torch.sin) is not as_jax(torch.sin, result_shape_dtypes=x)
        assert as_jax(torch.sin) is not as_jax(torch.cos)
        assert as_jax(shifted(1)) is not as_jax(shifted(1))
        with setting(torch.set_default_dtype, torch.float64, torch.get_default_dtype):
            in_double = as_jax(torch.sin)
        assert as_jax(torch.sin) is not in_double

    def test_one_is_traced_once(self):
        traces = []

        @jax.jit
        def run(net, x):
            traces.append(True)
            return net(x)

        for _ in range(3):
            module = nn.Linear(3, 2)
            close(run(as_jax(module), x), module(torch.tensor(np.asarray(x))).detach())
        assert len(traces) == 1

    @pytest.mark.parametrize("transform", ["call", "jit", "vmap", "grad", "hessian"])
    def test_nothing_is_kept_of_one_that_nobody_has(self, transform):
        class Function:
            def __call__(self, x):
                return x.sin().sum()

        function = Function()
        gone, bridge = weakref.ref(function), as_jax(function)
        jax.block_until_ready(TRANSFORMS[transform](bridge)(x))
        del function, bridge
        if transform in ("grad", "hessian"):
            jax.clear_caches()  # some releases of JAX (0.8.0 and 0.10.0) keep what they have differentiated
        for _ in range(100):  # what one collection frees lets go of more, and the runtime of its own in its time
            gc.collect()
            if gone() is None:
                break
            time.sleep(0.05)
        assert gone() is None


class TestCopies:
    @pytest.mark.parametrize("fn", [torch.sin, F.softplus, in_torch], ids=["builtin", "functional", "function"])
    def test_pickle_a_function(self, fn):
        arguments = (x,) if fn is not in_torch else (x, x)
        again = pickle.loads(pickle.dumps(as_jax(fn)))
        assert again is as_jax(fn)
        jax.tree.map(close, again(*arguments), as_jax(fn)(*arguments))

    @pytest.mark.parametrize("make", EQUAL.values(), ids=EQUAL)
    def test_pickle_a_module(self, make):
        net = as_jax(make())
        again = pickle.loads(pickle.dumps(net))
        assert jax.tree.structure(again) == jax.tree.structure(net)
        assert jax.tree.all(jax.tree.map(jnp.array_equal, again, net))

    def test_load_in_another_process(self, tmp_path):
        net = as_jax(nn.Sequential(nn.Linear(3, 2), nn.Tanh()), vmap_method="batched")
        (tmp_path / "net").write_bytes(pickle.dumps((net, x, jax.vmap(net)(x))))
        code = f"""
import pickle, jax
net, x, expected = pickle.load(open({str(tmp_path / "net")!r}, "rb"))
assert abs(jax.vmap(net)(x) - expected).max() < 1e-6
assert "vmap" in str(jax.make_jaxpr(jax.vmap(net))(x))
print(jax.grad(lambda net: net(x).sum())(net).args[0].keys() == net.args[0].keys())
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.stdout.strip() == "True", done.stderr

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy], ids=["copy", "deepcopy"])
    def test_copy(self, copied):
        net = as_jax(nn.Linear(3, 2))
        assert copied(net).func is net.func
        assert copied(as_jax(torch.sin)) is as_jax(torch.sin)


def test_a_method():
    class Scaled:
        scale = 2

        @as_jax
        def times(self, x):
            return self.scale * x

    close(Scaled().times(x), 2 * x)


def test_writing_into_an_argument_changes_no_jax_array():
    value = jnp.arange(16.0)
    fn = as_jax(lambda x: x.mul_(2).sum())
    assert fn(value) == 240
    assert jnp.array_equal(jax.grad(fn)(value), jnp.full(16, 2.0))
    assert jnp.array_equal(value, jnp.arange(16.0))


def test_a_function_that_uses_autograd_itself():
    def force(x):
        x = x.detach().requires_grad_()
        return torch.autograd.grad(x.pow(3).sum(), x)[0]

    close(as_jax(force, result_shape_dtypes=x)(x), 3 * x**2)


class TestModules:
    @staticmethod
    def network():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Linear(3, 8), nn.ReLU(inplace=True), nn.BatchNorm1d(8), nn.Dropout(), nn.PReLU(), nn.Linear(8, 1)
        ).eval()

    def test_parameters_are_leaves(self):
        module = self.network()
        net = as_jax(module)
        expected = {name: tuple(p.shape) for name, p in module.named_parameters()}
        assert {name: leaf.shape for name, leaf in net.args[0].items()} == expected
        assert len(jax.tree.leaves(net)) == len(expected)

    def test_gradients_are_torchs(self):
        module, values = self.network(), torch.randn(5, 3)
        module(values).square().sum().backward()
        gradient = jax.jit(jax.grad(lambda net, x: (net(x) ** 2).sum()))(as_jax(module), to_jax(values))
        assert gradient.args[0].keys() == dict(module.named_parameters()).keys()
        for name, parameter in module.named_parameters():
            close(gradient.args[0][name], parameter.grad, err_msg=name)

    def test_func_and_parameters_apart(self):
        net = as_jax(nn.Linear(3, 2))
        zero = jax.tree.map(jnp.zeros_like, net.args[0])
        assert not net.func(zero, x).any()

    def test_an_ensemble_by_vmap(self):
        nets = [as_jax(nn.Linear(3, 2)).args[0] for _ in range(3)]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *nets)
        func = as_jax(nn.Linear(3, 2)).func
        result = jax.vmap(func, in_axes=(0, None))(stacked, x)
        close(result, jnp.stack([func(net, x) for net in nets]))

    def test_frozen_parameters_are_constants(self):
        module = nn.Linear(3, 2)
        module.bias.requires_grad_(False)
        assert as_jax(module).args[0].keys() == {"weight"}

    def test_later_changes_of_the_module_do_not_show(self):
        module = self.network()
        net = as_jax(module)
        before = net(x)
        with torch.no_grad():
            for tensor in (*module.parameters(), *(b for b in module.buffers() if b.is_floating_point())):
                tensor.fill_(1.0)
        module.train()
        assert jnp.array_equal(net(x), before)
        assert jnp.array_equal(as_jax(self.network())(x), before)

    def test_attention(self):
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True).eval()
        values = torch.randn(2, 3, 8)
        layer(values).square().sum().backward()
        gradient = jax.grad(lambda net, x: (net(x) ** 2).sum())(as_jax(layer), to_jax(values))
        for name, parameter in layer.named_parameters():
            close(gradient.args[0][name], parameter.grad, rtol=1e-4, atol=1e-5, err_msg=name)

    @pytest.mark.parametrize("order", ["first", "second"])
    def test_a_backward_pass_that_calls_the_module_again(self, order):
        """A checkpoint does; the parameters are others than those the module was made with."""

        class Layers(nn.Sequential):
            def forward(self, x):
                return checkpoint(super().forward, x, use_reentrant=False)

        layers = (nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3), nn.Sigmoid())
        nets = [jax.tree.map(lambda p: 2 * p, as_jax(make(*layers))) for make in (Layers, nn.Sequential)]
        gradient = jax.grad(lambda net, x: net(x).sum())
        if order == "second":
            gradient = jax.grad(lambda net, x, once=gradient: sum((p**2).sum() for p in jax.tree.leaves(once(net, x))))
        jax.tree.map(functools.partial(close, rtol=1e-5), *(gradient(net, x).args[0] for net in nets))

    def test_fifty_steps_of_training(self):
        module = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
        generator = torch.Generator().manual_seed(0)
        values = torch.randn(64, 4, generator=generator)
        targets = torch.sin(values.sum(1, keepdim=True))
        net, inputs, outputs = as_jax(module), to_jax(values), to_jax(targets)

        @jax.jit
        def step(net):
            loss, gradient = jax.value_and_grad(lambda net: jnp.mean((net(inputs) - outputs) ** 2))(net)
            return jax.tree.map(lambda p, g: p - 0.1 * g, net, gradient), loss

        losses, expected = [], []
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        for _ in range(50):
            net, loss = step(net)
            losses.append(loss)
            optimizer.zero_grad()
            loss = F.mse_loss(module(values), targets)
            loss.backward()
            optimizer.step()
            expected.append(loss.item())
        assert expected[-1] < 0.8 * expected[0]  # it does learn
        # The bound of the specification.
        np.testing.assert_allclose(losses, expected, rtol=1e-4)


class TestErrors:
    def test_not_callable(self):
        with pytest.raises(TypeError, match="torch function or module, got int"):
            as_jax(3)

    def test_an_unknown_vmap_method(self):
        with pytest.raises(ValueError, match="'sequential' or 'batched', got 'expand_dims'"):
            as_jax(torch.sin, vmap_method="expand_dims")

    def test_a_shape_that_is_none(self):
        with pytest.raises(TypeError, match=r"must be a tree of jax.ShapeDtypeStruct.*got 2 in it"):
            as_jax(torch.sin, result_shape_dtypes=(2, 3))

    def test_a_derivative_that_torch_has_not(self):
        loss = as_jax(lambda x, w: F.nll_loss(x, torch.tensor([0, 2]), weight=w))
        with pytest.raises(jax.errors.JaxRuntimeError, match="not differentiable with respect to argument 'weight'"):
            jax.block_until_ready(jax.grad(loss, 1)(x, jnp.ones(3)))

    def test_a_torch_tensor(self):
        with pytest.raises(TypeError, match="to_jax"):
            as_jax(torch.sin)(torch.ones(1))

    def test_an_argument_that_is_neither_array_nor_hashable(self):
        with pytest.raises(TypeError, match="a set is no array"):
            as_jax(lambda x, s: x)(x, {1})

    def test_a_result_that_is_no_tensor(self):
        with pytest.raises(TypeError, match=r"must return torch tensors.*got a float"):
            as_jax(lambda x: 1.0)(x)

    @pytest.mark.parametrize(
        ("fn", "message"),
        [
            (nn.Dropout(), r"draws random numbers.*module.eval\(\)"),
            (nn.RReLU(), "draws random numbers"),
            (lambda x: x + torch.randn(3), "draws random numbers"),
            (nn.BatchNorm1d(3), r"updates its buffers.*module.eval\(\)"),
        ],
        ids=["dropout", "rrelu", "randn", "batch norm"],
    )
    def test_what_is_not_pure(self, fn, message):
        with pytest.raises(ValueError, match=message):
            as_jax(fn)(x)

    @pytest.mark.parametrize("fn", [lambda x: x[x > 0], lambda x: x if x.sum() > 0 else -x], ids=["mask", "branch"])
    def test_a_shape_that_depends_on_values(self, fn):
        with pytest.raises(ValueError, match="result_shape_dtypes"):
            as_jax(fn)(x)

    def test_a_branch_with_the_shape_given(self):
        fn = as_jax(lambda x: x if x.sum() > 0 else -x, result_shape_dtypes=jax.ShapeDtypeStruct((), jnp.float32))
        assert jax.vmap(jax.grad(fn))(jnp.array([2.0, -3.0])).tolist() == [1, -1]

    def test_the_wrong_shape_given(self):
        with pytest.raises(jax.errors.JaxRuntimeError, match=r"shape \(2, 3\) where \(4,\) was expected"):
            jax.block_until_ready(as_jax(torch.sin, result_shape_dtypes=jnp.ones(4))(x))

    def test_torchs_own_error_with_a_note(self):
        with pytest.raises(RuntimeError, match=r"shape|size") as caught:
            as_jax(torch.matmul)(x, x)
        assert "result_shape_dtypes" in "".join(caught.value.__notes__)

    def test_an_error_at_run_time_says_what_torch_says(self):
        with pytest.raises(jax.errors.JaxRuntimeError, match="positive-definite"):
            jax.block_until_ready(as_jax(torch.linalg.cholesky)(-jnp.eye(2)))


def private_names(file):
    """Return the names in a file that begin with one underscore and are none of its own objects or modules."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (part for part in node.module.split(".") if part.startswith("_"))
        private = isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.endswith("__")
        if private and not (isinstance(node.value, ast.Name) and node.value.id == "self"):
            yield node.attr


def test_private_names_of_torch_are_in_one_place():
    known = {
        "_torch_private.py": {
            "_guards",
            "_subclasses",
            "_python_dispatch",
            "_C",
            "_len_torch_dispatch_stack",
            "_functorch",
            "_autograd",
            "_top_saved_tensors_default_hooks",
            "_version",
        },
        "_dense.py": {
            "_C",
            "_len_torch_dispatch_stack",
        },  # asked at every conversion
        "_graph_call.py": {"_dynamo"},  # where it is documented, up to torch 2.13
    }
    elsewhere = {"_checks", "_dtypes", "_declared", "_fields", "_getframe"}  # of jaxact and of Python
    for file in Path(_torch_program.__file__).parent.glob("*.py"):
        assert set(private_names(file)) - elsewhere == known.get(file.name, set()), file


class Slow(nn.Linear):
    def forward(self, x):
        time.sleep(0.005)  # another thread has its turn
        return super().forward(x)


def test_one_module_in_several_threads():
    nets = [jax.tree.map(lambda p, n=n: jnp.full_like(p, n), as_jax(Slow(3, 3))) for n in range(4)]
    gradient = jax.jit(jax.value_and_grad(lambda net: (net(x) ** 2).sum()))
    expected = [gradient(net) for net in nets]
    with ThreadPoolExecutor(4) as threads:
        actual = list(threads.map(lambda i: gradient(nets[i % 4]), range(40)))
    for i, result in enumerate(actual):
        jax.tree.map(np.testing.assert_array_equal, result, expected[i % 4])


def test_calls_from_eight_threads():
    gradient = jax.jit(jax.grad(lambda x: as_jax(torch.sin)(as_jax(torch.exp)(x) @ x).sum()))
    values = jnp.linspace(0, 1, 10_000).reshape(100, 100) / 100
    expected, wrong = gradient(values), []

    def work():
        for _ in range(10):
            if not jnp.array_equal(gradient(values), expected):
                wrong.append(True)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux to take all but one core away")
def test_one_core_and_large_arrays_do_not_hang():
    """The case in which a callback that waits for JAX hangs (with jax.pure_callback it does)."""
    code = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import jax, jax.numpy as jnp, torch
from jaxact.interop import as_jax
f = as_jax(torch.nn.functional.silu)
g = jax.jit(jax.grad(lambda x: f(f(x) + x[:, ::-1]).sum()))
x = jnp.ones((2000, 2000))
jax.block_until_ready([g(x) for _ in range(3)] + [f(f(x) + 1) for _ in range(3)])
print("done")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
    assert done.stdout.strip() == "done", done.stderr

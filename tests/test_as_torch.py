"""as_torch: JAX functions in PyTorch, against PyTorch's own and under all that PyTorch does to a function."""

import gc
import threading
import weakref

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from jax import lax
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.autograd import gradcheck, gradgradcheck

import jaxact
from jaxact.interop import as_torch

pytestmark = [
    # Forward mode loads torch code that torch itself has deprecated; words and category depend on the release.
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is (deprecated|not supported)"),
]


def doubles(*shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, dtype=dtype, generator=generator).requires_grad_()


def counting(fn):
    """Return ``fn`` and a list that grows by one with every trace."""
    traces = []

    def counted(*args, **kwargs):
        traces.append(None)
        return fn(*args, **kwargs)

    return counted, traces


DIFFERENTIABLE = {
    "elementwise": (lambda x: jnp.tanh(x) * x, (doubles(5),)),
    "scalar": (lambda x: jnp.sin(x), (doubles(),)),
    "product": (lambda x, y: x @ y, (doubles(3, 4), doubles(4, 2))),
    "three arguments": (lambda x, y, z: jnp.sin(x) * y + jnp.exp(z), (doubles(2, 3), doubles(2, 3), doubles(2, 3))),
    "several results": (lambda x: (jnp.sum(x**2), {"sin": jnp.sin(x)}["sin"]), (doubles(4),)),
    "complex": (lambda z: z * z * jnp.conj(z), (doubles(3, dtype=torch.complex128),)),
    "complex to real": (lambda z: jnp.abs(z) ** 3, (doubles(3, dtype=torch.complex128),)),
    "real to complex": (lambda x: lax.complex(jnp.cos(x), x**3), (doubles(3),)),
    "jaxact.sigmoid": (jaxact.sigmoid, (doubles(4),)),
    "jaxact.tanh": (jaxact.tanh, (doubles(4),)),
}


@pytest.mark.parametrize(("fn", "inputs"), DIFFERENTIABLE.values(), ids=DIFFERENTIABLE)
def test_first_derivatives_in_both_modes(fn, inputs):
    assert gradcheck(as_torch(fn), inputs, check_forward_ad=True)


@pytest.mark.parametrize(("fn", "inputs"), DIFFERENTIABLE.values(), ids=DIFFERENTIABLE)
def test_second_derivatives(fn, inputs):
    assert gradgradcheck(as_torch(fn), inputs)


def test_third_derivative():
    x = doubles(4)
    first, second = as_torch(jnp.sin), torch.sin
    for _ in range(3):
        first, second = (
            (lambda x, f=f: torch.autograd.grad(f(x).sum(), x, create_graph=True)[0]) for f in (first, second)
        )
    # cos computed by XLA and by torch, measured: 1 ULP apart.
    torch.testing.assert_close(first(x), second(x), rtol=1e-15, atol=0)


class TestCompilation:
    def test_repeated_calls_do_not_trace_again(self):
        fn, traces = counting(lambda x, y: jnp.sin(x) * y)
        call = as_torch(fn)
        counts = []
        for _ in range(3):
            x = torch.randn(3, requires_grad=True)
            gradient = torch.autograd.grad(call(x, torch.randn(3)).sum(), x, create_graph=True)[0]
            gradient.sum().backward()
            counts.append(len(traces))
        assert counts[0] > 0
        assert counts == counts[:1] * 3

    @pytest.mark.parametrize(
        ("first", "second", "again"),
        [
            ((torch.zeros(3), 2.0), (torch.ones(3), 3.0), False),
            ((torch.zeros(3), np.ones(3, np.float32)), (torch.ones(3), np.zeros(3, np.float32)), False),
            ((torch.zeros(3), 2), (torch.zeros(3), 2), False),
            ((torch.zeros(3), 2), (torch.zeros(3), 3), True),
            ((torch.zeros(3), 1), (torch.zeros(3), True), True),
            ((torch.zeros(3), 2.0), (torch.zeros(4), 2.0), True),
            ((torch.zeros(3), 2.0), (torch.zeros(3, dtype=torch.bfloat16), 2.0), True),
        ],
        ids=["other float", "other array", "same int", "other int", "bool for int", "other shape", "other dtype"],
    )
    def test_traced_once_for_shapes_dtypes_and_static_values(self, first, second, again):
        fn, traces = counting(lambda x, y: x * jnp.asarray(y, x.dtype))
        call = as_torch(fn)
        call(*first)
        call(*second)
        assert len(traces) == 1 + again

    def test_all_calls_share_one_autograd_class(self):
        x = torch.ones(2, requires_grad=True)
        kinds = {type(as_torch(fn)(x).grad_fn) for fn in (jnp.sin, jnp.cos) for _ in range(2)}
        assert len(kinds) == 1

    def test_a_call_from_eight_threads(self):
        call, expected, wrong = as_torch(jnp.sin), torch.arange(100.0).sin(), []

        def work():
            for _ in range(20):
                x = torch.arange(100.0, requires_grad=True)
                y = call(x)
                y.sum().backward()
                # XLA's sin and cos are within 2e-7 of torch's below 100 (measured).
                if not (torch.allclose(y, expected, atol=1e-6) and torch.allclose(x.grad, x.cos(), atol=1e-6)):
                    wrong.append((y, x.grad))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


class TestMemory:
    constant = jnp.arange(4.0)

    def test_no_result_shares_memory(self):
        x = torch.arange(16.0)  # 64-byte aligned, so that JAX could share it
        results = as_torch(lambda x: (x, x, x + 1, x + 1, x.reshape(4, 4)))(x)
        addresses = [t.data_ptr() for t in (x, *results)]
        assert len(set(addresses)) == len(addresses)

    @pytest.mark.parametrize(
        "fn", [jnp.exp, lambda x: x * x, lambda x: TestMemory.constant * x], ids=["exp", "square", "product"]
    )
    def test_writing_into_a_result_changes_nothing_else(self, fn):
        call, x = as_torch(fn), torch.arange(4.0, requires_grad=True)
        first = call(x)
        expected = torch.autograd.grad(call(x).sum(), x)[0]
        with torch.no_grad():
            untouched = first.clone()
            first.detach().fill_(float("nan"))
        first.sum().backward()
        assert torch.equal(x.grad, expected)
        assert torch.equal(call(x), untouched)

    def test_writing_into_a_constant_result_changes_nothing_else(self):
        call = as_torch(lambda x: TestMemory.constant)
        call(torch.zeros(1)).fill_(7.0)
        assert call(torch.zeros(1)).tolist() == [0, 1, 2, 3]
        assert self.constant.tolist() == [0, 1, 2, 3]

    def test_writing_into_a_saved_input_is_torchs_error(self):
        x = torch.ones(3, requires_grad=True)
        saved = x * 2
        y = as_torch(jnp.sin)(saved)
        saved.add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()

    def test_what_is_saved_goes_with_the_graph(self):
        saved = torch.ones(3, requires_grad=True) * 2
        alive = weakref.ref(saved)
        y = as_torch(jnp.sin)(saved)
        del saved
        assert alive() is not None or y.grad_fn is not None
        y.sum().backward()
        del y
        gc.collect()
        assert alive() is None


def reference(x):
    return (torch.tanh(x) * x).sum()


def bridged(x):
    return as_torch_tanh(x).sum()


as_torch_tanh = as_torch(lambda x: jnp.tanh(x) * x)


TRANSFORMS = {
    "grad": torch.func.grad,
    "jacrev": torch.func.jacrev,
    "jacfwd": torch.func.jacfwd,
    "hessian": torch.func.hessian,
    "grad of grad": lambda f: torch.func.grad(lambda x: torch.func.grad(f)(x).sum()),
    "vmap": torch.func.vmap,
    "vmap over the last axis": lambda f: torch.func.vmap(f, in_dims=1),
    "vmap of vmap": lambda f: torch.func.vmap(lambda x: torch.func.vmap(f)(x.reshape(2, 2))),
    "vmap of grad": lambda f: torch.func.vmap(torch.func.grad(f)),
    "grad of vmap": lambda f: torch.func.grad(lambda x: torch.func.vmap(f)(x).sum()),
    "jvp": lambda f: lambda x: torch.func.jvp(f, (x,), (x + 1,))[1],
    "vjp": lambda f: lambda x: torch.func.vjp(f, x)[1](torch.ones(()))[0],
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_torch_func(transform):
    x = torch.linspace(-1, 1, 12).reshape(3, 4)
    # tanh of both libraries to 5 ULP, second derivatives to 5e-7 (measured).
    torch.testing.assert_close(transform(bridged)(x), transform(reference)(x), rtol=1e-5, atol=1e-6)


def test_vmap_with_an_argument_that_is_not_batched():
    call = as_torch(lambda x, y: {"sum": jnp.sum(x * y), "which": jnp.argmax(x * y)})
    xs, y = torch.randn(5, 3), torch.randn(3)
    result = torch.func.vmap(call, in_dims=(0, None))(xs, y)
    torch.testing.assert_close(result["sum"], (xs * y).sum(1))
    assert torch.equal(result["which"], (xs * y).argmax(1).int())


class TestCompile:
    """Under torch.compile, with the graph whole: ``fullgraph`` makes a graph break an error."""

    @pytest.fixture(autouse=True)
    def fresh(self):
        torch.compiler.reset()
        yield
        torch.compiler.reset()

    def check(self, fn, *inputs):
        for fresh in (inputs, tuple(torch.cat([x, x]).detach().requires_grad_(x.requires_grad) for x in inputs)):
            compiled = torch.compile(fn, fullgraph=True, backend="aot_eager")
            expected, actual = fn(*fresh), compiled(*fresh)
            torch.testing.assert_close(actual, expected, rtol=0, atol=0)
            gradients = [torch.autograd.grad(y.sum(), fresh) for y in (actual, expected)]
            torch.testing.assert_close(*gradients, rtol=0, atol=0)

    def test_between_torch_operations(self):
        call = as_torch(jnp.tanh)
        self.check(lambda x: call(x * 2) + 1, torch.randn(4, requires_grad=True))

    def test_trees_floats_and_static_values(self):
        call = as_torch(lambda tree, scale, mode: {"y": tree["a"] * scale + (jnp.sin(tree["b"]) if mode == "b" else 0)})
        self.check(
            lambda a, b: call({"a": a, "b": b}, 2.0, mode="b")["y"],
            torch.randn(4, requires_grad=True),
            torch.randn(4, requires_grad=True),
        )

    def test_a_float_that_changes(self):
        call = as_torch(lambda x, scale: x * scale)
        compiled = torch.compile(lambda x, scale: call(x, scale), fullgraph=True, backend="aot_eager")
        assert [compiled(torch.ones(1), scale).item() for scale in (1.0, 2.0, 3.0)] == [1, 2, 3]

    def test_a_module_with_a_jaxact_activation(self):
        activation = as_torch(jaxact.sigmoid)
        layer = torch.nn.Linear(3, 3)
        self.check(lambda x: activation(layer(x)), torch.randn(4, 3, requires_grad=True))

    def test_with_a_graph_break_where_dynamo_cannot_pass_the_argument(self):
        call = as_torch(lambda x, dtype: x.astype(dtype))
        compiled = torch.compile(lambda x: call(x + 1, jnp.float16) * 2, backend="aot_eager")
        assert torch.equal(compiled(torch.ones(2)), torch.full((2,), 4.0, dtype=torch.float16))


def test_a_fake_tensor_gives_a_fake_tensor():
    with FakeTensorMode():
        x = torch.zeros(3, dtype=torch.float16, requires_grad=True)
        y = as_torch(lambda x: {"sum": jnp.sum(x)})(x)["sum"]
        (gradient,) = torch.autograd.grad(y, x)
    for fake, shape in ((y, ()), (gradient, (3,))):
        assert isinstance(fake, FakeTensor)
        assert (fake.shape, fake.dtype) == (shape, torch.float16)


ACTIVATIONS = {
    "sigmoid": (jaxact.sigmoid, torch.sigmoid),
    "relu": (jaxact.relu, torch.relu),
    "softmax": (lambda x: jaxact.softmax(x, dim=-1), lambda x: torch.softmax(x, dim=-1)),
}


def losses_of_training(activation, steps=50):
    torch.manual_seed(0)
    first, last = torch.nn.Linear(4, 16), torch.nn.Linear(16, 1)
    x = torch.randn(64, 4)
    y = torch.sin(x.sum(1, keepdim=True))
    optimizer = torch.optim.Adam([*first.parameters(), *last.parameters()], lr=0.02)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.mse_loss(last(activation(first(x))), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(("ours", "theirs"), ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_fifty_steps_of_training(ours, theirs):
    expected = losses_of_training(theirs)
    assert expected[-1] < 0.8 * expected[0]  # it does learn
    # The bound of the specification.
    np.testing.assert_allclose(losses_of_training(as_torch(ours)), expected, rtol=1e-4)

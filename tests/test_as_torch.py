"""as_torch: JAX functions in PyTorch, against PyTorch's own and under all that PyTorch does to a function."""

import gc
import threading
import weakref

import jax
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


class TestArguments:
    x = torch.tensor([-1.0, 0.5, 2.0])

    def test_position_and_keyword(self):
        call = as_torch(lambda x, y, *, scale: (x - y) * scale)
        assert torch.equal(call(self.x, y=self.x + 1, scale=2.0), torch.full((3,), -2.0))

    @pytest.mark.parametrize(
        "factor",
        [2.0, 2, np.float32(2), np.full(3, 2, np.float32), jnp.full(3, 2, jnp.float32), torch.full((3,), 2.0)],
        ids=["float", "int", "NumPy scalar", "NumPy", "JAX", "tensor"],
    )
    def test_what_a_factor_may_be(self, factor):
        x = self.x.clone().requires_grad_()
        y = as_torch(lambda x, factor: x * factor)(x, factor)
        y.sum().backward()
        assert torch.equal(y, 2 * self.x)
        assert torch.equal(x.grad, torch.full((3,), 2.0))

    def test_values_that_are_no_arrays_are_static(self):
        call = as_torch(lambda x, mode, dtype, axis, fn, flag: fn(x, axis).astype(dtype) if mode == "a" and flag else x)
        assert call(self.x, "a", jnp.float16, 0, jnp.sum, True).dtype == torch.float16

    def test_jaxact_functions_take_theirs(self):
        torch.testing.assert_close(as_torch(jaxact.softmax)(self.x, dim=-1), self.x.softmax(-1), rtol=1e-6, atol=0)

    @pytest.mark.parametrize(
        "declared", [{"static_argnames": "power"}, {"static_argnums": 1}], ids=["name", "position"]
    )
    @pytest.mark.parametrize("by_name", [False, True])
    def test_declared_static(self, declared, by_name):
        call = as_torch(lambda x, power: x**power if power > 1 else x, **declared)
        y = call(self.x, power=2.0) if by_name else call(self.x, 2.0)
        assert torch.equal(y, self.x**2)

    def test_a_random_key(self):
        call = as_torch(lambda x, key: x * jax.random.bernoulli(key, 0.5, x.shape).astype(x.dtype))
        x = torch.ones(100, requires_grad=True)
        y = call(x, jax.random.key(0))
        y.sum().backward()
        assert torch.equal(y.detach(), x.grad)  # the backward pass draws the same
        assert not torch.equal(y, call(x, jax.random.key(1)))

    def test_trees_in_and_out(self):
        def fn(parameters, xs):
            return {"y": [parameters["w"] * x for x in xs], "none": None, "pair": (parameters["b"],)}

        w, b = torch.tensor(3.0, requires_grad=True), torch.tensor(1.0, requires_grad=True)
        result = as_torch(fn)({"w": w, "b": b}, [self.x, self.x + 1])
        assert jax.tree.structure(result) == jax.tree.structure({"y": [0, 0], "none": None, "pair": (0,)})
        sum(y.sum() for y in result["y"]).backward()
        assert w.grad == 2 * self.x.sum() + 3
        assert b.grad == 0

    def test_no_tensor_at_all(self):
        assert torch.equal(as_torch(lambda n: jnp.arange(n, dtype=jnp.int32))(3), torch.arange(3, dtype=torch.int32))

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.bool, torch.uint8])
    def test_dtypes_pass_through(self, dtype):
        x = torch.tensor([0, 1, 1]).to(dtype)
        assert torch.equal(as_torch(lambda x: x)(x), x)

    @pytest.mark.parametrize(
        "x",
        [
            torch.arange(12.0).reshape(3, 4).T,
            torch.arange(12.0)[1::2],
            torch.ones(1).expand(5),
            torch.zeros(0, 3),
            torch.randn(3, dtype=torch.complex64).conj(),
        ],
        ids=["transposed", "strided", "expanded", "empty", "conjugate"],
    )
    def test_layouts(self, x):
        x = x.requires_grad_()
        y = as_torch(lambda x: 2 * x)(x)
        y.backward(torch.ones(()).to(x.dtype).expand(x.shape))
        assert torch.equal(y, 2 * x)
        assert torch.equal(x.grad, torch.full_like(x, 2))


class TestWhatNeedsNoGradient:
    def test_integers_and_constants_get_none(self):
        x, y, index = torch.ones(3, requires_grad=True), torch.ones(3), torch.tensor([2, 0], dtype=torch.int32)
        result = as_torch(lambda x, y, index: x[index] * y[index])(x, y, index)
        result.sum().backward()
        assert x.grad.tolist() == [1, 0, 1]
        assert y.grad is None
        assert index.grad is None

    def test_integer_results_are_not_differentiable(self):
        x = torch.tensor([1.0, 3.0, 2.0], requires_grad=True)
        largest, where = as_torch(lambda x: (jnp.max(x), jnp.argmax(x)))(x)
        assert not where.requires_grad
        largest.backward()
        assert x.grad.tolist() == [0, 1, 0]

    def test_an_unused_result_counts_as_zero(self):
        x = torch.ones(2, requires_grad=True)
        sine, _ = as_torch(lambda x: (jnp.sin(x), jnp.cos(x)))(x)
        sine.sum().backward()
        torch.testing.assert_close(x.grad, torch.cos(x.detach()))

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_modes_without_gradients(self, mode):
        with mode():
            assert not as_torch(jnp.sin)(torch.ones(2, requires_grad=True)).requires_grad


class TestPrecision:
    def test_float64_without_64_bit_mode(self):
        x = torch.tensor(1 / 3, dtype=torch.float64, requires_grad=True)
        y = as_torch(lambda x: x * x)(x)
        y.backward()
        assert y.item() == (1 / 3) ** 2
        assert x.grad.item() == 2 / 3
        assert jnp.zeros(1).dtype == jnp.float32  # the mode is off again

    def test_an_integer_out_of_range_is_an_error(self):
        with pytest.raises(OverflowError):
            as_torch(lambda x: x)(torch.tensor([2**40]))

    def test_an_integer_in_range_is_narrowed(self):
        assert torch.equal(as_torch(lambda x: x)(torch.tensor([7])), torch.tensor([7], dtype=torch.int32))


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


class TestErrors:
    @pytest.mark.parametrize(
        ("fn", "message"), [(3, "must be a JAX function, got int"), (torch.nn.ReLU(), "torch module ReLU")], ids=str
    )
    def test_what_is_no_jax_function(self, fn, message):
        with pytest.raises(TypeError, match=message):
            as_torch(fn)

    @pytest.mark.parametrize("transform", [jax.jit, jax.grad, jax.vmap], ids=lambda t: t.__name__)
    def test_a_tracer(self, transform):
        with pytest.raises(TypeError, match="traced JAX array"):
            transform(as_torch(jnp.sin))(jnp.ones(3) if transform is not jax.grad else 1.0)

    def test_a_value_that_is_neither_array_nor_hashable(self):
        with pytest.raises(TypeError, match="a set is no array"):
            as_torch(lambda x, y: x)(torch.ones(1), {1})

    def test_an_unknown_static_name(self):
        with pytest.raises(ValueError, match="'powr'"):
            as_torch(lambda x, power: x, static_argnames="powr")

    def test_a_static_position_out_of_range(self):
        with pytest.raises(ValueError, match="static_argnums"):
            as_torch(lambda x, power: x, static_argnums=2)

    @pytest.mark.parametrize(
        "x",
        [torch.eye(2).to_sparse(), torch.empty(2, device="meta")],
        ids=["sparse", "meta"],
    )
    def test_a_tensor_that_jax_cannot_hold(self, x):
        with pytest.raises((TypeError, ValueError), match=r"sparse|meta"):
            as_torch(lambda x: x)(x)

    def test_a_result_that_is_no_array(self):
        with pytest.raises(TypeError, match="str"):
            as_torch(lambda x: "text")(torch.ones(1))

"""as_torch: arguments and results of every kind, their gradients and precision, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jaxact
from jaxact.interop import as_torch


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

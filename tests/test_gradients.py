"""Gradients: torch's autograd at the same points, kinks included; the tails where torch's vanish."""

import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import torch

from jaxact.catalog import BY_NAME
from oracle import ROWS, accepts, names, shaped, special_points, spread, torch_call, torch_gradient


def gradient(row, x, cotangent, **parameters):
    """Return jaxact's gradient at x for the cotangent."""
    _, vjp = jax.vjp(lambda x: row.function(x, **(dict(row.parameters) | parameters)), jnp.asarray(x))
    return np.asarray(vjp(jnp.asarray(cotangent))[0])


def assert_close(row, x, cotangent, ours, exact):
    """Assert that the gradients agree to float32 rounding; where torch has none at a finite limit, ours has one."""
    atol = 1e-7
    if row.family == "normalizing":  # differences of sums over the cotangents
        atol = 4 * np.finfo(np.float32).eps * np.abs(cotangent).max(initial=0)
    elif x.shape == ours.shape:
        exact = np.where(np.isnan(exact) & ~np.isnan(x) & ~np.isnan(ours), ours, exact)
    # test_accuracy.py counts the ULPs
    np.testing.assert_allclose(ours, exact, rtol=1e-6, atol=atol)


@pytest.mark.parametrize("row", ROWS)
class TestGradients:
    @pytest.mark.parametrize("shape", [(), (2, 0, 4), (2, 3, 4)], ids=str)
    def test_random_inputs(self, row, shape):
        if not accepts(row, shape):
            shape = (2, 2, 2, 2)  # in place of the one that it does not take
        rng = np.random.default_rng(0)
        x = spread(rng, shape, high=3)
        cotangent = rng.standard_normal(row.function(x, **row.parameters).shape).astype(np.float32)
        exact = torch_gradient(row, x, cotangent, torch.float64)
        assert_close(row, x, cotangent, gradient(row, x, cotangent), exact)

    def test_special_points(self, row):
        # as often as torch's vector code takes them: for the last few elements of an array it has other code
        x = shaped(row, np.tile(special_points(row), 64))
        y = row.function(x, **row.parameters)
        cotangent = np.random.default_rng(1).standard_normal(y.shape).astype(np.float32)
        # at float32: a kink such as 0.1 is another number at float64
        assert_close(row, x, cotangent, gradient(row, x, cotangent), torch_gradient(row, x, cotangent))

    def test_jvp_equals_vjp(self, row):
        x = jnp.asarray(shaped(row, special_points(row)))
        rng = np.random.default_rng(2)
        f = functools.partial(row.function, **row.parameters)
        direction = jnp.asarray(rng.standard_normal(x.shape), jnp.float32)
        y, forward = jax.jvp(f, (x,), (direction,))
        cotangent = jnp.asarray(rng.standard_normal(y.shape), jnp.float32)
        reverse = jax.vjp(f, x)[1](cotangent)[0]
        axis = 0 if row.name == "softmax2d" else -1  # the one that mixes numbers
        finite = jnp.isfinite(forward).all(axis, keepdims=True) & jnp.isfinite(reverse).all(axis, keepdims=True)
        assert bool(finite.any())
        left = jnp.sum(forward * cotangent, axis, where=finite)
        right = jnp.sum(reverse * direction, axis, where=finite)
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(jnp.isnan(forward).any(axis), jnp.isnan(reverse).any(axis))

    def test_second_derivative_is_torchs_double_backward(self, row, x64):
        x = np.random.default_rng(4).uniform(-4, 4, (2, 5, 6))
        c = np.random.default_rng(5).standard_normal(
            jax.eval_shape(functools.partial(row.function, **row.parameters), x).shape
        )
        second = jax.grad(lambda x: jnp.sum(jnp.sin(gradient_traced(row, x, c))))(x)
        np.testing.assert_allclose(second, torch_second(row, x, c), rtol=1e-9, atol=1e-12)


def gradient_traced(row, x, cotangent):
    """Return the gradient as a traced function of x."""
    _, vjp = jax.vjp(lambda x: row.function(x, **row.parameters), x)
    return vjp(jnp.asarray(cotangent))[0]


def torch_second(row, x, cotangent):
    """Return torch's gradient of sum(sin(gradient))."""
    if row.name == "hardsigmoid":  # piecewise linear, and torch has no double backward for it
        return np.zeros_like(x)
    tensor = torch.tensor(x, requires_grad=True)
    y = torch_call(row, tensor, {})
    (dx,) = torch.autograd.grad(y, tensor, torch.tensor(cotangent), create_graph=True)
    total = dx.sin().sum()
    if not total.requires_grad:  # a piecewise linear function
        return np.zeros_like(x)
    return torch.autograd.grad(total, tensor)[0].numpy()


@pytest.mark.parametrize("cotangent", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("row", names("relu", "relu6", "leaky_relu", "prelu", "threshold", "hardtanh", "hardshrink"))
def test_infinite_cotangents_as_in_torch(row, cotangent):
    x = np.float32([-1, 0, 1, np.inf, -np.inf])
    c = np.full_like(x, cotangent)
    np.testing.assert_array_equal(gradient(row, x, c), torch_gradient(row, x, c))


def test_gradient_of_a_learned_slope():
    x, c = np.float32([-2, -0.5, 0, 3, np.inf]), np.float32([1, 2, 3, 4, 5])
    row = BY_NAME["leaky_relu"]
    ds = jax.grad(lambda slope: jnp.sum(row.function(x, slope) * c, where=np.isfinite(x)))(0.3)
    assert float(ds) == -3.0  # the sum of c * x below 0
    _, tangent = jax.jvp(lambda x: row.function(x, np.inf), (jnp.float32(3),), (jnp.float32(1),))
    assert float(tangent) == 1.0


EXACT_DERIVATIVES = {
    "sigmoid": lambda x: mpmath.exp(-x) / (1 + mpmath.exp(-x)) ** 2,
    "tanh": lambda x: mpmath.sech(x) ** 2,
}


@pytest.mark.parametrize("row", names(*EXACT_DERIVATIVES))
def test_derivatives_keep_their_tails(row):
    limit = {"sigmoid": 87, "tanh": 43.5}[row.name]  # beyond, the derivative is subnormal
    x = np.linspace(-limit, limit, 997, dtype=np.float32)
    derivative = np.asarray(jax.vmap(jax.grad(row.function))(x), np.float64)
    with mpmath.workprec(120):
        exact = np.array([float(EXACT_DERIVATIVES[row.name](mpmath.mpf(float(v)))) for v in x])
    ulp = np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)
    assert (np.abs(derivative - exact) <= 4 * ulp).all()

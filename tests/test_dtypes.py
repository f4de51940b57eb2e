"""dtypes: the same accepted, the same refused, the same returned as in torch; halves rounded once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jaxact
from oracle import ROWS, shaped, torch_value

DTYPES = (
    "bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64",
    "float16", "bfloat16", "float32", "float64", "complex64", "complex128",
)  # fmt: skip
HALVES = {"float16": np.float16, "bfloat16": jnp.bfloat16}
# These compute halves by another formula than float32, so that what is rounded differs by a few float32 ULPs; the
# derivative of tanh is the same.
PLAIN = {"tanh", "softmax", "softmin", "softmax2d"}
PLAIN_GRADIENTS = PLAIN - {"tanh"}
TINY = np.finfo(np.float32).tiny  # XLA flushes smaller numbers, in one formula and not in the other


# What torch takes in its newer releases only (2.13 does not, 2.15 does), and jaxact with any.
NEWER = {(name, dtype) for name in ("relu", "relu6", "hardtanh") for dtype in ("uint16", "uint32", "uint64")}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("row", ROWS)
def test_accepted_refused_and_returned_as_in_torch(row, dtype, x64):
    x = np.array([[[1, 0, 2, 3]]]).astype(jnp.dtype(dtype))
    try:
        expected = torch_value(row, x).dtype
    except (RuntimeError, TypeError):  # NotImplementedError is a RuntimeError
        if (row.name, dtype) in NEWER:
            assert row.function(jnp.asarray(x), **row.parameters).dtype == dtype
            return
        with pytest.raises(TypeError, match=f"^{row.name}: .*{dtype}"):
            row.function(jnp.asarray(x), **row.parameters)
    else:
        assert row.function(jnp.asarray(x), **row.parameters).dtype == expected


BOUNDS = [(-1, 1), (-0.5, 2.7), (0, 300), (-1e10, 1e10), (100, 1e20), (2, np.inf), (-np.inf, 50.5)]


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if "int" in dtype])
class TestIntegersBetweenBounds:
    """Bounds beyond the range of an integer dtype do not bind, as in torch 2.15: older releases refuse them."""

    @pytest.mark.parametrize("bounds", BOUNDS, ids=str)
    @pytest.mark.parametrize("kind", [lambda bound: bound, jnp.asarray], ids=["known", "traced"])
    def test_hardtanh(self, dtype, bounds, kind, x64):
        info = np.iinfo(dtype)
        x = np.array([info.min, 0, 1, 2, 3, 100, info.max], dtype)
        low, high = (end if np.isinf(end) else int(end) for end in bounds)
        expected = [min(max(int(n), low), high) for n in x]
        y = jax.jit(jaxact.hardtanh)(x, *map(kind, bounds)) if kind is jnp.asarray else jaxact.hardtanh(x, *bounds)
        assert y.tolist() == expected

    def test_relu_and_relu6(self, dtype, x64):
        info = np.iinfo(dtype)
        x = np.array([info.min, 0, 6, 7, info.max], dtype)
        assert jaxact.relu(x).tolist() == [0, 0, 6, 7, info.max]
        assert jaxact.relu6(x).tolist() == [0, 0, 6, 6, 6]

    @pytest.mark.parametrize("beyond", [(-1e30, -1e25), (1e25, 1e30)], ids=str)
    def test_bounds_that_leave_no_number(self, dtype, beyond):
        with pytest.raises(OverflowError, match="hardtanh: the bounds must leave numbers of the input's dtype"):
            jaxact.hardtanh(np.array([1], dtype), *beyond)


def assert_rounded(y, expected, plain, scale=0.0):
    """Assert that y is the float32 array rounded once; if plain, one up to 2^-20 of it or of the scale away."""
    slack = TINY + 2**-20 * (abs(expected) + scale) if plain else 0
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = ((expected + end).astype(y.dtype).astype(np.float32) for end in (-slack, slack))
    y = y.astype(np.float32)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(low))
    assert ((low <= y) & (y <= high) | np.isnan(y)).all()


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("row", ROWS)
class TestHalves:
    def test_value_is_the_rounded_float32_value(self, row, dtype):
        half = HALVES[dtype]
        x = np.arange(2**16, dtype=np.uint16).view(half)
        x = shaped(row, x)
        with np.errstate(invalid="ignore"):
            expected = np.asarray(row.function(x.astype(np.float32), **row.parameters))
        y = np.asarray(row.function(x, **row.parameters))
        assert y.dtype == half
        assert_rounded(y, expected, row.name in PLAIN)

    def test_gradient_is_the_rounded_float32_gradient(self, row, dtype):
        half = HALVES[dtype]
        x = np.linspace(-20, 20, 4001).astype(half)
        x = shaped(row, x)
        f = functools.partial(row.function, **row.parameters)
        y, vjp = jax.vjp(f, x)
        c = np.random.default_rng(0).standard_normal(y.shape).astype(half)
        _, vjp32 = jax.vjp(f, x.astype(np.float32))
        expected = np.asarray(vjp32(jnp.asarray(c.astype(np.float32)))[0])
        gradient = np.asarray(vjp(jnp.asarray(c))[0])
        assert_rounded(gradient, expected, row.name in PLAIN_GRADIENTS, scale=float(abs(c).max()))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("slope", [0.1, 1, np.float64(0.1), np.float32(0.1)], ids=repr)
def test_a_parameter_never_widens_the_result(dtype, slope, x64):
    x = jnp.array([-1.0, 2.0], dtype)
    assert jaxact.leaky_relu(x, slope).dtype == dtype
    assert jaxact.leaky_relu(x, jnp.asarray(slope)).dtype == dtype


@pytest.mark.parametrize("x", [3, 3.5, True, 1j, np.float32(2), np.int64(2)], ids=repr)
def test_numbers_are_taken_as_jax_numpy_takes_them(x):
    y = jaxact.sigmoid(x)
    assert y.shape == ()
    assert y.dtype == (np.complex64 if isinstance(x, complex) else np.float32)


@pytest.mark.parametrize("dtype", [jnp.float32, "float32", np.dtype("float32"), np.float32], ids=repr)
@pytest.mark.parametrize("given", ["int32", "bool", "bfloat16", "float16"])
def test_softmax_converts_first(dtype, given):
    x = np.array([0, 1, 1, 0]).astype(jnp.dtype(given))
    y = jaxact.softmax(x, 0, dtype=dtype)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, jaxact.softmax(x.astype(np.float32), 0))


def test_softmax_to_bfloat16_rounds_the_input_as_torch_does():
    x = np.random.default_rng(0).standard_normal((8, 16)).astype(np.float32)
    ours = jaxact.softmax(x, -1, dtype=jnp.bfloat16).astype(jnp.float32)
    theirs = torch.softmax(torch.tensor(x), -1, dtype=torch.bfloat16).float().numpy()
    np.testing.assert_allclose(ours, theirs, rtol=2**-8)

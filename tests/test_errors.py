"""Errors: wrong input is refused with a message that says what came, what is accepted, and the way out."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jaxact
from oracle import ROWS

X = np.float32([-1, 2])

NO_ARRAYS = [
    ([1.0, 2.0], "got list; wrap it in jax.numpy.asarray"),
    ((1.0, 2.0), "got tuple; wrap it in jax.numpy.asarray"),
    (torch.ones(2), "got torch.Tensor; convert it with jaxact.interop.to_jax"),
    (torch.nn.Parameter(torch.ones(2)), "convert it with jaxact.interop.to_jax"),
    (None, "got NoneType"),
    ("1.0", "got str"),
    ({"x": 1}, "got dict"),
    (np.array(["a"]), "must be numeric, got a NumPy array of dtype <U1"),
    (np.array([None]), "must be numeric, got a NumPy array of dtype object"),
    (np.array(["2020-01-01"], "datetime64[D]"), "must be numeric"),
    (np.zeros(2, [("a", "f4")]), "must be numeric"),
    (jnp.ones(2, jnp.float8_e4m3fn), "input of dtype float8_e4m3fn is not accepted, only"),
]


@pytest.mark.parametrize(("x", "message"), NO_ARRAYS, ids=lambda v: v if isinstance(v, str) else type(v).__name__)
@pytest.mark.parametrize("row", ROWS)
def test_what_is_no_array_is_a_type_error(row, x, message):
    with pytest.raises(TypeError, match=f"^{row.name}: .*{re.escape(message)}"):
        row.function(x, **row.parameters)


@pytest.mark.parametrize("row", ROWS)
class TestBoundary:
    def test_unknown_argument(self, row):
        with pytest.raises(TypeError, match="inplace"):
            row.function(X, **row.parameters, inplace=True)

    def test_too_many_arguments(self, row):
        with pytest.raises(TypeError, match="too many positional arguments"):
            row.function(X, *[1] * 9)

    def test_the_input_is_positional_only(self, row):
        with pytest.raises(TypeError, match=f"{row.name}.*missing"):
            row.function(x=X, **row.parameters)

    @pytest.mark.parametrize("x", [np.array([2**40]), np.array([-(2**40)]), np.array([2**63], np.uint64)], ids=str)
    def test_integers_that_jax_would_wrap(self, row, x):
        with pytest.raises(OverflowError, match=f"{row.name}: input is u?int64 with values outside u?int32"):
            row.function(x, **row.parameters)

    def test_floats_that_jax_would_make_infinite(self, row):
        with pytest.raises(OverflowError, match="enable jax_enable_x64"):
            row.function(np.full((1, 1, 2), 1e300), **row.parameters)

    def test_doubles_that_fit_are_taken_as_jax_numpy_takes_them(self, row):
        y = row.function(np.array([0.1, np.inf, np.nan, 0.2])[:, None, None, None] * np.ones(2), **row.parameters)
        assert y.dtype == np.float32


@pytest.mark.parametrize("call", [
    lambda key: jaxact.rrelu(X, 1 / 8, 1 / 3, True, key),
    lambda key: jaxact.gumbel_softmax(X, 1.0, False, -1, key),
])  # fmt: skip
def test_a_key_is_passed_by_name(call):
    with pytest.raises(TypeError, match="too many positional arguments"):
        call(jax.random.key(0))


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "softmax"])
def test_complex_input(name):
    with pytest.raises(TypeError, match=f"{name}: input of dtype complex64 is not accepted, only .*float32"):
        getattr(jaxact, name)(X + 1j, **({"dim": 0} if name == "softmax" else {}))


@pytest.mark.parametrize("name", ["leaky_relu", "softmax"])
@pytest.mark.parametrize("dtype", ["int32", "bool"])
def test_integer_input(name, dtype):
    x = np.array([1, 0]).astype(dtype)
    with pytest.raises(TypeError, match=f"{name}: input of dtype {dtype} is not accepted.*convert it with .astype"):
        getattr(jaxact, name)(x, **({"dim": 0} if name == "softmax" else {}))


@pytest.mark.parametrize(
    ("slope", "error", "message"),
    [
        (jnp.array([0.1, 0.2]), ValueError, "must be a number or a 0-d array, got an array of shape (2,)"),
        ("0.1", TypeError, "got str"),
        (None, TypeError, "got NoneType"),
        (0.1j, TypeError, "must be a real number, got one of dtype complex64"),
        (jnp.complex64(1), TypeError, "must be a real number"),
        (torch.tensor(0.1), TypeError, "jaxact.interop.to_jax"),
        ([0.1], TypeError, "got list"),
    ],
    ids=repr,
)
def test_wrong_slopes(slope, error, message):
    with pytest.raises(error, match=f"leaky_relu: negative_slope .*{re.escape(message)}"):
        jaxact.leaky_relu(X, slope)
    with pytest.raises(error, match=re.escape(message)):
        jaxact.leaky_relu(X, negative_slope=slope)


class TestDim:
    def test_missing(self):
        with pytest.raises(TypeError, match=r"softmax\(\) missing .*'dim'"):
            jaxact.softmax(X)

    @pytest.mark.parametrize(
        ("dim", "got"),
        [(None, "None"), (0.0, "0.0"), (True, "True"), (np.True_, "True"), ("0", "'0'"), ((0,), "(0,)")],
        ids=repr,
    )
    def test_no_int(self, dim, got):
        with pytest.raises(TypeError, match=f"softmax: dim must be an int, got {re.escape(got)}"):
            jaxact.softmax(X, dim)

    @pytest.mark.parametrize("dim", [[0], np.zeros(1, int)], ids=repr)
    def test_not_hashable(self, dim):
        with pytest.raises(TypeError, match=rf"softmax: dim cannot be a .*, got {re.escape(repr(dim))}"):
            jaxact.softmax(X, dim)

    @pytest.mark.parametrize(("shape", "dim"), [((2,), 1), ((2,), -2), ((), 1), ((2, 3), 2), ((2, 3), -3)])
    def test_out_of_range(self, shape, dim):
        with pytest.raises(ValueError, match=f"softmax: dim must be in .* got {dim}"):
            jaxact.softmax(np.zeros(shape, np.float32), dim)

    def test_traced(self):
        with pytest.raises(TypeError, match=r"dim must be a Python value known when tracing.*static_argnames"):
            jax.jit(jaxact.softmax)(X, 0)

    @pytest.mark.parametrize("dim", [np.int64(0), np.int32(-1), np.array(0), jnp.array(-1), jnp.uint8(0)], ids=repr)
    def test_integers_of_numpy_and_jax_are_ints(self, dim):
        np.testing.assert_array_equal(jaxact.softmax(X, dim), jaxact.softmax(X, 0))


KEY = jax.random.key(0)
FLAGS = {
    "training": lambda flag: jaxact.rrelu(X, training=flag, key=KEY),
    "hard": lambda flag: jaxact.gumbel_softmax(X, hard=flag, key=KEY),
}


@pytest.mark.parametrize("name", FLAGS)
class TestFlags:
    @pytest.mark.parametrize("kind", [np.bool_, np.array, jnp.array], ids=lambda kind: kind.__name__)
    def test_booleans_of_numpy_and_jax_are_flags(self, name, kind):
        draws = {flag: FLAGS[name](flag) for flag in (False, True)}
        assert (draws[False] != draws[True]).any()
        for flag, drawn in draws.items():
            np.testing.assert_array_equal(FLAGS[name](kind(flag)), drawn)

    @pytest.mark.parametrize("flag", [1, 1.0, None, "no", np.int64(1), jnp.array(1)], ids=repr)
    def test_no_boolean(self, name, flag):
        with pytest.raises(TypeError, match=f"{name} must be True or False, got "):
            FLAGS[name](flag)

    def test_no_single_boolean(self, name):
        with pytest.raises(TypeError, match=rf"{name} .*got array\(\[ True\]\)"):
            FLAGS[name](np.ones(1, bool))

    def test_traced(self, name):
        with pytest.raises(TypeError, match=f"{name} must be a Python value known when tracing.*static_argnames"):
            jax.jit(FLAGS[name])(True)


@pytest.mark.parametrize(
    ("dtype", "error", "message"),
    [
        (
            torch.float32,
            TypeError,
            "dtype must be a JAX or NumPy dtype such as jax.numpy.float32, got torch.float32",
        ),
        ("float33", TypeError, "dtype must be a JAX or NumPy dtype"),
        (jnp.float64, ValueError, "dtype float64 needs 64-bit mode"),
        (jnp.int32, TypeError, "input of dtype int32 is not accepted"),
    ],
    ids=str,
)
def test_wrong_dtypes(dtype, error, message):
    with pytest.raises(error, match=f"softmax: {re.escape(message)}"):
        jaxact.softmax(X, 0, dtype=dtype)


def test_refused_under_jit_too():
    with pytest.raises(TypeError, match="leaky_relu: input of dtype int32"):
        jax.jit(jaxact.leaky_relu)(jnp.array([1, 2]))
    with pytest.raises(ValueError, match="0-d array"):
        jax.jit(jaxact.leaky_relu)(X, jnp.ones(2))

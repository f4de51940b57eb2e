"""Conversions: what JAX narrows with 64-bit mode off, and what ``dtype=`` asks for, keeps values or is refused."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxact.interop import PrecisionWarning, to_jax, to_numpy, to_torch
from layouts import FRAMEWORKS

TO = {"jax": to_jax, "torch": to_torch, "numpy": to_numpy}
NARROW = {"int64": "int32", "uint64": "uint32", "float64": "float32", "complex128": "complex64"}


def make(source, values, dtype):
    return torch.from_numpy(np.array(values, dtype)) if source == "torch" else np.array(values, dtype)


@pytest.mark.parametrize("source", ["torch", "numpy"])
@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("int64", [-(2**31), 0, 2**31 - 1]),
        ("uint64", [0, 2**32 - 1]),
        ("float64", [0.5, -0.0, np.inf, -np.inf, np.nan, float(np.finfo(np.float32).max)]),
        ("complex128", [0.5 + 0.25j, complex(np.inf, 1), complex(np.nan, -0.0)]),
        ("int64", []),
        ("float64", 1.5),
    ],
)
def test_values_that_fit_are_narrowed_silently(source, dtype, values):
    y = to_jax(make(source, values, dtype))
    assert y.dtype == NARROW[dtype]
    np.testing.assert_array_equal(np.asarray(y), np.array(values, NARROW[dtype]))
    assert (np.signbit(np.asarray(y).real) == np.signbit(np.array(values).real)).all()


TOO_LARGE = [
    ("int64", [2**31]),
    ("int64", [-(2**31) - 1]),
    ("int64", [2**40 + 5]),
    ("uint64", [2**32]),
    ("uint64", [2**64 - 1]),
    ("float64", [1e300]),
    ("float64", [np.inf, -1e39, np.nan]),
    ("complex128", [1e300 + 1j]),
    ("complex128", [1 - 1e300j]),
    ("complex128", [complex(np.inf, 1e300)]),
    ("complex128", [complex(1e300, np.nan)]),
]


@pytest.mark.parametrize("source", ["torch", "numpy"])
@pytest.mark.parametrize(("dtype", "values"), TOO_LARGE)
def test_values_out_of_range_overflow(source, dtype, values):
    with pytest.raises(OverflowError, match=f"to_jax: {dtype} data has values outside {NARROW[dtype]}; enable jax_en"):
        to_jax(make(source, values, dtype))


def clipped(x, dtype):
    """Return ``x`` as the message of an OverflowError says to make it."""
    dtype = jnp.dtype(dtype)
    if x.dtype.kind == "c":
        return clipped(x.real, dtype) + 1j * clipped(x.imag, dtype)
    info = jnp.iinfo(dtype) if dtype.kind in "iu" else jnp.finfo(dtype)
    low, high = float(info.min), float(info.max)
    if dtype.kind in "iu":
        x, high = np.nan_to_num(x), np.nextafter(x.dtype.type(high), 0) if x.dtype.kind == "f" else int(info.max)
        low = int(low)
    if x.dtype.kind in "iu":
        low, high = max(int(low), np.iinfo(x.dtype).min), min(int(high), np.iinfo(x.dtype).max)
    return np.clip(x, x.dtype.type(low), x.dtype.type(high))


@pytest.mark.parametrize("source", ["torch", "numpy"])
@pytest.mark.parametrize(("dtype", "values"), TOO_LARGE)
def test_values_out_of_range_overflow_although_asked_for(source, dtype, values):
    for to in TO.values():
        each = r", .real and .imag each$" if dtype == "complex128" else "$"
        with pytest.raises(OverflowError, match=f"clip it first{each}"):
            to(make(source, values, dtype), dtype=NARROW[dtype])
        to(make(source, clipped(np.array(values, dtype), NARROW[dtype]), dtype), dtype=NARROW[dtype])


@pytest.mark.parametrize("source", ["torch", "numpy"])
@pytest.mark.parametrize(("dtype", "values"), TOO_LARGE)
@pytest.mark.usefixtures("x64")
def test_64_bit_mode_keeps_them(source, dtype, values):
    y = to_jax(make(source, values, dtype))
    assert y.dtype == dtype
    np.testing.assert_array_equal(np.asarray(y), np.array(values, dtype))


@pytest.mark.parametrize("x", [2**31, -(2**40), 1e300, 1e300j], ids=repr)
def test_python_numbers_overflow_too(x):
    with pytest.raises(OverflowError, match="outside"):
        to_jax(x)


@pytest.mark.parametrize("to", TO.values())
def test_a_python_int_beyond_64_bits(to):
    with pytest.raises(OverflowError, match="which 64 bits do not hold"):
        to(2**64)
    assert float(to(float(2**64))) == 2**64


def test_a_wide_jax_array_made_in_64_bit_mode_is_narrowed_outside_of_it(x64):
    x, large = jnp.arange(3), jnp.array([2**40])
    jax.config.update("jax_enable_x64", False)
    assert to_jax(x).dtype == "int32"
    with pytest.raises(OverflowError):
        to_jax(large)
    assert to_numpy(large).tolist() == to_torch(large).tolist() == [2**40]


class TestRounding:
    @pytest.mark.parametrize("source", ["torch", "numpy"])
    @pytest.mark.parametrize("x", [[0.1], [0.1 + 1j], [1 + 0.1j], [1e-300], [0.5, np.nan, 0.1]], ids=repr)
    def test_it_warns(self, source, x):
        dtype = np.array(x).dtype
        with pytest.warns(PrecisionWarning, match=f"to_jax: {dtype} data was rounded to {NARROW[dtype.name]}"):
            y = to_jax(make(source, x, dtype))
        np.testing.assert_array_equal(np.asarray(y), np.array(x, NARROW[dtype.name]))

    def test_it_is_silent_where_it_was_asked_for(self):
        x = np.array([0.1])
        assert to_jax(x, dtype="float32").dtype == to_numpy(x, dtype="float32").dtype == np.float32
        assert to_torch(x, dtype="float32").dtype == torch.float32

    def test_a_python_float_has_no_precision_to_lose(self):
        assert to_jax(0.1) == np.float32(0.1)

    @pytest.mark.usefixtures("x64")
    def test_64_bit_mode_rounds_nothing(self):
        assert to_jax(np.array([0.1]))[0] == 0.1

    def test_once_a_call_site_which_is_the_users(self):
        x = np.array([0.1])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            for _ in range(3):
                to_jax(x)  # one site
            to_jax({"a": [x, x * 3]})  # another, through jax.tree
        lines = {warning.lineno for warning in caught}
        assert [warning.filename for warning in caught] == [__file__] * 2
        assert len(lines) == 2


DTYPE_SPELLINGS = ["bfloat16", jnp.bfloat16, jnp.dtype("bfloat16"), torch.bfloat16]


class TestDtype:
    @pytest.mark.parametrize("to", TO.values())
    @pytest.mark.parametrize("source", FRAMEWORKS)
    @pytest.mark.parametrize("dtype", DTYPE_SPELLINGS, ids=repr)
    def test_every_spelling(self, to, source, dtype):
        y = to(TO[source](np.float32([1, -0.0, 2.5])), dtype=dtype)
        assert str(y.dtype).removeprefix("torch.") == "bfloat16"
        assert [str(value) for value in y.tolist()] == ["1.0", "-0.0", "2.5"]

    @pytest.mark.parametrize(
        ("values", "have", "want"),
        [
            ([1, 2], "int64", "int8"),
            ([0, 255], "float32", "uint8"),
            ([-1.5, 2.75], "float32", "int32"),
            ([1, 0], "bool", "float32"),
            ([0.5, 0.0], "float32", "bool"),
            ([1.5], "float32", "complex64"),
            ([448.0], "float32", "float8_e4m3fn"),
            ([2**62], "int64", "float32"),
        ],
    )
    def test_values_are_those_of_numpy(self, values, have, want):
        x = np.array(values, have)
        expected = x.astype(jnp.dtype(want))
        for to in TO.values():
            np.testing.assert_array_equal(to_numpy(to(x, dtype=want)), expected)

    @pytest.mark.parametrize(
        ("values", "have", "want"),
        [
            ([128], "int32", "int8"),
            ([-1], "int32", "uint64"),
            ([-1], "int64", "uint8"),
            ([np.nan], "float32", "int32"),
            ([2.0**31], "float32", "int32"),
            ([2.0**63], "float64", "int64"),
            ([2.0**64], "float64", "uint64"),
            ([70000.0], "float32", "float16"),
            ([70000], "int32", "float16"),
            ([1e4], "float32", "float8_e4m3fn"),
            ([1e300], "float64", "complex64"),
        ],
    )
    @pytest.mark.usefixtures("x64")
    def test_what_does_not_fit_overflows(self, values, have, want):
        for source in TO.values():
            x = source(np.array(values, have))
            nan = ", and put numbers for its NaNs with nan_to_num$" if np.isnan(values).any() else "$"
            for to in TO.values():
                with pytest.raises(OverflowError, match=f"{have} data has values outside {want}; clip it first{nan}"):
                    to(x, dtype=want)
                to(source(clipped(np.array(values, have), want)), dtype=want)

    @pytest.mark.parametrize("to", TO.values())
    def test_an_imaginary_part_is_not_dropped(self, to):
        with pytest.raises(TypeError, match=r"complex64 data cannot become float32; take \.real first"):
            to(np.complex64([1j]), dtype="float32")
        assert to(np.complex64([1j]).real, dtype="float32").tolist() == [0]

    @pytest.mark.parametrize("name", FRAMEWORKS)
    @pytest.mark.parametrize("dtype", ["float33", "U3", object, "datetime64[s]", torch.complex32, 3, "int4"])
    def test_what_is_no_dtype(self, name, dtype):
        with pytest.raises(TypeError, match=f"to_{name}: dtype must be a dtype of JAX, NumPy or PyTorch"):
            TO[name](np.zeros(1), dtype=dtype)

    def test_what_the_target_lacks(self):
        with pytest.raises(TypeError, match="torch has no dtype float8_e3m4"):
            to_torch(np.zeros(1), dtype="float8_e3m4")
        with pytest.raises(TypeError, match="torch has no dtype float8_e3m4; ask for another one with dtype="):
            to_torch(np.zeros(1, jnp.float8_e3m4))
        assert to_torch(np.ones(1, jnp.float8_e3m4), dtype="float16").tolist() == [1]
        with pytest.raises(TypeError, match=r"JAX has no dtype (float128|longdouble)"):
            to_jax(np.zeros(1), dtype=np.longdouble)

    def test_a_wide_dtype_without_64_bit_mode(self):
        with pytest.raises(ValueError, match="dtype float64 needs 64-bit mode; set jax_enable_x64"):
            to_jax(np.float32([1]), dtype="float64")

    def test_long_double_is_converted_where_asked(self):
        x = np.array([1.5], np.longdouble)
        assert to_numpy(x) is x
        assert to_jax(x, dtype="float32").tolist() == to_torch(x, dtype="float64").tolist() == [1.5]
        for to in (to_jax, to_torch):
            with pytest.raises(TypeError, match=r"has no dtype (float128|longdouble); ask for another one with dtype="):
                to(x)

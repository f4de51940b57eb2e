"""Conversions: the bits that come out are those that went in, whatever the dtype, the layout and the direction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxact.interop import to_jax, to_numpy, to_torch
from layouts import DTYPES, ELEMENTS, FRAMEWORKS, ROUTES, Foreign, make, random_bytes, read

TO = {"jax": to_jax, "torch": to_torch, "numpy": to_numpy}
TYPE = {"jax": jax.Array, "torch": torch.Tensor, "numpy": np.ndarray}

pytestmark = pytest.mark.usefixtures("x64")


def assert_same(y, target, dtype, shape, expected):
    assert isinstance(y, TYPE[target])
    assert str(y.dtype).removeprefix("torch.") == dtype
    assert tuple(y.shape) == tuple(shape)
    assert read(y) == expected


@pytest.mark.parametrize("copy", [None, True])
@pytest.mark.parametrize(("source", "target", "layout"), ROUTES)
def test_bits(source, target, layout, copy):
    for dtype in DTYPES:
        x, expected = make(source, dtype, layout)
        assert_same(TO[target](x, copy=copy), target, dtype, x.shape, expected)


@pytest.mark.parametrize("dtype", ["float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz"])
@pytest.mark.parametrize(("source", "target"), [("jax", "numpy"), ("numpy", "jax")])
def test_bits_of_the_float8_types_that_torch_lacks(source, target, dtype):
    x, expected = make(source, dtype)
    assert_same(TO[target](x), target, dtype, x.shape, expected)


@pytest.mark.parametrize("target", FRAMEWORKS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_read_only_numpy(dtype, target):
    x, expected = make("numpy", dtype, "transposed")
    x.flags.writeable = False
    assert_same(TO[target](x), target, dtype, x.shape, expected)


@pytest.mark.parametrize("target", ["jax", "torch"])
@pytest.mark.parametrize("dtype", ["int16", "uint32", "float16", "float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("layout", ["contiguous", "transposed", "strided", "negative", "0-d", "empty"])
def test_big_endian_numpy(layout, dtype, target):
    x, expected = make("numpy", dtype, layout)
    swapped = x.astype(x.dtype.newbyteorder(">"))
    assert_same(TO[target](swapped), target, dtype, x.shape, expected)


def test_big_endian_numpy_stays_what_it_is():
    x = np.arange(3, dtype=">f4")
    assert to_numpy(x) is x
    assert to_numpy(x, dtype="float32").dtype.isnative


@pytest.mark.parametrize("target", FRAMEWORKS)
@pytest.mark.parametrize("offset", [1, 3])
def test_unaligned_numpy(offset, target):
    buffer = np.zeros(4 * 6 + offset, np.uint8)[offset:]
    buffer[:] = random_bytes("float32", 6)
    x = buffer.view("float32")
    assert_same(TO[target](x), target, "float32", x.shape, x.tobytes())


@pytest.mark.parametrize("target", FRAMEWORKS)
def test_a_field_of_a_structured_array(target):
    x = np.array([(1, 2.5), (2, -0.0)], [("a", "i1"), ("b", "f4")])["b"]
    assert_same(TO[target](x), target, "float32", x.shape, x.tobytes())


GRADLESS = {
    "requires grad": lambda x: x.clone().requires_grad_(),
    "not a leaf": lambda x: x.clone().requires_grad_().view(-1).view(x.shape),
    "parameter": lambda x: torch.nn.Parameter(x),
    "buffer": lambda x: torch.nn.Buffer(x),
    "subclass": lambda x: x.as_subclass(type("Image", (torch.Tensor,), {})),
}


@pytest.mark.parametrize("wrap", GRADLESS.values(), ids=GRADLESS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "complex64"])
@pytest.mark.parametrize("target", ["jax", "numpy"])
def test_tensors_with_a_history(target, dtype, wrap):
    x, expected = make("torch", dtype)
    assert_same(TO[target](wrap(x)), target, dtype, x.shape, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", FRAMEWORKS)
def test_inference_mode(target, dtype):
    with torch.inference_mode():
        x, expected = make("torch", dtype, "transposed")
        assert_same(TO[target](x), target, dtype, x.shape, expected)
    assert_same(TO[target](x), target, dtype, x.shape, expected)


BITS = {
    "conjugate": (["complex64", "complex128"], torch.conj),
    "negative": (["float16", "bfloat16", "float32", "float64", "complex64"], torch._neg_view),
    "negative of an imaginary part": (["complex64", "complex128"], lambda x: x.conj().imag),
    "conjugate and negative": (["complex64"], lambda x: torch._neg_view(x.conj())),
}


@pytest.mark.parametrize(
    ("dtype", "flag"), [pytest.param(d, f, id=f"{name} {d}") for name, (ds, f) in BITS.items() for d in ds]
)
@pytest.mark.parametrize("layout", ["contiguous", "transposed", "strided", "0-d", "empty"])
@pytest.mark.parametrize("target", FRAMEWORKS)
def test_conjugate_and_negative_bit(target, layout, dtype, flag):
    x = flag(make("torch", dtype, layout)[0])
    assert x.is_conj() or x.is_neg()
    plain = x.resolve_conj().resolve_neg()
    name = str(plain.dtype).removeprefix("torch.")
    assert_same(TO[target](x), target, name, x.shape, read(plain))


@pytest.mark.parametrize("copy", [None, True])
@pytest.mark.parametrize("shape", [(3,), (2, 3), ()])
@pytest.mark.parametrize("target", FRAMEWORKS)
def test_zeros_that_torch_keeps_no_memory_for(target, shape, copy):
    """Forward mode makes them. NumPy takes no address for a request for memory, in which anything may be."""
    for dtype in ("float32", "float64", "bfloat16", "complex64"):
        x = torch._efficientzerotensor(shape, dtype=getattr(torch, dtype))
        for wrapped in (x, {"x": [x]}):
            (y,) = jax.tree.leaves(TO[target](wrapped, copy=copy))
            assert (y.shape, str(y.dtype).removeprefix("torch.")) == (shape, dtype)
            assert not np.asarray(to_numpy(y + 0)).any()


@pytest.mark.parametrize("layout", ["contiguous", "transposed", "strided", "0-d", "empty"])
@pytest.mark.parametrize("target", FRAMEWORKS)
def test_anything_with_dlpack(target, layout):
    for dtype in DTYPES:
        x, expected = make("torch", dtype, layout)
        assert_same(TO[target](Foreign(x)), target, dtype, x.shape, expected)


class Variable:
    """What becomes a JAX array by ``__jax_array__``, as a variable of Flax does."""

    def __jax_array__(self):
        return jnp.float32([1, 2])


@pytest.mark.parametrize("target", FRAMEWORKS)
def test_jax_array_protocol(target):
    assert_same(TO[target](Variable()), target, "float32", (2,), np.float32([1, 2]).tobytes())


@pytest.mark.parametrize("target", FRAMEWORKS)
@pytest.mark.parametrize("x", [np.float32(-0.0), np.int16(-7), np.bool_(True), np.complex64(1 - 2j)], ids=repr)
def test_numpy_scalars(x, target):
    assert_same(TO[target](x), target, x.dtype.name, (), x.tobytes())


@pytest.mark.parametrize(
    ("x", "dtypes"),
    [
        (True, {"jax": "bool", "torch": "bool", "numpy": "bool"}),
        (3, {"jax": "int64", "torch": "int64", "numpy": "int64"}),
        (0.1, {"jax": "float64", "torch": "float32", "numpy": "float64"}),
        (0.1 + 1j, {"jax": "complex128", "torch": "complex64", "numpy": "complex128"}),
    ],
    ids=repr,
)
@pytest.mark.parametrize("target", FRAMEWORKS)
def test_python_numbers_get_the_default_dtype_of_the_target(target, x, dtypes):
    dtype = dtypes[target]
    assert_same(TO[target](x), target, dtype, (), np.array(x, dtype).tobytes())


def test_a_python_float_gets_the_default_dtype_that_torch_is_set_to():
    torch.set_default_dtype(torch.float64)
    try:
        assert to_torch(0.1).dtype == torch.float64
        assert to_torch(1j).dtype == torch.complex128
    finally:
        torch.set_default_dtype(torch.float32)


@st.composite
def sources(draw):
    """Draw an array of any framework, dtype and layout, flags included, and the bytes of its elements."""
    dtype = draw(st.sampled_from(DTYPES))
    source = draw(st.sampled_from(FRAMEWORKS))
    shape = draw(st.lists(st.integers(0, 3), max_size=4).map(tuple))
    signs = [1] if source == "torch" else [1, -1]
    strides = [draw(st.integers(0, 4)) * draw(st.sampled_from(signs)) for _ in shape]
    if draw(st.booleans()):  # compact in a random order of the axes, as strides drawn at random seldom are
        step = 1
        for axis in draw(st.permutations(range(len(shape)))):
            strides[axis], step = step, step * max(shape[axis], 1)
    low = sum(stride * (size - 1) for stride, size in zip(strides, shape, strict=True) if stride < 0 and size)
    high = sum(stride * (size - 1) for stride, size in zip(strides, shape, strict=True) if stride > 0 and size)
    x, expected = make(source, dtype, (shape, strides, draw(st.integers(-low, ELEMENTS - 1 - high))))
    if source == "numpy" and draw(st.booleans()):
        x.flags.writeable = False
    if source == "torch" and x.is_floating_point() and x.element_size() > 1 and draw(st.booleans()):
        x.requires_grad_()
    return x, dtype, expected


@pytest.mark.parametrize("source", ["torch", "numpy"])
@pytest.mark.parametrize("layout", ["transposed", "permuted", "channels-last"])
def test_jax_computes_with_a_shared_layout(source, layout):
    """XLA gets a layout of its own here; a function compiled for another must not take it for that."""
    x, _ = make(source, "int32", layout)
    values = jnp.asarray(np.ascontiguousarray(to_numpy(x)))
    for function in (lambda x: x * 2 + x[::-1], jnp.cumsum, jnp.ravel, lambda x: to_jax(x, copy=True) * 2):
        np.testing.assert_array_equal(function(to_jax(x)), function(values))


@settings(max_examples=300, deadline=None)
@given(sources(), st.lists(st.tuples(st.sampled_from(FRAMEWORKS), st.sampled_from([None, True])), max_size=4))
def test_a_journey_keeps_the_bits(source, journey):
    y, dtype, expected = source
    shape = y.shape
    for target, copy in journey:
        y = TO[target](y, copy=copy)
        assert_same(y, target, dtype, shape, expected)

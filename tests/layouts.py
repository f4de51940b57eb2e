"""Arrays of every dtype and layout in each framework, made and read without the functions under test."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import torch

# The dtypes that all three have.
DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "bfloat16", "float32", "float64", "complex64", "complex128"),
    *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
)
WIDE = ("int64", "uint64", "float64", "complex128")

# Elements in the buffer that every array is a view of.
ELEMENTS = 128

# Shape, strides and offset in elements.
LAYOUTS = {
    "contiguous": ((2, 3, 4), (12, 4, 1), 0),
    "transposed": ((4, 3, 2), (1, 4, 12), 0),
    "permuted": ((3, 4, 2), (4, 1, 12), 0),
    "channels-last": ((2, 3, 2, 5), (30, 1, 15, 3), 0),
    "sliced": ((3, 2), (6, 1), 1),
    "offset": ((4,), (1,), 3),
    "strided": ((5,), (2,), 0),
    "broadcast": ((3, 4), (0, 1), 0),
    "broadcast scalar": ((5,), (0,), 7),
    "0-d": ((), (), 0),
    "0-d offset": ((), (), 5),
    "empty": ((0, 3), (3, 1), 0),
    "empty inside": ((2, 0, 3), (3, 3, 1), 4),
    "one element": ((1,), (1,), 0),
    "one element, odd strides": ((1, 1), (7, 5), 0),
    "one row": ((1, 4), (9, 1), 0),
    "one column": ((4, 1), (6, 1), 0),
    "negative": ((5,), (-1,), 4),
    "negative inner": ((3, 4), (4, -1), 3),
    "negative outer": ((3, 4), (-4, 1), 8),
    "negative and empty": ((0,), (-1,), 0),
    "negative and one element": ((1,), (-1,), 0),
}
NEGATIVE = tuple(name for name in LAYOUTS if name.startswith("negative"))

FRAMEWORKS = ("jax", "torch", "numpy")

# Source, target and layout, wherever the source has the layout.
ROUTES = [
    (source, target, layout)
    for source, target, layout in itertools.product(FRAMEWORKS, FRAMEWORKS, LAYOUTS)
    if not (source == "torch" and layout in NEGATIVE)
]


def random_bytes(dtype, elements=ELEMENTS, seed=0):
    """Return a buffer at a multiple of 64 bytes whose bits are random: NaN payloads, -0.0, subnormals, infinities."""
    size = elements * jnp.dtype(dtype).itemsize
    buffer = np.empty(size + 64, np.uint8)
    buffer = buffer[-buffer.ctypes.data % 64 :][:size]
    buffer[:] = np.random.default_rng(seed).integers(0, 2 if dtype == "bool" else 256, size)
    return buffer


def make(framework, dtype, layout="contiguous", seed=0):
    """Return an array and the bytes of its elements in C order."""
    shape, strides, offset = LAYOUTS[layout] if isinstance(layout, str) else layout
    base = random_bytes(dtype, seed=seed).view(jnp.dtype(dtype))
    size = base.itemsize
    view = np.ndarray(shape, base.dtype, base, offset * size, [stride * size for stride in strides])
    expected = view.tobytes()
    if framework == "numpy":
        return view, expected
    if framework == "jax":
        return jax.device_put(np.array(view, order="C")), expected
    tensor = torch.from_numpy(base.view(np.uint8)).view(getattr(torch, dtype))
    return tensor.as_strided(shape, strides, offset), expected


def read(array):
    """Return the bytes of the elements in C order."""
    if isinstance(array, torch.Tensor):
        plain = torch.empty(array.shape, dtype=array.dtype).copy_(array.detach())
        return plain.reshape(-1).view(torch.uint8).numpy().tobytes()
    return np.asarray(array).tobytes()


def pointer(array):
    """Return the address of the first element."""
    if isinstance(array, torch.Tensor):
        return array.data_ptr()
    return array.unsafe_buffer_pointer() if isinstance(array, jax.Array) else array.ctypes.data


class Foreign:
    """What speaks DLPack and is of none of the three libraries."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **kwargs):
        return self.array.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

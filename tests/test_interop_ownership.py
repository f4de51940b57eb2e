"""Conversions: who owns the memory that is shared, who may free it, who may write to it; the table in docs/interop.md.

Each cell of the table is a test. What is done to the memory here is what people do to theirs, on purpose or through
``module.half()`` and the like.
"""

import itertools
import mmap
import re
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxact.interop import to_jax, to_numpy, to_torch
from layouts import pointer, read

TO = {"JAX": to_jax, "torch": to_torch, "NumPy": to_numpy}
ELEMENTS = 1024

DOCS = (Path(__file__).parents[1] / "docs" / "interop.md").read_text()
ROW = r"^\| `to_(\w+)` \| (\w+) \| (\w+) \| (\w+) \| (\w+) \| (\w+) \|$"
COLUMNS = ("source given up", "result given up", "write into the source", "write into the result")
TABLE = {
    (source, {"jax": "JAX", "torch": "torch", "numpy": "NumPy"}[target]): dict(zip(COLUMNS, cells, strict=True))
    for target, source, *cells in re.findall(ROW, DOCS, re.M)
}
PAIRS = [pair for pair in itertools.product(TO, TO) if pair[0] != pair[1]]


def test_the_table_has_all_rows():
    assert set(TABLE) == set(PAIRS)


def make(kind, dtype="float32", layout="contiguous"):
    """Return an array of ones that owns its memory, at an address that JAX shares."""
    if kind == "torch":
        x = torch.ones((32, 32), dtype=getattr(torch, dtype))
        return x.t() if layout == "transposed" else x
    if kind == "JAX":
        return jnp.ones((32, 32), dtype)
    tried = []  # kept, so that the next one is elsewhere
    while not tried or tried[-1].ctypes.data % 64:
        # Not np.ones of this dtype: NumPy 2.1.0 miscounts the references to one of ml_dtypes, and dies at the end.
        tried.append(np.ones((32, 32), order="F" if layout == "transposed" else "C").astype(jnp.dtype(dtype)))
    return tried[-1]


def is_intact(x):
    """Say whether the array is ones still, after others have had every chance to take its memory."""
    size = ELEMENTS * x.dtype.itemsize
    taken = [np.full(size, 255, np.uint8) for _ in range(100)]
    taken += [torch.full((size,), 255, dtype=torch.uint8) for _ in range(100)]
    return (np.asarray(to_numpy(x), np.float32) == 1).all()


# What gives memory up, and the error with which it is refused. Each takes a list that has the only reference.
GIVE_UP = {
    "torch": {
        "del": (lambda only: only.clear(), None),
        ".data =": (lambda only: setattr(only[0], "data", torch.zeros(3)), None),
        "set_": (lambda only: only[0].set_(torch.zeros(3, dtype=only[0].dtype)), None),
        "set_ to nothing": (lambda only: only[0].set_(), None),
        "swap_tensors": (lambda only: torch.utils.swap_tensors(only[0], torch.zeros(3)), None),
        "resize_": (lambda only: only[0].resize_(10 * ELEMENTS), RuntimeError),
        "storage.resize_": (lambda only: only[0].untyped_storage().resize_(0), RuntimeError),
        "storage.resize_ of a view": (lambda only: only[0][1:].untyped_storage().resize_(0), RuntimeError),
    },
    "NumPy": {
        "del": (lambda only: only.clear(), None),
        "resize": (lambda only: only[0].resize(10 * ELEMENTS), ValueError),
    },
    "JAX": {
        "del": (lambda only: only.clear(), None),
        "delete": (lambda only: only[0].delete(), None),
        "donate": (lambda only: jax.jit(lambda x: x * 0, donate_argnums=0)(only[0]).block_until_ready(), None),
    },
}


@pytest.mark.filterwarnings("ignore:Some donated buffers were not usable")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e5m2"])
@pytest.mark.parametrize("layout", ["contiguous", "transposed"])
class TestGivingUp:
    """The memory stays until both sides have let go of it; freeing and resizing it is refused."""

    def give_up(self, kind, way, only, shared):
        act, refusal = GIVE_UP[kind][way]
        if refusal is None or not shared:
            act(only)
        else:
            with pytest.raises(refusal, match="resiz"):
                act(only)
        only.clear()

    @pytest.mark.parametrize(("source", "target", "way"), [(s, t, way) for s, t in PAIRS for way in GIVE_UP[s]])
    def test_the_source(self, source, target, way, layout, dtype):
        only = [make(source, dtype, layout)]
        result = TO[target](only[0])
        self.give_up(source, way, only, pointer(result) == pointer(only[0]))
        assert TABLE[source, target]["source given up"] == "kept"
        assert is_intact(result)

    @pytest.mark.parametrize(("source", "target", "way"), [(s, t, way) for s, t in PAIRS for way in GIVE_UP[t]])
    def test_the_result(self, source, target, way, layout, dtype):
        x = make(source, dtype, layout)
        only = [TO[target](x)]
        self.give_up(target, way, only, pointer(x) == pointer(only[0]))
        assert TABLE[source, target]["result given up"] == "kept"
        assert is_intact(x)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("target", ["JAX", "torch"])
def test_a_read_only_array_is_kept_too(target, dtype):
    x = make("NumPy", dtype)
    x.flags.writeable = False
    y = TO[target](x, copy=False)
    with pytest.raises(ValueError, match="resize"):
        x.resize(10 * ELEMENTS)
    del x
    assert is_intact(y)


@pytest.fixture(params=[False, True], ids=["by .data", "by swap_tensors"])
def swapped(request):
    """Run the test with both of torch's ways to convert a module."""
    torch.__future__.set_swap_module_params_on_conversion(request.param)
    yield
    torch.__future__.set_swap_module_params_on_conversion(False)


@pytest.mark.usefixtures("swapped")
@pytest.mark.parametrize("target", ["JAX", "NumPy"])
@pytest.mark.parametrize("convert", [torch.nn.Module.half, torch.nn.Module.double, torch.nn.Module.to_empty])
def test_a_module_that_is_converted(target, convert):
    module = torch.nn.Module()
    module.trained = torch.nn.Parameter(make("torch"))
    module.frozen = torch.nn.Parameter(make("torch"), requires_grad=False)
    module.buffer = torch.nn.Buffer(make("torch"))
    results = [TO[target](tree) for tree in (*module.parameters(), module.buffer, module.state_dict())]
    convert(module, **({"device": "cpu"} if convert is torch.nn.Module.to_empty else {}))
    assert all(is_intact(leaf) for leaf in jax.tree.leaves(results))


def test_threads_that_give_memory_up_while_others_take_it():
    broken = []

    def work(dtype):
        for _ in range(50):
            only = [make("torch", dtype)]
            y = to_jax(only[0])
            only[0].data = torch.zeros(3, dtype=only[0].dtype)
            if not is_intact(y):
                broken.append(dtype)

    threads = [threading.Thread(target=work, args=(dtype,)) for dtype in ["float32", "bfloat16"] * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert broken == []


def write(x):
    x[...] = 7


@pytest.mark.parametrize(("source", "target"), PAIRS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("column", ["write into the source", "write into the result"])
class TestWriting:
    def sides(self, column, x, y):
        return (x, y) if column == "write into the source" else (y, x)

    def test_what_is_shared(self, column, source, target, dtype):
        x = make(source, dtype)
        y = TO[target](x)
        assert pointer(x) == pointer(y)
        written, other = self.sides(column, x, y)
        if TABLE[source, target][column] == "refused":
            with pytest.raises((TypeError, ValueError), match=r"immutable|read-only"):
                write(written)
            assert is_intact(other)
        else:
            assert TABLE[source, target][column] == "seen"
            write(written)
            assert set(read(other)) == set(read(written)) != set(read(make(source, dtype)))

    def test_a_copy_sees_nothing(self, column, source, target, dtype):
        x = make(source, dtype)
        written, other = self.sides(column, x, TO[target](x, copy=True))
        if not isinstance(written, jax.Array):
            write(written)
        assert is_intact(other)


@pytest.mark.parametrize("target", TO)
@pytest.mark.parametrize(
    ("source", "take_away"),
    [
        ("torch", lambda x: x.share_memory_()),
        ("torch", lambda x: x.untyped_storage().resize_(0)),
        ("NumPy", lambda x: x.resize(10 * ELEMENTS, refcheck=False)),
    ],
)
def test_a_copy_survives_what_nothing_prevents(source, take_away, target):
    x = make(source)
    y = TO[target](x, copy=True)
    take_away(x)
    assert is_intact(y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("options", [{}, {"dtype": "float16"}], ids=str)
@pytest.mark.parametrize("target", TO)
def test_a_copy_holds_nothing_of_the_tensor(target, options, dtype):
    x = torch.ones(3, dtype=dtype)
    TO[target](x, copy=True, **options)
    assert x.untyped_storage().resizable()


def mapped(data):
    memory = mmap.mmap(-1, len(data))
    memory.write(data)
    return memory


@pytest.mark.parametrize(
    ("allocate", "free", "target"),
    [(bytearray, bytearray.clear, "torch"), (mapped, mmap.mmap.close, "torch"), (mapped, mmap.mmap.close, "JAX")],
)
def test_what_a_numpy_array_is_a_view_of_cannot_be_freed(allocate, free, target):
    buffer = allocate(make("NumPy").tobytes())
    y = TO[target](np.frombuffer(buffer, np.float32), copy=False)
    with pytest.raises(BufferError):
        free(buffer)
    assert is_intact(y)

"""Conversions: what is no dense array is refused by name with the call that helps, and nothing ends the process."""

import array
import collections
import contextlib
import functools
import operator
import re
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch
from jax.experimental import sparse
from torch._subclasses.fake_tensor import FakeTensorMode

from jaxact.interop import to_jax, to_numpy, to_torch
from layouts import Foreign

TO = (to_jax, to_torch, to_numpy)


def quiet(make):
    """Make something that torch has warnings about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


def deleted():
    x = jnp.arange(3.0)
    x.delete()
    return x


def donated():
    x = jnp.arange(1024.0)
    jax.jit(lambda x: x + 1, donate_argnums=0)(x).block_until_ready()
    return x


def fake():
    with FakeTensorMode():
        return torch.zeros(3)


class Broken:
    """What claims to speak DLPack and does not."""

    def __dlpack__(self, **kwargs):
        raise KeyError("nothing there")

    def __dlpack_device__(self):
        return 1, 0


class Handle(torch.Tensor):
    """A tensor whose data are elsewhere, as those of a DTensor are."""

    @staticmethod
    def __new__(cls):
        return torch.Tensor._make_wrapper_subclass(cls, (3,))

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise NotImplementedError

    def full_tensor(self):
        return torch.zeros(3)


def torch_bits(dtype):
    return torch.zeros(16, dtype=torch.uint8).view(dtype)


def numpy_of(dtype):
    return lambda: np.array([0, 1, 1]).astype(getattr(ml_dtypes, dtype))


# What it is: how it is made, what the message says of it, the way out that it names, and that way gone.
NO_DENSE_ARRAYS = {
    "torch COO": (lambda: torch.eye(2).to_sparse(), "a sparse_coo tensor", ".to_dense()", lambda x: x.to_dense()),
    "torch CSR": (lambda: torch.eye(2).to_sparse_csr(), "a sparse_csr tensor", ".to_dense()", lambda x: x.to_dense()),
    "torch CSC": (lambda: torch.eye(2).to_sparse_csc(), "a sparse_csc tensor", ".to_dense()", lambda x: x.to_dense()),
    "torch BSR": (
        lambda: torch.eye(2).to_sparse_bsr((1, 1)),
        "a sparse_bsr tensor",
        ".to_dense()",
        lambda x: x.to_dense(),
    ),
    "torch mkldnn": (lambda: torch.eye(2).to_mkldnn(), "a mkldnn tensor", ".to_dense()", lambda x: x.to_dense()),
    "torch nested": (
        lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        "a nested tensor",
        "the list x.unbind()",
        lambda x: x.unbind(),
    ),
    "torch jagged": (
        lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
        "a nested tensor",
        "the list x.unbind()",
        lambda x: x.unbind(),
    ),
    "meta": (
        lambda: torch.zeros(2, device="meta"),
        "a meta tensor, which has no data",
        "torch.zeros_like(x, device='cpu')",
        lambda x: torch.zeros_like(x, device="cpu"),
    ),
    "fake": (fake, "FakeTensor, which has no data of its own", "convert the tensor", None),
    "handle": (Handle, "Handle, which has no data of its own", ".full_tensor()", lambda x: x.full_tensor()),
    "quantized": (
        lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        "a tensor of torch.qint8",
        ".dequantize()",
        lambda x: x.dequantize(),
    ),
    "complex32": (
        lambda: torch.zeros(2, dtype=torch.complex32),
        "a tensor of torch.complex32",
        ".to(torch.complex64)",
        lambda x: x.to(torch.complex64),
    ),
    "complex32 over DLPack": (
        lambda: Foreign(torch.zeros(2, dtype=torch.complex32)),
        "a tensor of torch.complex32",
        ".to(torch.complex64)",
        lambda x: torch.from_dlpack(x).to(torch.complex64),
    ),
    "torch float4 over DLPack": (
        lambda: Foreign(torch_bits(torch.float4_e2m1fn_x2)),
        "a tensor of torch.float4_e2m1fn_x2",
        ".view(torch.uint8)",
        lambda x: torch.from_dlpack(x).view(torch.uint8),
    ),
    **{
        f"torch {dtype}": (
            functools.partial(torch_bits, getattr(torch, dtype)),
            f"a tensor of torch.{dtype}",
            f".view(torch.uint{bits})",
            operator.methodcaller("view", getattr(torch, f"uint{bits}")),
        )
        for dtype, bits in [
            *[(f"{sign}int{bits}", 8) for sign in ("", "u") for bits in range(1, 8)],
            *[("bits8", 8), ("bits1x8", 8), ("bits2x4", 8), ("bits4x2", 8), ("bits16", 16)],
            *[("float4_e2m1fn_x2", 8), ("qint8", 8), ("quint8", 8), ("quint4x2", 8), ("quint2x4", 8), ("qint32", 32)],
        ]
    },
    **{
        f"{kind} {dtype}": (
            lambda dtype=dtype, wrap=wrap: wrap(numpy_of(dtype)()),
            f"a {kind} array of dtype {dtype}",
            f".astype('{wide}')",
            operator.methodcaller("astype", wide),
        )
        for kind, wrap in (("NumPy", np.asarray), ("JAX", jnp.asarray))
        for dtype, wide in [
            *[("int2", "int8"), ("uint2", "int8"), ("int4", "int8"), ("uint4", "int8"), ("float4_e2m1fn", "float32")]
        ]
    },
    **{
        f"NumPy {dtype}": (
            numpy_of(dtype),
            f"a NumPy array of dtype {dtype}",
            ".astype('float32')",
            operator.methodcaller("astype", "float32"),
        )
        for dtype in ("float6_e2m3fn", "float6_e3m2fn")
    },
    "float0": (
        lambda: jax.grad(lambda n: n * 1.0, allow_int=True)(3),
        "a NumPy array of dtype [('float0', 'V')]",
        "numpy.zeros(x.shape)",
        lambda x: np.zeros(x.shape),
    ),
    "object": (
        lambda: np.array([1, 2.5], object),
        "a NumPy array of dtype object",
        ".astype('float64')",
        lambda x: x.astype("float64"),
    ),
    "ragged": (
        lambda: np.array([np.zeros(1), np.zeros(2)], object),
        "a NumPy array of dtype object",
        ".tolist() if it holds arrays",
        lambda x: x.tolist(),
    ),
    "string": (
        lambda: np.array(["b", "a"]),
        "a NumPy array of dtype <U1",
        "numpy.unique(..., return_inverse=True)[1]",
        lambda x: np.unique(x, return_inverse=True)[1],
    ),
    "numerals": (
        lambda: np.array(["1.5"]),
        "a NumPy array of dtype <U3",
        ".astype('float64')",
        lambda x: x.astype("float64"),
    ),
    "bytes": (
        lambda: np.array([b"a"]),
        "a NumPy array of dtype |S1",
        "numpy.unique(..., return_inverse=True)[1]",
        lambda x: np.unique(x, return_inverse=True)[1],
    ),
    "StringDType": (
        lambda: np.array(["1"], np.dtypes.StringDType()),
        "a NumPy array of dtype StringDType",
        ".astype('float64')",
        lambda x: x.astype("float64"),
    ),
    "datetime": (
        lambda: np.array(["2020-01-01"], "M8[D]"),
        "dtype datetime64[D]",
        ".astype('int64')",
        lambda x: x.astype("int64"),
    ),
    "timedelta": (
        lambda: np.array([1], "m8[s]"),
        "dtype timedelta64[s]",
        ".astype('int64')",
        lambda x: x.astype("int64"),
    ),
    "structured": (
        lambda: np.zeros(2, [("a", "f4"), ("b", "i2")]),
        "dtype [('a', '<f4'), ('b', '<i2')]",
        "{field: array[field] for field in array.dtype.names}",
        lambda array: {field: array[field] for field in array.dtype.names},
    ),
    "void": (lambda: np.zeros(2, "V3"), "dtype |V3", ".view('uint8')", lambda x: x.view("uint8")),
    "masked": (lambda: np.ma.array([1, 2], mask=[0, 1]), "a masked array", ".filled(value)", lambda x: x.filled(0)),
    "JAX keys": (
        lambda: jax.random.split(jax.random.key(0)),
        "JAX random keys",
        "jax.random.key_data(keys)",
        jax.random.key_data,
    ),
    "JAX BCOO": (
        lambda: sparse.BCOO.fromdense(jnp.eye(2)),
        "BCOO, which is no dense array",
        ".todense()",
        lambda x: x.todense(),
    ),
    "JAX CSR": (
        lambda: sparse.CSR.fromdense(jnp.eye(2)),
        "CSR, which is no dense array",
        ".todense()",
        lambda x: x.todense(),
    ),
    "shape": (
        lambda: jax.ShapeDtypeStruct((2,), "float32"),
        "ShapeDtypeStruct, which is no dense array",
        "jax.numpy.zeros(x.shape, x.dtype)",
        lambda x: jnp.zeros(x.shape, x.dtype),
    ),
    "str": (lambda: "abc", "a str, which is no dense array", "leave it out", None),
    "function": (lambda: len, "a builtin_function_or_method, which is no dense array", "leave it out", None),
    "set": (
        lambda: {1, 2},
        "a set, which is no dense array",
        "numpy.asarray(list(...))",
        lambda x: np.asarray(list(x)),
    ),
    "set of arrays": (lambda: {torch.ones(2)}, "a set, which is no dense array", "pass list(...) of it", list),
    "range": (lambda: range(3), "a range, which is no", "numpy.asarray(list(...))", lambda x: np.asarray(list(x))),
    "deque": (lambda: collections.deque([torch.ones(2)]), "deque, which is no", "pass list(...) of it", list),
    "array.array": (
        lambda: array.array("f", [1, 2]),
        "array.array, which is no",
        "numpy.asarray(list(...))",
        lambda x: np.asarray(list(x)),
    ),
    "module": (
        lambda: torch.nn.Linear(1, 1),
        "Linear, which is no dense array",
        ".state_dict()",
        lambda x: x.state_dict(),
    ),
    "optimizer": (
        lambda: torch.optim.SGD(torch.nn.Linear(1, 1).parameters()),
        "SGD, which is no dense array",
        ".state_dict()",
        lambda x: x.state_dict(),
    ),
    "torch.Size": (lambda: torch.ones(2).shape, "torch.Size, which is no dense array", "pass tuple(...) of it", tuple),
    "broken DLPack": (Broken, "Broken, whose data cannot be taken over DLPack", "nothing there", None),
    "half of DLPack": (
        lambda: type("Half", (), {"__dlpack__": lambda self, **_: None})(),
        "Half, whose data cannot be taken over DLPack",
        "leave it out",
        None,
    ),
    "bits8 over DLPack": (
        lambda: Foreign(torch_bits(torch.bits8)),
        "Foreign, whose data cannot be taken over DLPack",
        "convert it with the library that it comes from",
        lambda x: x.array.view(torch.uint8),
    ),
    "int4 over DLPack": (
        lambda: Foreign(jnp.zeros(2, jnp.int4)),
        "Foreign, whose data cannot be taken over DLPack",
        "convert it with the library that it comes from",
        lambda x: x.array.astype("int8"),
    ),
}


@pytest.mark.parametrize("to", TO)
@pytest.mark.parametrize(("make", "what", "way_out", "go"), NO_DENSE_ARRAYS.values(), ids=NO_DENSE_ARRAYS)
def test_what_is_no_dense_array(to, make, what, way_out, go):
    x = quiet(make)
    pattern = rf"^{to.__name__}: got (a |an )?.*{re.escape(what.removeprefix('a '))}.*{re.escape(way_out)}"
    for copy in (None, False, True):
        with pytest.raises(TypeError, match=pattern):
            to(x, copy=copy)
    if go is not None:
        to(quiet(lambda: go(x)))


TORCH_DTYPES = sorted({str(dtype) for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)})


@pytest.mark.parametrize("to", TO)
@pytest.mark.parametrize("wrap", [lambda x: x, Foreign], ids=["tensor", "over DLPack"])
@pytest.mark.parametrize("dtype", TORCH_DTYPES)
def test_every_dtype_of_torch_is_taken_or_refused_by_name(dtype, wrap, to):
    x = wrap(torch_bits(getattr(torch, dtype.removeprefix("torch."))))
    try:
        to(x)
    except TypeError as error:
        assert re.match(rf"{to.__name__}: got .*({dtype}|cannot be taken over DLPack).*; ", str(error))  # noqa: PT017


@pytest.mark.parametrize("to", TO)
@pytest.mark.parametrize(
    ("shrink", "part"),
    [
        (lambda x: x.untyped_storage().resize_(0), lambda x: x),
        (lambda x: x.untyped_storage().resize_(0), lambda x: x[2:]),
        (lambda x: x.untyped_storage().resize_(12), lambda x: x[::3]),
        (lambda x: x.untyped_storage().resize_(12), lambda x: x.view(2, 2).t()),
        (lambda x: to_jax(x) is x.resize_(100), lambda x: x),
    ],
)
def test_a_storage_that_was_resized(to, shrink, part):
    x = torch.ones(4)
    y = part(x)
    with contextlib.suppress(RuntimeError):
        shrink(x)
    with pytest.raises(
        ValueError, match=rf"{to.__name__}: got a tensor that needs \d+ bytes of a storage that was resi"
    ):
        to(y)


@pytest.mark.parametrize("to", TO)
@pytest.mark.parametrize("make", [deleted, donated])
def test_jax_arrays_that_are_gone(to, make):
    with pytest.raises(ValueError, match=f"{to.__name__}: got a JAX array that was deleted or donated; .*copy=True"):
        to(make())


@pytest.mark.parametrize("to", TO)
@pytest.mark.parametrize("transform", [jax.jit, jax.grad, jax.vmap, jax.checkpoint])
def test_traced_by_jax(to, transform):
    x = jnp.ones(3) if transform is jax.vmap else 1.0
    with pytest.raises(TypeError, match=f"{to.__name__}: got a traced JAX array, .*jaxact.interop.as_jax"):
        transform(lambda x: to(x) and x)(x)


@pytest.mark.parametrize("to", TO)
@pytest.mark.parametrize("transform", [torch.func.grad, torch.func.vmap, torch.func.jacrev])
def test_traced_by_torch_func(to, transform):
    x = torch.ones(3) if transform is torch.func.vmap else torch.tensor(1.0)
    with pytest.raises(TypeError, match=f"{to.__name__}: got a tensor traced by torch.func, .*jaxact.interop.as_torch"):
        transform(lambda x: to(x))(x)


@pytest.mark.parametrize("to", TO)
def test_shards_on_other_processes(to, monkeypatch):
    x = jnp.ones(3)
    monkeypatch.setattr(type(x), "is_fully_addressable", False)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    with pytest.raises(ValueError, match=r"shards on other processes; gather it with .*process_allgather"):
        to(x)


class TestArguments:
    @pytest.mark.parametrize("to", TO)
    @pytest.mark.parametrize("copy", [0, 1, "no", np.True_], ids=repr)
    def test_copy(self, to, copy):
        with pytest.raises(TypeError, match=f"{to.__name__}: copy must be None, True or False, got {copy!r}"):
            to(np.zeros(1), copy=copy)

    @pytest.mark.parametrize(
        ("to", "device", "error", "message"),
        [
            (to_jax, 0, TypeError, "to_jax: device must be a jax.Device, a sharding, or a name"),
            (to_jax, "abacus", ValueError, "to_jax: there is no device 'abacus', only"),
            (to_jax, "cpu:99", ValueError, "to_jax: there is no device 'cpu:99', only"),
            (to_jax, "cpu:x", ValueError, "to_jax: there is no device 'cpu:x', only"),
            (to_torch, 1.5, TypeError, "to_torch: device must be a torch.device or a name"),
            (to_torch, "abacus", ValueError, "to_torch: there is no device 'abacus'"),
            (to_torch, "meta", ValueError, "to_torch: a meta tensor has no data"),
            (to_torch, "xpu", ValueError, "to_torch: cannot move data to xpu"),
        ],
    )
    def test_device(self, to, device, error, message):
        with pytest.raises(error, match=message):
            to(np.float32([1]), device=device)

    def test_the_devices_that_there_are(self):
        x = np.float32([1, 2])
        cpu = jax.devices("cpu")[0]
        for device in ("cpu", "cpu:0", cpu, jax.sharding.SingleDeviceSharding(cpu)):
            assert to_jax(x, device=device).devices() == {cpu}
        for device in ("cpu", torch.device("cpu")):
            assert to_torch(x, device=device).device == torch.device("cpu")


# Each of these ends the process, or did in some version, where DLPack is called as it is.
ONCE_FATAL = """
import numpy as np, jax, jax.numpy as jnp, torch
from jaxact.interop import to_jax, to_numpy, to_torch
jax.config.update("jax_enable_x64", True)
for dtype in ("bool", "int8", "float16", "bfloat16", "float32", "float64", "complex128", "float8_e5m2"):
    x = np.arange(24).astype(jnp.dtype(dtype)).reshape(2, 3, 4)
    for view in (x[::-1], x[:, ::-1], x[..., ::-1], x[::-1, ::-1, ::-1], x.T[::-1], x[:, 2:0:-1], x[:1, ::-1, :1],
                 x[:0, ::-1], x[:1, :1, ::-2], np.flip(x), np.rot90(x, axes=(1, 2))):
        for writeable in (True, False):
            view = view.view()
            view.flags.writeable = writeable
            for to in (to_jax, to_torch, to_numpy):
                for copy in (None, True):
                    assert to_numpy(to(view, copy=copy)).tobytes() == view.tobytes()
for strided in (torch.ones(4)[::2], torch.ones(3).expand(2, 3), torch.ones(4, 4)[:, 1:3]):
    assert to_jax(strided).shape == strided.shape
print("survived")
"""


def run(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


def test_nothing_ends_the_process():
    done = run(ONCE_FATAL)
    assert (done.returncode, done.stdout) == (0, "survived\n"), done.stderr


def test_what_would_have_ended_it():
    """If this ever fails, torch takes negative strides, and the copy that they cost can go. Newer releases raise."""
    done = run("import numpy, torch; torch.from_dlpack(numpy.zeros(3)[::-1]); print('taken')")
    assert "Storage size calculation overflowed with sizes=[3] and strides=[-1]" in done.stderr
    assert done.stdout == ""


class TestImports:
    def test_numpy_and_jax_need_no_torch(self):
        program = (
            "import sys\n"
            "sys.modules['torch'] = None  # as if it were not installed\n"
            "import numpy as np\n"
            "from jaxact.interop import to_jax, to_numpy\n"
            "x = np.arange(3.0, dtype='float32')\n"
            "assert to_numpy(x) is x\n"
            "print(*to_numpy(to_jax({'a': x, 'b': [x[::-1], 1.0]}))['a'])\n"
        )
        done = run(program)
        assert done.stdout == "0.0 1.0 2.0\n", done.stderr

    def test_nothing_is_imported_that_the_caller_did_not(self):
        program = (
            "import sys, numpy as np\n"
            "from jaxact.interop import to_jax, to_numpy\n"
            "to_numpy(to_jax([np.zeros(3, 'int8'), np.zeros(3, 'int8')[::-1]]))\n"
            "print([name for name in ('torch', 'jax.experimental.sparse') if name in sys.modules])\n"
        )
        done = run(program)
        assert done.stdout == "[]\n", done.stderr

"""Everything that is no dense array of numbers, with what is said of it, for the tests of the conversions."""

import array
import collections
import functools
import operator
import warnings

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import torch
from jax.experimental import sparse
from torch._subclasses.fake_tensor import FakeTensorMode

from layouts import Foreign


def quiet(make):
    """Make something that torch has warnings about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


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

"""Dense arrays of the three kinds: which ones there are, what is refused and why, dtypes and the checked cast."""

import functools
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np

from jaxact._boundary import fits

if TYPE_CHECKING:
    import torch

Dense: TypeAlias = "np.ndarray | jax.Array | torch.Tensor"

# XLA's CPU client shares a buffer that starts at a multiple of this many bytes, and copies any other.
ALIGNMENT = 64

# The dtypes that are moved, by the name that NumPy (with ml_dtypes), JAX and torch give them; torch lacks the last line.
_NAMES = """
    bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 bfloat16 float32 float64 complex64 complex128
    float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu
    float8_e3m4 float8_e4m3 float8_e4m3b11fnuz
"""
DTYPES = frozenset(jnp.dtype(name) for name in _NAMES.split())

# DLPack's number for the device whose memory the CPU addresses.
_DLPACK_CPU = 1


class PrecisionWarning(UserWarning):
    """Data was rounded to 32 bits, because JAX's 64-bit mode is off and no dtype was asked for."""


def is_tensor(x: Any) -> "TypeGuard[torch.Tensor]":
    """Say whether ``x`` is a torch tensor, without importing torch: whoever has one has imported it."""
    return isinstance(x, getattr(sys.modules.get("torch"), "Tensor", ()))


def is_number(x: Any) -> TypeGuard[complex]:
    """Say whether ``x`` is a number of Python's own, which has no dtype and no memory."""
    return isinstance(x, (bool, int, float, complex)) and not isinstance(x, np.generic)


def is_sparse_jax(x: Any) -> bool:
    """Say whether ``x`` is a sparse JAX array: jax.tree would take it for a container."""
    return isinstance(x, getattr(sys.modules.get("jax.experimental.sparse"), "JAXSparse", ()))


def is_numpys(dtype: np.dtype) -> bool:
    """Say whether the dtype is NumPy's own; bfloat16 and float8 are of ml_dtypes, and its DLPack refuses them."""
    return dtype.isbuiltin == 1


@functools.cache
def torch_dtypes() -> "dict[np.dtype, torch.dtype]":
    """Return torch's dtype for each NumPy dtype that is moved and that torch has."""
    import torch

    return {dtype: getattr(torch, dtype.name) for dtype in DTYPES if hasattr(torch, dtype.name)}


@functools.cache
def numpy_dtypes() -> "dict[torch.dtype, np.dtype]":
    """Return NumPy's dtype for each torch dtype that is moved."""
    return {theirs: ours for ours, theirs in torch_dtypes().items()}


def requested_dtype(name: str, dtype: Any) -> np.dtype:
    """Return the NumPy dtype that the argument ``dtype`` names, spelled as in JAX, NumPy or torch.

    Args:
        name: The public function, for the message.
        dtype: A dtype, or its name.

    Raises:
        TypeError: If it is no dtype of numbers that are a byte or more.
    """
    try:
        found = jnp.dtype(str(dtype).removeprefix("torch.") if type(dtype).__module__ == "torch" else dtype)
    except TypeError:
        found = None
    if found is None or not _is_numeric(found):
        raise TypeError(
            f"{name}: dtype must be a dtype of numbers of JAX, NumPy or PyTorch, such as 'float32', got {dtype!r}"
        )
    return found


def _is_numeric(dtype: np.dtype) -> bool:
    return dtype.kind in "biufc" or dtype in DTYPES


def dense(name: str, x: Any, import_off_cpu: Callable[[Any], Dense]) -> Dense:
    """Return ``x`` as a plain dense array of one of the three kinds, in the same memory.

    Tensors come out detached. Subclasses of arrays and tensors, numbers, and what has ``__jax_array__`` or
    ``__dlpack__`` become plain arrays.

    Args:
        name: The public function, for the message.
        x: What may be an array.
        import_off_cpu: Takes an object with ``__dlpack__`` whose data are on another device than the CPU.

    Raises:
        TypeError: If ``x`` is no dense array of numbers.
        ValueError: If it is one whose data are gone or out of reach.
        OverflowError: If it is an int of more than 64 bits.
    """
    if is_tensor(x):
        return _dense_tensor(name, x)
    if isinstance(x, jax.Array):
        return _dense_jax(name, x)
    if isinstance(x, (np.ndarray, np.generic)):
        return _dense_numpy(name, x)
    if is_number(x):
        return _dense_number(name, x)
    if hasattr(x, "__jax_array__"):
        return _dense_jax(name, x.__jax_array__())
    if hasattr(x, "__dlpack__"):
        return _dense_foreign(name, x, import_off_cpu)
    raise TypeError(
        f"{name}: got a {_type_name(x)}, which is no dense array, no number and no container that jax.tree knows; "
        f"{_way_out(x)}"
    )


def _type_name(x: Any) -> str:
    return f"{type(x).__module__}.{type(x).__qualname__}".removeprefix("builtins.")


def _way_out(x: Any) -> str:
    if hasattr(x, "todense"):
        return "call .todense() first"
    if hasattr(x, "state_dict"):
        return "pass its .state_dict()"
    if hasattr(x, "__array__"):
        return "pass numpy.asarray(...) of it"
    if isinstance(x, (dict, list, tuple)):
        return "pass a plain dict, list or tuple of what it holds, or register its class with jax.tree_util"
    return "convert it to a NumPy array first, or leave it out"


def _dense_numpy(name: str, x: "np.ndarray | np.generic") -> np.ndarray:
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{name}: got a masked array, whose mask would be lost; call .filled(value) first")
    if not _is_numeric(x.dtype):
        raise TypeError(f"{name}: got a NumPy array of dtype {x.dtype}; {_numeric_way_out(x.dtype)}")
    return np.asarray(x)


def _numeric_way_out(dtype: np.dtype) -> str:
    if dtype.names is not None:
        return "convert its fields one by one, as {field: array[field] for field in array.dtype.names}"
    if dtype.kind in "mM":
        return "call .astype('int64') first"
    if dtype.isbuiltin == 2:
        return "numbers of less than a byte are packed differently everywhere; call .astype('int8') or 'float32' first"
    return "make it numeric with .astype first"


def _dense_jax(name: str, x: jax.Array) -> jax.Array:
    if isinstance(x, jax.core.Tracer):
        raise TypeError(
            f"{name}: got a traced JAX array, which has no data yet; convert outside of jax.jit, jax.grad and "
            "jax.vmap, or call the torch function through jaxact.interop.as_jax"
        )
    if x.dtype not in DTYPES:
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            raise TypeError(f"{name}: got JAX random keys; convert jax.random.key_data(keys)")
        raise TypeError(f"{name}: got a JAX array of dtype {x.dtype}; {_numeric_way_out(x.dtype)}")
    if x.is_deleted():
        raise ValueError(f"{name}: got a JAX array that was deleted or donated; convert it before, with copy=True")
    if not x.is_fully_addressable:
        raise ValueError(
            f"{name}: got a JAX array with shards on other processes; gather it with "
            "jax.experimental.multihost_utils.process_allgather, or convert its addressable_shards"
        )
    return x


def _dense_tensor(name: str, x: "torch.Tensor") -> "torch.Tensor":
    import torch

    if x.is_nested:
        raise TypeError(f"{name}: got a nested tensor, which is not dense; convert the list x.unbind()")
    if x.layout is not torch.strided:
        layout = str(x.layout).removeprefix("torch.").lstrip("_")
        raise TypeError(f"{name}: got a {layout} tensor, which is not dense; call .to_dense() first")
    if x.dtype not in numpy_dtypes():
        way_out = "call .dequantize() first" if x.is_quantized else "convert it with .to(dtype) first"
        raise TypeError(f"{name}: got a tensor of {x.dtype}, which JAX and NumPy lack; {way_out}")
    if x.is_meta:
        raise TypeError(f"{name}: got a meta tensor, which has no data; give it some with .to_empty(device='cpu')")
    if type(x).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        raise TypeError(
            f"{name}: got a {_type_name(x)}, which has no data of its own; convert the tensor that it stands for"
        )
    try:
        x.data_ptr()
    except RuntimeError:
        raise TypeError(
            f"{name}: got a tensor traced by torch.func, which has no data; convert outside of torch.func.grad and "
            "torch.func.vmap, or call the JAX function through jaxact.interop.as_torch"
        ) from None
    if x.requires_grad:
        x = x.detach()
    return x if type(x) is torch.Tensor else x.as_subclass(torch.Tensor)


def _dense_number(name: str, x: complex) -> np.ndarray:
    array = np.asarray(x)
    if array.dtype == object:
        raise OverflowError(f"{name}: got the int {x}, which 64 bits do not hold; convert it to a float first")
    return array


def _dense_foreign(name: str, x: Any, import_off_cpu: Callable[[Any], Dense]) -> Dense:
    try:
        if x.__dlpack_device__()[0] == _DLPACK_CPU:
            return np.from_dlpack(x)
        return import_off_cpu(x)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise TypeError(
            f"{name}: got a {_type_name(x)} whose DLPack data cannot be taken: {error}; {_way_out(x)}"
        ) from error


def cast(name: str, x: np.ndarray, dtype: np.dtype, *, asked: bool) -> np.ndarray:
    """Return ``x`` in another dtype, in new memory aligned for XLA.

    Args:
        name: The public function, for the message.
        x: The array.
        dtype: The dtype of the result.
        asked: Whether the caller asked for this dtype, and so for the rounding.

    Raises:
        TypeError: If an imaginary part would be lost.
        OverflowError: If a value would change beyond rounding.

    Warns:
        PrecisionWarning: If a value is rounded and this was not asked for.
    """
    if x.dtype.kind == "c" and dtype.kind != "c":
        raise TypeError(f"{name}: {x.dtype} data cannot become {dtype}; take .real first")
    with np.errstate(all="ignore"):  # what would be warned about is an OverflowError
        y = aligned_copy(x, dtype)
        rounded = False
        for before, after in zip(_real_parts(x), _real_parts(y), strict=False):
            if after.dtype.kind in "iu" and before.dtype.kind not in "biu":
                before = np.trunc(before)
            back = after.astype(before.dtype)
            exact = np.array_equal(before, back, equal_nan=before.dtype.kind not in "biu")
            # A float just above the largest integer passes for that integer: the way back tells them apart.
            if not fits(before, after.dtype) or not (exact or after.dtype.kind not in "iu"):
                way_out = "clip it first" if asked else "enable jax_enable_x64, or convert it first"
                raise OverflowError(f"{name}: {x.dtype} data has values outside {dtype}; {way_out}")
            rounded |= not exact
    if rounded and not asked:
        warnings.warn(
            f"{name}: {x.dtype} data was rounded to {dtype}, because JAX's 64-bit mode is off; enable "
            f"jax_enable_x64, or pass dtype='{dtype}' if this is meant",
            PrecisionWarning,
            stacklevel=_stacklevel_of_user(),
        )
    return y


def _real_parts(x: np.ndarray) -> Iterator[np.ndarray]:
    yield x.real
    if x.dtype.kind == "c":
        yield x.imag


def aligned_copy(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return a C-contiguous copy of ``x`` in ``dtype``, at an address that XLA shares."""
    size = math.prod(x.shape) * dtype.itemsize
    buffer = np.empty(size + ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    copy = buffer[start : start + size].view(dtype).reshape(x.shape)
    np.copyto(copy, x, casting="unsafe")
    return copy


def _stacklevel_of_user() -> int:
    """Return the stacklevel at which ``warnings.warn`` in the caller points at the user's line, not at a library's."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in {"jaxact", "jax", "torch"}:
        level, frame = level + 1, frame.f_back
    return level

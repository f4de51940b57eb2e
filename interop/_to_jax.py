"""``to_jax``: arrays of any library into JAX, in the same memory where that is possible."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ._dense import Dense, is_compiling, is_lazy_zeros, is_number, is_plain_numpy, is_plain_tensor
from ._dtypes import ALIGNMENT, DTYPES, NUMPY_DTYPES, WIDE_DTYPES, aligned_copy, numpy_dtypes, requested_dtype
from ._source import LAZY_ZEROS, Source, as_integers, check_copy, described, jax_from_dlpack, torch_from_dlpack
from ._trees import convert_leaves

if TYPE_CHECKING:
    import torch

_STRIDED = "it is strided, and XLA's layouts are contiguous in some order of the axes"
_UNALIGNED = f"it does not start at a multiple of {ALIGNMENT} bytes, where XLA wants it"


def to_jax(tree: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Any:
    """Return arrays as JAX arrays: the same bits, in the same memory where that is possible.

    Any tree that ``jax.tree`` knows goes in (dict, list, tuple, named tuple, None, registered dataclass,
    ``state_dict()``) and comes out with the same structure. Its leaves are arrays of JAX, NumPy, PyTorch or of
    anything else with ``__dlpack__``. A leaf that occurs twice is converted once, so that tied weights stay tied.
    What ``torch.max``, ``sort`` or ``svd`` return becomes a named tuple with the same fields.

    What is no array in a tree stays what it is: Python's own numbers, text and None. So the ``state_dict()`` of an
    optimizer goes through JAX and back, and a list of numbers is a tree of numbers, not an array. A number by itself
    becomes a 0-d array, and so does a NumPy scalar, which has a dtype, anywhere.

    With JAX's 64-bit mode off, 64-bit data become 32-bit. Integers that do not fit, and finite numbers that would
    become infinite, are refused; rounding is warned of, once a line of code.

    JAX takes its arrays for immutable, but an array that shares memory sees what is later written there, even
    between two steps of a computation: pass ``copy=True`` if the tensor or NumPy array will be written to again. One
    that shares a transposed array has its layout, which ``jit`` compiles for and ahead-of-time compilation refuses.
    The memory stays as long as the result does: a tensor that shares it can be deleted and given other data, and torch
    refuses to resize its storage.

    Under ``torch.compile`` a call is a graph break.

    Args:
        tree: Arrays of any shape and layout, of a boolean, integer, float (16 to 64 bits, bfloat16, float8) or
            complex dtype. Tensors may require grad, which stays behind.
        dtype: The dtype of the result, spelled as in JAX, NumPy or torch. Asking for it makes rounding and the
            truncation of floats to integers silent; values out of its range are refused.
        device: A ``jax.Device``, a sharding, or a name such as ``"cpu"`` or ``"gpu:0"``. None leaves the data on the
            device where they are, if JAX has it, and brings them to the CPU otherwise.
        copy: None shares memory wherever it can and copies otherwise, False shares or raises, True copies. On the
            CPU JAX shares what is contiguous in some order of the axes and starts at a multiple of 64 bytes, as
            every tensor does that is no view; read-only and bfloat16 or float8 NumPy arrays in C order only.

    Returns:
        The tree with a ``jax.Array`` for each leaf. A ``jax.Array`` that need not change is returned itself.

    Raises:
        TypeError: For what is no dense array of numbers of at least a byte (sparse, meta, quantized, object, string,
            structured, traced, ...), for a dtype that JAX lacks, and for an imaginary part that would be lost.
        ValueError: If ``copy=False`` and the data must be copied; if the array was deleted or donated, its storage
            resized, or it lies on other processes; if there is no such device; for a 64-bit ``dtype`` with 64-bit
            mode off.
        OverflowError: If a value is out of the range of the result's dtype.

    Warns:
        PrecisionWarning: If values are rounded because 64-bit mode is off.

    Example:
        >>> import torch
        >>> from jaxact.interop import to_jax
        >>> to_jax({"weight": torch.tensor([1.0, -0.0]), "step": torch.tensor(3)})
        {'step': Array(3, dtype=int32), 'weight': Array([ 1., -0.], dtype=float32)}
        >>> to_jax(torch.tensor([2**40]))
        Traceback (most recent call last):
            ...
        OverflowError: to_jax: int64 data has values outside int32; enable jax_enable_x64, or clip it first

    See Also:
        :func:`jax.dlpack.from_dlpack`, :func:`to_torch`, :func:`to_numpy`
    """
    if is_compiling():
        from . import _graph_break

        return _graph_break.call(to_jax, tree, dtype=dtype, device=device, copy=copy)
    if dtype is None and device is None and copy is None:
        # Most calls: memory that can be shared at once. What does not pass here is looked at with care.
        if is_plain_tensor(tree) and _keeps_width(numpy_dtypes().get(tree.dtype)):
            return jax.dlpack.from_dlpack(_owner(tree))
        if is_plain_numpy(tree) and tree.flags.writeable and _keeps_width(tree.dtype):
            return jax.dlpack.from_dlpack(tree)
    check_copy("to_jax", copy)
    convert = functools.partial(
        _converted,
        dtype=None if dtype is None else _dtype(dtype),
        device=None if device is None else _sharding(device),
        copy=copy,
    )
    return convert_leaves(convert, tree)


def _keeps_width(dtype: np.dtype | None) -> bool:
    return dtype is not None and (dtype not in WIDE_DTYPES or jax.dtypes.canonicalize_dtype(dtype) == dtype)


def _converted(x: Any, *, dtype: np.dtype | None, device: jax.sharding.Sharding | None, copy: bool | None) -> jax.Array:
    """Return one array as JAX's."""
    source = described("to_jax", x, copy, (np.from_dlpack, jax_from_dlpack, torch_from_dlpack))
    want = jax.dtypes.canonicalize_dtype(source.dtype) if dtype is None else dtype
    if want not in DTYPES:
        raise TypeError(f"to_jax: JAX has no dtype {want}; ask for another one with dtype=")
    if source.dtype != want:
        device = device or _home(source.array)
        source = source.cast(want, asked=dtype is not None or is_number(x))
    y = _in_jax(source)
    if device is None:
        return y
    if not y.sharding.is_equivalent_to(device, y.ndim):
        source.must_copy(f"the data go from {y.sharding} to {device}")
    return jax.device_put(y, device)


def _in_jax(source: Source) -> jax.Array:
    """Return a source of a dtype of JAX's, where it is."""
    x = source.array
    if isinstance(x, jax.Array):
        # Not device_put(..., may_alias=False), which mixes up the elements of a transposed layout.
        return x.copy() if source.copy else x
    if isinstance(x, np.ndarray):
        return _numpy_to_jax(x, source)
    return _tensor_to_jax(x, source)


def _numpy_to_jax(x: np.ndarray, source: Source) -> jax.Array:
    obstacle = _numpy_obstacle(x)
    if obstacle:
        source.must_copy(obstacle)
    if obstacle or source.copy:
        x = aligned_copy(x, x.dtype.newbyteorder("="))
    if x.flags.writeable and x.dtype in NUMPY_DTYPES:
        return jax.dlpack.from_dlpack(x)
    return jax.device_put(x, jax.local_devices(backend="cpu")[0], may_alias=True)


def _numpy_obstacle(x: np.ndarray) -> str | None:
    """Return why JAX cannot share the memory, or None if it can."""
    if not x.dtype.isnative:
        return "it is not in this machine's byte order"
    if not x.flags.c_contiguous:
        if not _is_compact(x.shape, x.strides, x.itemsize):
            return _STRIDED
        if not x.flags.writeable or x.dtype not in NUMPY_DTYPES:
            return "a NumPy array that is read-only, bfloat16 or float8 can be shared only in C order"
    return _UNALIGNED if x.size and x.ctypes.data % ALIGNMENT else None


def _tensor_to_jax(x: "torch.Tensor", source: Source) -> jax.Array:
    obstacle = _tensor_obstacle(x)
    if obstacle:
        source.must_copy(obstacle)
    if obstacle or source.copy:
        x = x.new_empty(x.shape, device=x.device if _is_seen(x) else "cpu").copy_(x)
    return jax.dlpack.from_dlpack(_owner(x))


def _owner(x: "torch.Tensor") -> "np.ndarray | torch.Tensor":
    """Return the tensor's memory as something that keeps it.

    Torch's own export over DLPack keeps the tensor alive, not its memory: ``.data =``, ``set_`` and
    ``module.half()`` give the tensor other memory, ``resize_`` frees the storage's, and what was exported lies
    in what is free. An alias holds the storage, and a view of NumPy's forbids that it be resized ever after. Nothing
    forbids that for the memory of other devices.
    """
    if x.is_cpu and numpy_dtypes()[x.dtype] in NUMPY_DTYPES:
        return x.numpy()
    if x.is_cpu and x.untyped_storage().resizable():
        as_integers(x).numpy()
    return x.detach()


def _tensor_obstacle(x: "torch.Tensor") -> str | None:
    """Return why JAX cannot share the memory, or None if it can."""
    if not _is_seen(x):
        return f"it is on {x.device}, which JAX does not see"
    if x.is_conj() or x.is_neg():
        return "its conjugate or negative bit is set"
    if is_lazy_zeros(x):
        return LAZY_ZEROS
    if not x.is_contiguous() and not _is_compact(x.shape, x.stride(), 1):
        return _STRIDED
    return _UNALIGNED if x.is_cpu and x.data_ptr() % ALIGNMENT else None


def _is_compact(shape: Sequence[int], strides: Sequence[int], itemsize: int) -> bool:
    """Say whether some order of the axes makes the array C-contiguous."""
    expected = itemsize
    for stride, size in sorted(zip(strides, shape, strict=True)):
        if size == 1:
            continue
        if stride != expected:
            return False
        expected *= size
    return True


def _is_seen(x: "torch.Tensor") -> bool:
    """Say whether JAX has the tensor's device."""
    if x.is_cpu:
        return True
    try:
        return x.is_cuda and bool(jax.local_devices(backend="gpu"))
    except RuntimeError:
        return False


def _home(x: Dense) -> jax.sharding.Sharding | None:
    """Return where JAX has such data; None means in the CPU's memory."""
    if isinstance(x, jax.Array):
        return x.sharding
    if isinstance(x, np.ndarray) or x.is_cpu or not _is_seen(x):
        return None
    return jax.dlpack.from_dlpack(x.new_empty(0)).sharding


def _dtype(dtype: Any) -> np.dtype:
    """Return the dtype that the argument ``dtype`` of ``to_jax`` names, or raise the error that helps."""
    found = requested_dtype("to_jax", dtype)
    if found not in DTYPES:
        raise TypeError(f"to_jax: JAX has no dtype {found}; ask for another one")
    if jax.dtypes.canonicalize_dtype(found) != found:
        raise ValueError(f"to_jax: dtype {found} needs 64-bit mode; set jax_enable_x64, or ask for a 32-bit dtype")
    return found


def _sharding(device: Any) -> jax.sharding.Sharding:
    """Return the sharding that the argument ``device`` of ``to_jax`` names, or raise the error that helps."""
    if isinstance(device, jax.sharding.Sharding):
        return device
    if isinstance(device, jax.Device):
        return jax.sharding.SingleDeviceSharding(device)
    if not isinstance(device, str):
        raise TypeError(
            f"to_jax: device must be a jax.Device, a sharding, or a name such as 'cpu' or 'gpu:0', got {device!r}"
        )
    platform, _, index = device.partition(":")
    try:
        found = jax.local_devices(backend=platform)[int(index or 0)]
    except (RuntimeError, ValueError, IndexError):
        raise ValueError(f"to_jax: there is no device {device!r}, only {jax.local_devices()}") from None
    return jax.sharding.SingleDeviceSharding(found)

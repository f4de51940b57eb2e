"""One array moved: into JAX, into torch, into NumPy, sharing its memory where that is possible."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ._dense import Dense, dense, is_lazy_zeros, is_number, is_on_cpu, is_tensor
from ._dtypes import ALIGNMENT, DTYPES, NUMPY_DTYPES, aligned_copy, cast, numpy_dtypes, requested_dtype, torch_dtypes

if TYPE_CHECKING:
    import torch

_STRIDED = "it is strided, and XLA's layouts are contiguous in some order of the axes"
_LAZY_ZEROS = "it is zeros that torch keeps no memory for"
_UNALIGNED = f"it does not start at a multiple of {ALIGNMENT} bytes, where XLA wants it"


def into_jax(x: Any, *, dtype: np.dtype | None, device: jax.sharding.Sharding | None, copy: bool | None) -> jax.Array:
    """Return one leaf of the tree of ``to_jax`` as a JAX array."""
    source = dense("to_jax", x, (np.from_dlpack, _jax_from_dlpack, _torch_from_dlpack))
    _refuse_scalar("to_jax", x, copy)
    have = _native_dtype(source)
    want = jax.dtypes.canonicalize_dtype(have) if dtype is None else dtype
    if have != want:
        _refuse("to_jax", copy, f"{have} data becomes {want}")
        device = device or _jax_home(source)
        source = cast("to_jax", _numpy_view(source, copy), want, asked=dtype is not None or is_number(x))
        copy = None
    if want not in DTYPES:
        raise TypeError(f"to_jax: JAX has no dtype {want}; ask for another one with dtype=")
    if isinstance(source, jax.Array):
        # Not device_put(..., may_alias=False), which mixes up the elements of a transposed layout.
        y = source.copy() if copy else source
    elif isinstance(source, np.ndarray):
        y = _numpy_to_jax(source, copy)
    else:
        y = _tensor_to_jax(source, copy)
    if device is None:
        return y
    if not y.sharding.is_equivalent_to(device, y.ndim):
        _refuse("to_jax", copy, f"the data go from {y.sharding} to {device}")
    return jax.device_put(y, device)


def _numpy_to_jax(x: np.ndarray, copy: bool | None) -> jax.Array:
    obstacle = _numpy_obstacle(x)
    if obstacle:
        _refuse("to_jax", copy, obstacle)
    if obstacle or copy:
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


def _tensor_to_jax(x: "torch.Tensor", copy: bool | None) -> jax.Array:
    obstacle = _tensor_obstacle(x)
    if obstacle:
        _refuse("to_jax", copy, obstacle)
    if obstacle or copy:
        x = x.new_empty(x.shape, device=x.device if _jax_sees(x) else "cpu").copy_(x)
    return jax.dlpack.from_dlpack(owner(x))


def owner(x: "torch.Tensor") -> "np.ndarray | torch.Tensor":
    """Return the tensor's memory as something that keeps it.

    Torch's own export over DLPack keeps the tensor alive, not its memory: ``.data =``, ``set_`` and
    ``module.half()`` give the tensor other memory, ``resize_`` frees the storage's, and what was exported lies
    in what is free. An alias holds the storage, and a view of NumPy's forbids that it be resized ever after. Nothing
    forbids that for the memory of other devices.
    """
    if x.is_cpu and numpy_dtypes()[x.dtype] in NUMPY_DTYPES:
        return x.numpy()
    if x.is_cpu and x.untyped_storage().resizable():
        _as_integers(x).numpy()
    return x.detach()


def _as_integers(x: "torch.Tensor") -> "torch.Tensor":
    """Return the bits of a tensor of a dtype that NumPy's own do not include: bfloat16 or float8."""
    import torch

    return x.view(torch.int8 if x.itemsize == 1 else torch.int16)


def _tensor_obstacle(x: "torch.Tensor") -> str | None:
    """Return why JAX cannot share the memory, or None if it can."""
    if not _jax_sees(x):
        return f"it is on {x.device}, which JAX does not see"
    if x.is_conj() or x.is_neg():
        return "its conjugate or negative bit is set"
    if is_lazy_zeros(x):
        return _LAZY_ZEROS
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


def into_torch(x: Any, *, dtype: np.dtype | None, device: "torch.device | None", copy: bool | None) -> "torch.Tensor":
    """Return one leaf of the tree of ``to_torch`` as a tensor."""
    source = dense("to_torch", x, (np.from_dlpack, _torch_from_dlpack))
    _refuse_scalar("to_torch", x, copy)
    have = _native_dtype(source)
    want = dtype or (_default_torch_dtype(have) if is_number(x) else have)
    if want not in torch_dtypes():
        raise TypeError(f"to_torch: torch has no dtype {want}; ask for another one with dtype=")
    if have != want:
        _refuse("to_torch", copy, f"{have} data becomes {want}")
        device = device or _torch_home(source)
        values = cast("to_torch", _numpy_view(source, copy), want, asked=True)
        copy = None
        # A tensor is cast by torch, which differentiates that; what torch would wrap has been refused.
        y = x.to(torch_dtypes()[want]) if is_tensor(x) else _numpy_to_torch(values, None)
    elif is_tensor(x):
        y = x
    elif isinstance(source, np.ndarray):
        y = _numpy_to_torch(source, copy)
    elif isinstance(source, jax.Array):
        y = _jax_to_torch(source, copy)
    else:
        y = source
    moved = y if device is None else _to_torch_device(y, device)
    if moved is not y:
        _refuse("to_torch", copy, f"the data go from {y.device} to {device}")
        return moved
    return y.clone() if copy else y


def _numpy_to_torch(x: np.ndarray, copy: bool | None) -> "torch.Tensor":
    import torch

    obstacle = _torch_obstacle(x)
    if obstacle:
        _refuse("to_torch", copy, obstacle)
        x = aligned_copy(x, x.dtype.newbyteorder("="))
    if x.dtype in NUMPY_DTYPES:
        return torch.utils.dlpack.from_dlpack(x)
    return torch.utils.dlpack.from_dlpack(x.view(f"i{x.itemsize}")).view(torch_dtypes()[x.dtype])


def _torch_obstacle(x: np.ndarray) -> str | None:
    """Return why torch cannot share the memory, or None if it can."""
    if not x.dtype.isnative:
        return "it is not in this machine's byte order"
    if not x.flags.aligned or any(stride % x.itemsize for stride in x.strides):
        return "its elements do not lie at multiples of their size"
    # When DLPack brings torch a negative stride it raises, and in older releases ends the process. A contiguous
    # array brings none: the axes that could have one hold no second element.
    if not x.flags.c_contiguous and any(stride < 0 for stride in x.strides):
        return "torch has no negative strides"
    return None


def _jax_to_torch(x: jax.Array, copy: bool | None) -> "torch.Tensor":
    import torch

    if is_on_cpu(x) or (len(x.devices()) == 1 and torch.cuda.is_available()):
        return torch.utils.dlpack.from_dlpack(x)
    _refuse("to_torch", copy, f"it is on {x.sharding}, which torch does not see as one array")
    return _numpy_to_torch(np.array(x), None)


def _default_torch_dtype(have: np.dtype) -> np.dtype:
    """Return the dtype that torch gives a Python number, which NumPy has given the dtype ``have``."""
    import torch

    if have.kind not in "fc":
        return have
    real = numpy_dtypes()[torch.get_default_dtype()]
    return real if have.kind == "f" else np.result_type(real, np.complex64)


def into_numpy(x: Any, *, dtype: np.dtype | None, copy: bool | None) -> np.ndarray:
    """Return one leaf of the tree of ``to_numpy`` as a NumPy array."""
    source = dense("to_numpy", x, (np.from_dlpack, _numpy_from_dlpack, _jax_from_dlpack, _torch_from_dlpack))
    _refuse_scalar("to_numpy", x, copy)
    y = _numpy_view(source, copy)
    if dtype is not None and y.dtype != dtype:
        _refuse("to_numpy", copy, f"{y.dtype} data becomes {dtype}")
        return cast("to_numpy", y, dtype, asked=True)
    return y.copy() if copy and not is_tensor(source) else y


def _numpy_view(x: Dense, copy: bool | None = None) -> np.ndarray:
    """Return a dense array as NumPy's: in the same memory where that is possible, but for a tensor to be copied."""
    if isinstance(x, np.ndarray):
        return x
    if isinstance(x, jax.Array):
        if not is_on_cpu(x):
            _refuse("to_numpy", copy, f"it is on {x.sharding}, which NumPy does not see as one array")
        return np.asarray(x)
    if x.is_conj() or x.is_neg():
        _refuse("to_numpy", copy, "its conjugate or negative bit is set")
    if not x.is_cpu:
        _refuse("to_numpy", copy, f"it is on {x.device}")
    x = x.cpu().resolve_conj().resolve_neg()
    if is_lazy_zeros(x):
        _refuse("to_numpy", copy, _LAZY_ZEROS)
        copy = True
    if copy:
        x = x.clone()  # or the view would forbid that the storage of the tensor itself be resized
    dtype = numpy_dtypes()[x.dtype]
    if dtype in NUMPY_DTYPES:
        return x.numpy()
    return _as_integers(x).numpy().view(dtype)


def _native_dtype(x: Dense) -> np.dtype:
    return x.dtype.newbyteorder("=") if isinstance(x, (np.ndarray, jax.Array)) else numpy_dtypes()[x.dtype]


def _refuse(name: str, copy: bool | None, why: str) -> None:
    """Raise if the copy that is needed is forbidden."""
    if copy is False:
        raise ValueError(f"{name}: copy=False, but the data must be copied: {why}; pass copy=None to allow it")


def _refuse_scalar(name: str, x: Any, copy: bool | None) -> None:
    if copy is False and (isinstance(x, np.generic) or is_number(x)):
        _refuse(name, copy, f"a {type(x).__name__} is no array and has no memory to share")


def jax_dtype(dtype: Any) -> np.dtype:
    """Return the dtype that the argument ``dtype`` of ``to_jax`` names, or raise the error that helps."""
    found = requested_dtype("to_jax", dtype)
    if found not in DTYPES:
        raise TypeError(f"to_jax: JAX has no dtype {found}; ask for another one")
    if jax.dtypes.canonicalize_dtype(found) != found:
        raise ValueError(f"to_jax: dtype {found} needs 64-bit mode; set jax_enable_x64, or ask for a 32-bit dtype")
    return found


def jax_sharding(device: Any) -> jax.sharding.Sharding:
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


def _jax_sees(x: "torch.Tensor") -> bool:
    """Say whether JAX has the tensor's device."""
    if x.is_cpu:
        return True
    try:
        return x.is_cuda and bool(jax.local_devices(backend="gpu"))
    except RuntimeError:
        return False


def _jax_home(x: Dense) -> jax.sharding.Sharding | None:
    """Return where JAX has such data; None means in the CPU's memory."""
    if isinstance(x, jax.Array):
        return x.sharding
    if isinstance(x, np.ndarray) or x.is_cpu or not _jax_sees(x):
        return None
    return jax.dlpack.from_dlpack(x.new_empty(0)).sharding


def _numpy_from_dlpack(x: Any) -> np.ndarray:
    """Import over DLPack from a device that is not the CPU."""
    return np.from_dlpack(x, device="cpu")


def _jax_from_dlpack(x: Any) -> jax.Array:
    """Import over DLPack in 64-bit mode, in which JAX narrows nothing unseen."""
    with jax.enable_x64(True):
        return jax.dlpack.from_dlpack(x)


def _torch_from_dlpack(x: Any) -> "torch.Tensor":
    """Import over DLPack into torch, which has dtypes and strides that the others refuse, where it is loaded."""
    torch = sys.modules.get("torch")
    if torch is None:
        raise TypeError("torch is not loaded")
    return torch.utils.dlpack.from_dlpack(x)


def torch_dtype(dtype: Any) -> np.dtype:
    """Return the dtype that the argument ``dtype`` of ``to_torch`` names, or raise the error that helps."""
    found = requested_dtype("to_torch", dtype)
    if found not in torch_dtypes():
        raise TypeError(f"to_torch: torch has no dtype {found}; ask for another one")
    return found


def torch_device(device: Any) -> "torch.device":
    """Return the device that the argument ``device`` of ``to_torch`` names, or raise the error that helps."""
    import torch

    try:
        found = torch.device(device)
    except TypeError:
        raise TypeError(
            f"to_torch: device must be a torch.device or a name such as 'cpu' or 'cuda:0', got {device!r}"
        ) from None
    except RuntimeError as error:
        raise ValueError(f"to_torch: there is no device {device!r}: {error}") from None
    if found.type == "meta":
        raise ValueError("to_torch: a meta tensor has no data; convert to the CPU, and call .to('meta') afterwards")
    return found


def _to_torch_device(x: "torch.Tensor", device: "torch.device") -> "torch.Tensor":
    try:
        return x.to(device)
    except (AssertionError, RuntimeError) as error:
        raise ValueError(f"to_torch: cannot move data to {device}: {error}") from None


def _torch_home(x: Dense) -> "torch.device | None":
    """Return where torch has such data; None means in the CPU's memory."""
    import torch

    if isinstance(x, jax.Array):
        if is_on_cpu(x) or len(x.devices()) > 1 or not torch.cuda.is_available():
            return None
        return torch.device("cuda", next(iter(x.devices())).local_hardware_id)
    return None if isinstance(x, np.ndarray) else x.device

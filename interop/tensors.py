"""Arrays moved between JAX, NumPy and PyTorch: to_jax, to_torch and to_numpy."""

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ._dense import (
    ALIGNMENT,
    DTYPES,
    Dense,
    aligned_copy,
    cast,
    dense,
    is_number,
    is_numpys,
    is_sparse_jax,
    is_tensor,
    numpy_dtypes,
    requested_dtype,
    torch_dtypes,
)

if TYPE_CHECKING:
    import torch


def to_jax(tree: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Any:
    """Convert."""
    _check_copy("to_jax", copy)
    if dtype is not None:
        dtype = _jax_dtype(dtype)
    if device is not None:
        device = _jax_sharding(device)
    return _convert(_to_jax, tree, dtype=dtype, device=device, copy=copy)


def to_torch(tree: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Any:
    """Convert."""
    _check_copy("to_torch", copy)
    if dtype is not None:
        dtype = requested_dtype("to_torch", dtype)
        _torch_dtype(dtype)
    if device is not None:
        device = _torch_device(device)
    return _convert(_to_torch, tree, dtype=dtype, device=device, copy=copy)


def to_numpy(tree: Any, *, dtype: Any = None, copy: bool | None = None) -> Any:
    """Convert."""
    _check_copy("to_numpy", copy)
    if dtype is not None:
        dtype = requested_dtype("to_numpy", dtype)
    return _convert(_to_numpy, tree, dtype=dtype, copy=copy)


def _convert(convert: Callable[..., Any], tree: Any, **options: Any) -> Any:
    """Convert the leaves of a tree; what occurs twice is converted once, so that it stays shared."""
    if is_tensor(tree) or isinstance(tree, (np.ndarray, jax.Array)):
        return convert(tree, **options)
    done: dict[Any, Any] = {}

    def once(path: Any, leaf: Any) -> Any:
        key = _identity(leaf)
        if key not in done:
            try:
                done[key] = convert(leaf, **options)
            except (TypeError, ValueError, OverflowError) as error:
                if path:
                    error.add_note(f"at {jax.tree_util.keystr(path)} of the tree")
                raise
        return done[key]

    return jax.tree_util.tree_map_with_path(once, tree, is_leaf=is_sparse_jax)


def _identity(leaf: Any) -> Any:
    """Return what two leaves have in common if they are the same array.

    A ``state_dict()`` wraps each of its tensors anew, so tied weights are known by their memory. Numbers are
    never the same array, though small ones are the same object.
    """
    if is_number(leaf):
        return object()
    if is_tensor(leaf) and not leaf.requires_grad and leaf.dtype in numpy_dtypes():
        with contextlib.suppress(RuntimeError):  # what has no memory is refused later
            return leaf.data_ptr(), leaf.shape, leaf.stride(), leaf.dtype, leaf.is_conj(), leaf.is_neg()
    return id(leaf)


def _to_jax(x: Any, *, dtype: np.dtype | None, device: jax.sharding.Sharding | None, copy: bool | None) -> jax.Array:
    source = dense("to_jax", x, _jax_from_dlpack)
    have = numpy_dtypes()[source.dtype] if is_tensor(source) else source.dtype
    want = jax.dtypes.canonicalize_dtype(have.newbyteorder("=")) if dtype is None else dtype
    if have != want:
        if want not in DTYPES:
            raise TypeError(f"to_jax: JAX has no {have}; pass dtype='float32', or what else you need")
        _refuse("to_jax", copy, f"{have} data becomes {want}")
        device = device or _jax_home(source)
        source = cast("to_jax", _numpy_view(source), want, asked=dtype is not None or is_number(x))
        copy = None
    if isinstance(source, np.ndarray):
        y = _numpy_to_jax(source, copy)
    elif isinstance(source, jax.Array):
        y = jax.device_put(source, may_alias=False) if copy else source
    else:
        y = _tensor_to_jax(source, copy)
    if device is None:
        return y
    if not y.sharding.is_equivalent_to(device, y.ndim):
        _refuse("to_jax", copy, f"the data move from {y.sharding} to {device}")
    return jax.device_put(y, device)


def _tensor_to_jax(x: "torch.Tensor", copy: bool | None) -> jax.Array:
    if obstacle := _tensor_obstacle(x):
        _refuse("to_jax", copy, obstacle)
    if copy or obstacle:
        x = x.new_empty(x.shape, device=x.device if _jax_has(x) else "cpu").copy_(x)
    return jax.dlpack.from_dlpack(x)


def _tensor_obstacle(x: "torch.Tensor") -> str | None:
    """Return why JAX cannot share the tensor's memory, or None if it can."""
    if x.is_conj() or x.is_neg():
        return "the tensor's conjugate or negative bit is set"
    if not x.is_contiguous() and not _is_compact(x.shape, x.stride(), 1):
        return _NOT_COMPACT
    if x.is_cpu:
        return _UNALIGNED if x.data_ptr() % ALIGNMENT else None
    return None if _jax_has(x) else f"JAX does not see the device {x.device}"


def _numpy_to_jax(x: np.ndarray, copy: bool | None) -> jax.Array:
    if obstacle := _numpy_obstacle(x):
        _refuse("to_jax", copy, obstacle)
    if copy or obstacle:
        x = aligned_copy(x, x.dtype.newbyteorder("="))
    if x.flags.writeable and is_numpys(x.dtype):
        return jax.dlpack.from_dlpack(x)
    return jax.device_put(x, _jax_cpu(), may_alias=True)


def _numpy_obstacle(x: np.ndarray) -> str | None:
    """Return why JAX cannot share the array's memory, or None if it can."""
    if not x.dtype.isnative:
        return "the array is not in this machine's byte order"
    if not x.flags.c_contiguous:
        if not _is_compact(x.shape, x.strides, x.itemsize):
            return _NOT_COMPACT
        if not x.flags.writeable or not is_numpys(x.dtype):
            return "a read-only, bfloat16 or float8 NumPy array is shared only in C order"
    return _UNALIGNED if x.ctypes.data % ALIGNMENT and x.size else None


_NOT_COMPACT = "its layout is strided, and XLA's are contiguous in some order of the axes"
_UNALIGNED = f"its memory does not start at a multiple of {ALIGNMENT} bytes, as XLA needs it"


def _is_compact(shape: Sequence[int], strides: Sequence[int], itemsize: int) -> bool:
    """Say whether some order of the axes makes the array C-contiguous."""
    expected = itemsize
    for stride, size in sorted(zip(strides, shape, strict=True)):
        if size == 1:
            continue
        if stride != expected:
            return 0 in shape
        expected *= size
    return True


def _to_torch(x: Any, *, dtype: np.dtype | None, device: "torch.device | None", copy: bool | None) -> "torch.Tensor":
    import torch

    source = dense("to_torch", x, torch.from_dlpack)
    if is_tensor(source):
        have = numpy_dtypes()[source.dtype]
        if dtype is not None and have != dtype:
            _refuse("to_torch", copy, f"{have} data becomes {dtype}")
            cast("to_torch", _numpy_view(source), dtype, asked=True)  # raises where torch would not
            y, copy = x.to(_torch_dtype(dtype)), None
        else:
            y = x
    else:
        if is_number(x) and dtype is None and source.dtype.kind in "fc":
            dtype = numpy_dtypes()[torch.get_default_dtype()]
            dtype = np.result_type(dtype, np.complex64) if source.dtype.kind == "c" else dtype
        want = source.dtype.newbyteorder("=") if dtype is None else dtype
        torch_dtype = _torch_dtype(want)
        if source.dtype != want:
            _refuse("to_torch", copy, f"{source.dtype} data becomes {want}")
            device = device or _torch_home(source)
            source, copy = cast("to_torch", _numpy_view(source), want, asked=True), None
        if isinstance(source, jax.Array):
            y = _jax_to_tensor(source, copy)
        else:
            y = _numpy_to_tensor(source, torch_dtype, copy)
    if device is not None:
        moved = _move(y, device)
        if moved is not y:
            _refuse("to_torch", copy, f"the data move from {y.device} to {device}")
            return moved
    return y.clone() if copy else y


def _numpy_to_tensor(x: np.ndarray, dtype: "torch.dtype", copy: bool | None) -> "torch.Tensor":
    import torch

    if min(x.strides, default=0) < 0 or not x.flags.aligned or any(stride % x.itemsize for stride in x.strides):
        _refuse("to_torch", copy, "torch has no negative strides and no unaligned ones")
        x = np.array(x, order="C")
    if is_numpys(x.dtype):
        return torch.from_dlpack(x)
    return torch.from_dlpack(x.view(f"i{x.itemsize}")).view(dtype)


def _jax_to_tensor(x: jax.Array, copy: bool | None) -> "torch.Tensor":
    import torch

    if len(x.sharding.device_set) == 1 and (_is_on_cpu(x) or torch.cuda.is_available()):
        return torch.from_dlpack(x)
    _refuse("to_torch", copy, f"the array is on {x.sharding}")
    return _numpy_to_tensor(np.array(x), _torch_dtype(x.dtype), None)


def _to_numpy(x: Any, *, dtype: np.dtype | None, copy: bool | None) -> np.ndarray:
    source = dense("to_numpy", x, functools.partial(np.from_dlpack, device="cpu"))
    y = _numpy_view(source, copy)
    if dtype is not None and y.dtype != dtype:
        _refuse("to_numpy", copy, f"{y.dtype} data becomes {dtype}")
        return cast("to_numpy", y, dtype, asked=True)
    return y.copy() if copy else y


def _numpy_view(x: Dense, copy: bool | None = None) -> np.ndarray:
    """Return a dense array as NumPy's, in the same memory if the CPU reaches it and NumPy can read it."""
    if isinstance(x, np.ndarray):
        return x
    if isinstance(x, jax.Array):
        if len(x.sharding.device_set) > 1 or not _is_on_cpu(x):
            _refuse("to_numpy", copy, f"the array is on {x.sharding}")
        return np.asarray(x)
    if x.is_conj() or x.is_neg():
        _refuse("to_numpy", copy, "the tensor's conjugate or negative bit is set")
        x = x.resolve_conj().resolve_neg()
    if not x.is_cpu:
        _refuse("to_numpy", copy, f"the tensor is on {x.device}")
        x = x.cpu()
    dtype = numpy_dtypes()[x.dtype]
    if is_numpys(dtype):
        return x.numpy()
    return x.view(torch_dtypes()[np.dtype(f"i{dtype.itemsize}")]).numpy().view(dtype)


def _check_copy(name: str, copy: Any) -> None:
    if copy is not None and not isinstance(copy, bool):
        raise TypeError(f"{name}: copy must be None, True or False, got {copy!r}")


def _refuse(name: str, copy: bool | None, why: str) -> None:
    """Raise if a copy that is needed is forbidden."""
    if copy is False:
        raise ValueError(f"{name}: copy=False, but a copy is needed: {why}; pass copy=None to allow it")


def _jax_dtype(dtype: Any) -> np.dtype:
    found = requested_dtype("to_jax", dtype)
    if found not in DTYPES:
        raise TypeError(f"to_jax: JAX has no dtype {found}; ask for another dtype")
    if jax.dtypes.canonicalize_dtype(found) != found:
        raise ValueError(f"to_jax: dtype {found} needs 64-bit mode; set jax_enable_x64, or ask for a 32-bit dtype")
    return found


def _jax_sharding(device: Any) -> jax.sharding.Sharding:
    """Return the sharding that the argument ``device`` of to_jax names."""
    if isinstance(device, jax.sharding.Sharding):
        return device
    if isinstance(device, jax.Device):
        return jax.sharding.SingleDeviceSharding(device)
    if not isinstance(device, str) and type(device).__module__ != "torch":
        raise TypeError(
            f"to_jax: device must be a jax.Device, a sharding, or a name as 'cpu' or 'gpu:0', got {device!r}"
        )
    platform, _, index = str(device).partition(":")
    try:
        found = jax.local_devices(backend=platform)[int(index or 0)]
    except (RuntimeError, ValueError, IndexError):
        seen = ", ".join(f"{d.platform}:{d.id}" for d in jax.local_devices())
        raise ValueError(f"to_jax: there is no device {str(device)!r}, only {seen}") from None
    return jax.sharding.SingleDeviceSharding(found)


def _jax_cpu() -> jax.Device:
    return jax.local_devices(backend="cpu")[0]


def _is_on_cpu(x: jax.Array) -> bool:
    return all(device.platform == "cpu" for device in x.sharding.device_set)


def _jax_has(x: "torch.Tensor") -> bool:
    """Say whether JAX sees the tensor's device."""
    if x.is_cpu:
        return True
    try:
        return x.is_cuda and bool(jax.local_devices(backend="gpu"))
    except RuntimeError:
        return False


def _jax_home(x: Dense) -> jax.sharding.Sharding | None:
    """Return where JAX has the data, if that is not the CPU."""
    if isinstance(x, jax.Array):
        return x.sharding
    if isinstance(x, np.ndarray) or x.is_cpu or not _jax_has(x):
        return None
    return jax.dlpack.from_dlpack(x.new_empty(0)).sharding


def _jax_from_dlpack(x: Any) -> jax.Array:
    """Import with 64-bit mode on, in which nothing is narrowed unseen."""
    enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64  # jax 0.7
    with enable_x64(True):
        return jax.dlpack.from_dlpack(x)


def _torch_dtype(dtype: np.dtype) -> "torch.dtype":
    try:
        return torch_dtypes()[dtype]
    except KeyError:
        raise TypeError(f"to_torch: torch has no dtype {dtype}; ask for one that it has with dtype=") from None


def _torch_device(device: Any) -> "torch.device":
    import torch

    try:
        found = torch.device(device)
    except TypeError:
        raise TypeError(
            f"to_torch: device must be a torch.device or a name as 'cpu' or 'cuda:0', got {device!r}"
        ) from None
    except RuntimeError as error:
        raise ValueError(f"to_torch: there is no device {device!r}: {error}") from None
    if found.type == "meta":
        raise ValueError("to_torch: the meta device keeps no data; move there with .to('meta') afterwards")
    return found


def _torch_home(x: "np.ndarray | jax.Array") -> "torch.device | None":
    """Return where torch has the data, if that is not the CPU."""
    import torch

    if isinstance(x, np.ndarray) or _is_on_cpu(x) or not torch.cuda.is_available():
        return None
    return torch.device("cuda", next(iter(x.devices())).local_hardware_id)


def _move(x: "torch.Tensor", device: "torch.device") -> "torch.Tensor":
    try:
        return x.to(device)
    except (AssertionError, RuntimeError, NotImplementedError) as error:
        raise ValueError(f"to_torch: cannot move the data to {device}: {error}") from None

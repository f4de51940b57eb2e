"""``to_torch``: arrays of any library into torch, in the same memory where that is possible."""

import functools
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ._dense import Dense, is_compiling, is_number, is_on_cpu, is_plain_jax, is_plain_numpy, is_tensor
from ._dtypes import NUMPY_DTYPES, aligned_copy, numpy_dtypes, requested_dtype, torch_dtypes
from ._source import Source, check_copy, described, torch_from_dlpack
from ._torch_missing import torch_missing
from ._trees import convert_leaves

if TYPE_CHECKING:
    import torch


def to_torch(tree: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Any:
    """Return arrays as torch tensors: the same bits, in the same memory where that is possible.

    Trees and what may be in them are those of :func:`to_jax`: what is no array in a tree stays what it is.

    Torch has no read-only tensors: writing into a tensor that shares with a JAX array, or with a read-only NumPy
    array, changes what its owner takes for constant. Pass ``copy=True`` for a tensor that will be written to.

    Args:
        tree: Arrays of any shape and layout, of a boolean, integer, float (16 to 64 bits, bfloat16, float8) or
            complex dtype.
        dtype: The dtype of the result, spelled as in JAX, NumPy or torch. Rounding and the truncation of floats to
            integers are silent; values out of its range are refused.
        device: A ``torch.device`` or a name such as ``"cpu"`` or ``"cuda:0"``. None leaves the data on the device
            where they are, if torch has it, and brings them to the CPU otherwise.
        copy: None shares memory wherever it can and copies otherwise, False shares or raises, True copies. Torch
            shares every layout but negative strides, foreign byte orders and unaligned elements.

    Returns:
        The tree with a ``torch.Tensor`` for each leaf. A tensor that need not change is returned itself, one that
        must keeps its graph; all others are new leaves that require no grad.

    Raises:
        TypeError: For what is no dense array of numbers of at least a byte (sparse, meta, quantized, object, string,
            structured, traced, ...), for a dtype that torch lacks, and for an imaginary part that would be lost.
        ValueError: If ``copy=False`` and the data must be copied; if the array was deleted or donated, its storage
            resized, or it lies on other processes; if there is no such device.
        OverflowError: If a value is out of the range of the ``dtype`` that was asked for.

    Example:
        >>> import jax.numpy as jnp, numpy as np
        >>> from jaxact.interop import to_torch
        >>> to_torch([jnp.arange(3), np.arange(3.0)[::-1]])
        [tensor([0, 1, 2], dtype=torch.int32), tensor([2., 1., 0.], dtype=torch.float64)]

    See Also:
        :func:`torch.from_dlpack`, :func:`to_jax`, :func:`to_numpy`
    """
    if is_compiling():
        from . import _graph_break

        return _graph_break.call(to_torch, tree, dtype=dtype, device=device, copy=copy)
    try:
        import torch
    except ModuleNotFoundError:
        raise torch_missing("to_torch") from None
    as_it_is = dtype is None and device is None and copy is None
    if as_it_is and (is_plain_numpy(tree) or is_plain_jax(tree, torch_dtypes())):
        return torch.utils.dlpack.from_dlpack(tree)
    check_copy("to_torch", copy)
    convert = functools.partial(
        _converted,
        dtype=None if dtype is None else _dtype(dtype),
        device=None if device is None else _device(device),
        copy=copy,
    )
    return convert_leaves(convert, tree)


def _converted(x: Any, *, dtype: np.dtype | None, device: "torch.device | None", copy: bool | None) -> "torch.Tensor":
    """Return one array as a tensor."""
    source = described("to_torch", x, copy, (np.from_dlpack, torch_from_dlpack))
    want = dtype or (_default_dtype(source.dtype) if is_number(x) else source.dtype)
    if want not in torch_dtypes():
        raise TypeError(f"to_torch: torch has no dtype {want}; ask for another one with dtype=")
    y = x
    if source.dtype != want:
        device = device or _home(source.array)
        source = source.cast(want, asked=True)
        if is_tensor(x):  # it is cast by torch, which differentiates that; what torch would wrap has been refused
            y = x.to(torch_dtypes()[want])
    if not is_tensor(x):
        y = _in_torch(source)
    moved = y if device is None else _on_device(y, device)
    if moved is not y:
        source.must_copy(f"the data go from {y.device} to {device}")
        return moved
    return y.clone() if source.copy else y


def _in_torch(source: Source) -> "torch.Tensor":
    """Return a source of a dtype of torch's, where it is."""
    x = source.array
    if isinstance(x, np.ndarray):
        return _numpy_to_torch(x, source)
    if isinstance(x, jax.Array):
        return _jax_to_torch(x, source)
    return x


def _numpy_to_torch(x: np.ndarray, source: Source) -> "torch.Tensor":
    import torch

    obstacle = _obstacle(x)
    if obstacle:
        source.must_copy(obstacle)
        x = aligned_copy(x, x.dtype.newbyteorder("="))
    if x.dtype in NUMPY_DTYPES:
        return torch.utils.dlpack.from_dlpack(x)
    return torch.utils.dlpack.from_dlpack(x.view(f"i{x.itemsize}")).view(torch_dtypes()[x.dtype])


def _obstacle(x: np.ndarray) -> str | None:
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


def _jax_to_torch(x: jax.Array, source: Source) -> "torch.Tensor":
    import torch

    if is_on_cpu(x) or (len(x.devices()) == 1 and torch.cuda.is_available()):
        return torch.utils.dlpack.from_dlpack(x)
    source.must_copy(f"it is on {x.sharding}, which torch does not see as one array")
    return _numpy_to_torch(np.array(x), source)


def _default_dtype(have: np.dtype) -> np.dtype:
    """Return the dtype that torch gives a Python number, which NumPy has given the dtype ``have``."""
    import torch

    if have.kind not in "fc":
        return have
    real = numpy_dtypes()[torch.get_default_dtype()]
    return real if have.kind == "f" else np.result_type(real, np.complex64)


def _home(x: Dense) -> "torch.device | None":
    """Return where torch has such data; None means in the CPU's memory."""
    import torch

    if isinstance(x, jax.Array):
        if is_on_cpu(x) or len(x.devices()) > 1 or not torch.cuda.is_available():
            return None
        return torch.device("cuda", next(iter(x.devices())).local_hardware_id)
    return None if isinstance(x, np.ndarray) else x.device


def _on_device(x: "torch.Tensor", device: "torch.device") -> "torch.Tensor":
    try:
        return x.to(device)
    except (AssertionError, RuntimeError) as error:
        raise ValueError(f"to_torch: cannot move data to {device}: {error}") from None


def _dtype(dtype: Any) -> np.dtype:
    """Return the dtype that the argument ``dtype`` of ``to_torch`` names, or raise the error that helps."""
    found = requested_dtype("to_torch", dtype)
    if found not in torch_dtypes():
        raise TypeError(f"to_torch: torch has no dtype {found}; ask for another one")
    return found


def _device(device: Any) -> "torch.device":
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

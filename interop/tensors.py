"""Arrays, and trees of them, moved between JAX, NumPy and PyTorch: to_jax, to_torch and to_numpy.

The three functions here look at the tree and at the arguments. What is a dense array is decided in ``_dense``,
how one of them is moved in ``_moves``, and what becomes of its dtype in ``_dtypes``.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ._dense import (
    is_compiling,
    is_plain_jax,
    is_plain_numpy,
    is_plain_tensor,
    is_setting,
    is_sparse,
    is_tensor,
)
from ._dtypes import DTYPES, NUMPY_DTYPES, WIDE_DTYPES, numpy_dtypes, requested_dtype, torch_dtypes
from ._moves import into_jax, into_numpy, into_torch, jax_dtype, jax_sharding, owner, torch_device, torch_dtype
from ._return_types import is_named_result, named_tuple


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
            return jax.dlpack.from_dlpack(owner(tree))
        if is_plain_numpy(tree) and tree.flags.writeable and _keeps_width(tree.dtype):
            return jax.dlpack.from_dlpack(tree)
    _check_copy("to_jax", copy)
    options = {
        "dtype": None if dtype is None else jax_dtype(dtype),
        "device": None if device is None else jax_sharding(device),
        "copy": copy,
    }
    return _convert(into_jax, tree, options)


def _keeps_width(dtype: np.dtype | None) -> bool:
    return dtype is not None and (dtype not in WIDE_DTYPES or jax.dtypes.canonicalize_dtype(dtype) == dtype)


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
        message = "to_torch needs PyTorch, which is not installed; install it with: pip install 'jaxact[torch]'"
        raise ModuleNotFoundError(message, name="torch") from None
    as_it_is = dtype is None and device is None and copy is None
    if as_it_is and (is_plain_numpy(tree) or is_plain_jax(tree, torch_dtypes())):
        return torch.utils.dlpack.from_dlpack(tree)
    _check_copy("to_torch", copy)
    options = {
        "dtype": None if dtype is None else torch_dtype(dtype),
        "device": None if device is None else torch_device(device),
        "copy": copy,
    }
    return _convert(into_torch, tree, options)


def to_numpy(tree: Any, *, dtype: Any = None, copy: bool | None = None) -> Any:
    """Return arrays as NumPy arrays: the same bits, in the same memory where that is possible.

    Trees and what may be in them are those of :func:`to_jax`.

    bfloat16 and float8 have the dtypes of ``ml_dtypes``, which JAX brings along. An array that shares with a JAX array
    is read-only; one that shares with a tensor is not, and writes into the tensor.

    Args:
        tree: Arrays of any shape and layout, of a boolean, integer, float or complex dtype. Tensors may require grad,
            which stays behind, and be on any device.
        dtype: The dtype of the result, spelled as in JAX, NumPy or torch. Rounding and the truncation of floats to
            integers are silent; values out of its range are refused.
        copy: None shares memory wherever it can and copies otherwise, False shares or raises, True copies and gives
            arrays that may be written to. NumPy shares all that is in the memory of the CPU.

    Returns:
        The tree with a ``numpy.ndarray`` for each leaf. A NumPy array that need not change is returned itself.

    Raises:
        TypeError: For what is no dense array of numbers of at least a byte (sparse, meta, quantized, object, string,
            structured, traced, ...), and for an imaginary part that would be lost.
        ValueError: If ``copy=False`` and the data must be copied; if the array was deleted or donated, its storage
            resized, or it lies on other processes.
        OverflowError: If a value is out of the range of the ``dtype`` that was asked for.

    Example:
        >>> import torch
        >>> from jaxact.interop import to_numpy
        >>> to_numpy(torch.tensor([1.0, 2.5], dtype=torch.bfloat16, requires_grad=True))
        array([1, 2.5], dtype=bfloat16)

    See Also:
        :func:`numpy.from_dlpack`, :func:`to_jax`, :func:`to_torch`
    """
    if is_compiling():
        from . import _graph_break

        return _graph_break.call(to_numpy, tree, dtype=dtype, copy=copy)
    if dtype is None and copy is None:
        if is_plain_jax(tree, DTYPES):
            return np.asarray(tree)
        if is_plain_tensor(tree) and numpy_dtypes().get(tree.dtype) in NUMPY_DTYPES:
            return tree.numpy()
    _check_copy("to_numpy", copy)
    options = {"dtype": None if dtype is None else requested_dtype("to_numpy", dtype), "copy": copy}
    return _convert(into_numpy, tree, options)


def _convert(convert: Callable[..., Any], tree: Any, options: dict[str, Any]) -> Any:
    """Convert the leaves of a tree; what occurs twice is converted once, so that it stays shared."""
    if is_tensor(tree) or isinstance(tree, (np.ndarray, jax.Array)):
        return convert(tree, **options)
    try:
        leaves, structure = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_sparse)
    except ValueError as error:
        error.add_note("jax.tree sorts the keys of a dict: give them one type, or make it a collections.OrderedDict")
        raise
    one = functools.partial(_convert_leaf, functools.partial(convert, **options), {})
    return jax.tree_util.tree_unflatten(structure, [one(path, leaf) for path, leaf in leaves])


# No function within the other: one that calls itself is a cycle, which would keep the arrays until it is collected.
def _convert_leaf(convert: Callable[[Any], Any], done: dict[Any, Any], path: tuple[Any, ...], leaf: Any) -> Any:
    """Convert a leaf of a tree, or take what became of it before from ``done``."""
    if path and is_setting(leaf):
        return leaf
    if is_named_result(leaf):
        named = named_tuple(leaf)
        keys = map(jax.tree_util.GetAttrKey, named._fields)
        return named(*[_convert_leaf(convert, done, (*path, key), x) for key, x in zip(keys, leaf, strict=True)])
    key = _identity(leaf)
    if key not in done:
        try:
            done[key] = convert(leaf)
        except (TypeError, ValueError, OverflowError) as error:
            if path:
                error.add_note(f"at {jax.tree_util.keystr(path)} of the tree")
            raise
    return done[key]


def _identity(leaf: Any) -> Any:
    """Return what two leaves have in common if they are the same array.

    A ``state_dict()`` wraps each of its tensors anew, so tied weights are known by their memory.
    """
    if is_plain_tensor(leaf):
        return leaf.data_ptr(), leaf.shape, leaf.dtype
    return id(leaf)


def _check_copy(name: str, copy: Any) -> None:
    if copy is not None and not isinstance(copy, bool):
        raise TypeError(f"{name}: copy must be None, True or False, got {copy!r}")

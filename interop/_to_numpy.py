"""``to_numpy``: arrays of any library into NumPy, in the same memory where that is possible."""

import functools
from typing import Any

import numpy as np

from ._dense import is_compiling, is_plain_jax, is_plain_tensor, is_tensor
from ._dtypes import DTYPES, NUMPY_DTYPES, cast, numpy_dtypes, requested_dtype
from ._source import check_copy, described, jax_from_dlpack, numpy_from_dlpack, torch_from_dlpack
from ._trees import convert_leaves


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
    check_copy("to_numpy", copy)
    convert = functools.partial(
        _converted,
        dtype=None if dtype is None else requested_dtype("to_numpy", dtype),
        copy=copy,
    )
    return convert_leaves(convert, tree)


def _converted(x: Any, *, dtype: np.dtype | None, copy: bool | None) -> np.ndarray:
    """Return one array as NumPy's."""
    source = described("to_numpy", x, copy, (np.from_dlpack, numpy_from_dlpack, jax_from_dlpack, torch_from_dlpack))
    y = source.as_numpy()
    if dtype is not None and y.dtype != dtype:
        source.must_copy(f"{y.dtype} data becomes {dtype}")
        return cast("to_numpy", y, dtype, asked=True)
    return y.copy() if copy and not is_tensor(source.array) else y

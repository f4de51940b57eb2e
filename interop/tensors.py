"""Arrays moved between JAX, NumPy and PyTorch: to_jax, to_torch and to_numpy."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ._dense import is_number, is_plain_jax, is_plain_numpy, is_plain_tensor, is_sparse, is_tensor
from ._dtypes import DTYPES, NUMPY_DTYPES, WIDE_DTYPES, numpy_dtypes, requested_dtype, torch_dtypes
from ._moves import into_jax, into_numpy, into_torch, jax_dtype, jax_sharding, torch_device, torch_dtype


def to_jax(tree: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Any:
    """Convert."""
    if dtype is None and device is None and copy is None:
        # Most calls: memory that can be shared at once. What does not pass here is looked at with care.
        if is_plain_tensor(tree) and _keeps_width(numpy_dtypes().get(tree.dtype)):
            return jax.dlpack.from_dlpack(tree)
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
    """Convert."""
    if dtype is None and device is None and copy is None:
        import torch

        if is_plain_numpy(tree) or is_plain_jax(tree, torch_dtypes()):
            return torch.utils.dlpack.from_dlpack(tree)
    _check_copy("to_torch", copy)
    options = {
        "dtype": None if dtype is None else torch_dtype(dtype),
        "device": None if device is None else torch_device(device),
        "copy": copy,
    }
    return _convert(into_torch, tree, options)


def to_numpy(tree: Any, *, dtype: Any = None, copy: bool | None = None) -> Any:
    """Convert."""
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

    return jax.tree_util.tree_map_with_path(once, tree, is_leaf=is_sparse)


def _identity(leaf: Any) -> Any:
    """Return what two leaves have in common if they are the same array.

    A ``state_dict()`` wraps each of its tensors anew, so tied weights are known by their memory. Numbers are
    never the same array, though small ones are the same object.
    """
    if is_number(leaf):
        return object()
    if is_plain_tensor(leaf):
        return leaf.data_ptr(), leaf.shape, leaf.dtype
    return id(leaf)


def _check_copy(name: str, copy: Any) -> None:
    if copy is not None and not isinstance(copy, bool):
        raise TypeError(f"{name}: copy must be None, True or False, got {copy!r}")

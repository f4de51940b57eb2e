"""Trees of arrays: a conversion of one array, done to the leaves of a tree."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ._dense import is_plain_tensor, is_setting, is_sparse, is_tensor
from ._return_types import is_named_result, named_tuple


def convert_leaves(convert: Callable[[Any], Any], tree: Any) -> Any:
    """Convert the leaves of a tree; what occurs twice is converted once, so that it stays shared."""
    if is_tensor(tree) or isinstance(tree, (np.ndarray, jax.Array)):
        return convert(tree)
    try:
        leaves, structure = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_sparse)
    except ValueError as error:
        error.add_note("jax.tree sorts the keys of a dict: give them one type, or make it a collections.OrderedDict")
        raise
    one = functools.partial(_convert_leaf, convert, {})
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

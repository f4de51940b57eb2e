"""What ``jax.shard_map`` wants of an operation: that its arguments vary over the same axes of the mesh."""

from collections.abc import Sequence
from typing import Any

import jax


def varying_alike(arrays: Sequence[jax.Array]) -> list[jax.Array]:
    """Return the arrays as varying over the same axes of a ``jax.shard_map``: those over which any of them varies.

    JAX's own operations do this too. Its transpose adds up, over the devices, the gradient of what they all have.
    """
    own = [_axes_of(array) for array in arrays]
    axes = frozenset[Any]().union(*own)
    return [_vary(array, tuple(sorted(axes - has, key=str))) for array, has in zip(arrays, own, strict=True)]


def _axes_of(array: jax.Array) -> frozenset[Any]:
    """Return the axes of a ``jax.shard_map`` over which an array varies."""
    aval: Any = jax.typeof(array)
    return aval.manual_axis_type.varying if hasattr(aval, "manual_axis_type") else aval.vma  # before JAX 0.10


def _vary(array: jax.Array, axes: tuple[Any, ...]) -> jax.Array:
    return jax.lax.pcast(array, axes, to="varying") if axes else array

"""What both sides are called with: arrays of any framework as NumPy's, and drawn ones."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxact.interop._to_numpy import to_numpy


def prepared(inputs: Sequence[Any], seed: int) -> tuple[list[Any], list[str]]:
    """Return the inputs as NumPy arrays in their trees, what is no array as it is, and notes on what was changed.

    Args:
        inputs: Arrays of NumPy, JAX or torch, or trees of them; a ``jax.ShapeDtypeStruct`` is drawn.
        seed: For what is drawn.
    """
    random = np.random.default_rng(seed)
    notes: list[str] = []

    def convert(x: Any) -> Any:
        if isinstance(x, jax.ShapeDtypeStruct):
            return _drawn(x, random)
        if x is None or isinstance(x, (bool, int, float, complex, str)) or is_key(x):
            return x
        x = to_numpy(x, copy=True)
        taken = jax.dtypes.canonicalize_dtype(x.dtype) if is_inexact(x) else x.dtype
        if taken != x.dtype:
            notes.append(f"inputs of {x.dtype} were taken as {taken}, since JAX's 64-bit mode is off")
        return x.astype(taken, copy=False)

    def is_leaf(x: Any) -> bool:
        return x is None or isinstance(x, jax.ShapeDtypeStruct)

    return [jax.tree_util.tree_map(convert, x, is_leaf=is_leaf) for x in inputs], list(dict.fromkeys(notes))


def cotangents(outputs: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """Return a random cotangent for each inexact output: normal numbers, rounded to its dtype."""
    random = np.random.default_rng([seed, 1])
    drawn = {}
    for name, y in outputs.items():
        if is_inexact(y):
            c = random.standard_normal(y.shape)
            drawn[name] = np.asarray(c + 1j * random.standard_normal(y.shape) if y.dtype.kind == "c" else c).astype(
                y.dtype
            )
    return drawn


def is_inexact(x: Any) -> bool:
    """Say whether this is an array of floats or complex numbers."""
    return isinstance(x, np.ndarray) and jax.numpy.issubdtype(x.dtype, np.inexact)


def is_key(x: Any) -> bool:
    """Say whether this is a PRNG key, which torch has no counterpart of."""
    return isinstance(x, jax.Array) and jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key)


def _drawn(x: jax.ShapeDtypeStruct, random: np.random.Generator) -> np.ndarray:
    dtype = np.dtype(x.dtype)
    if jax.numpy.issubdtype(dtype, np.inexact):
        return np.asarray(random.standard_normal(x.shape)).astype(dtype)
    if dtype.kind in "biu":
        return random.integers(0, 2, x.shape).astype(dtype)
    raise TypeError(f"compare: cannot draw an array of {dtype}; give one")

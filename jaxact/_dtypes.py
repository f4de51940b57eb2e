"""Dtypes: the sets of them, which one a result has, at which one it is computed, and what fits into one."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

BOOLEAN = frozenset({np.dtype(bool)})
INTEGERS = frozenset(map(np.dtype, ("uint8", "int8", "int16", "int32", "int64")))
WIDE_UNSIGNED = frozenset(map(np.dtype, ("uint16", "uint32", "uint64")))
HALVES = frozenset(map(jnp.dtype, (jnp.float16, jnp.bfloat16)))
FLOATS = HALVES | frozenset(map(np.dtype, ("float32", "float64")))
REALS = INTEGERS | WIDE_UNSIGNED | FLOATS
COMPLEX = frozenset(map(np.dtype, ("complex64", "complex128")))
FLOAT32 = np.dtype("float32")


def result_dtype(
    name: str,
    dtype: np.dtype,
    keeps: frozenset[np.dtype],
    to_float32: frozenset[np.dtype] = frozenset(),
    argument: str = "input",
) -> np.dtype:
    """Return the dtype that ``name`` gives back for an input of ``dtype``.

    Args:
        name: The public function, for the message.
        dtype: The input's dtype.
        keeps: The dtypes that are accepted and returned.
        to_float32: The dtypes that are accepted and converted to float32.
        argument: What the function calls its input, for the message.

    Raises:
        TypeError: If the function does not accept ``dtype``.
    """
    if dtype in keeps:
        return dtype
    if dtype in to_float32:
        return FLOAT32
    accepted = ", ".join(sorted(map(str, keeps | to_float32)))
    raise TypeError(f"{name}: {argument} of dtype {dtype} is not accepted, only {accepted}; convert it with .astype")


def requested_dtype(name: str, given: np.dtype, dtype: Any) -> np.dtype:
    """Return the dtype that the argument ``dtype`` asks for.

    Args:
        name: The public function, for the message.
        given: The input's own dtype.
        dtype: A dtype as NumPy and JAX spell them.

    Raises:
        TypeError: If ``dtype`` is no dtype (a torch dtype, say), or ``given`` is complex and it is not.
        ValueError: If JAX cannot hold ``dtype`` now, as float64 without x64.
    """
    try:
        wanted: np.dtype = jnp.dtype(dtype)
    except TypeError:
        raise TypeError(f"{name}: dtype must be a JAX or NumPy dtype such as jax.numpy.float32, got {dtype}") from None
    if jax.dtypes.canonicalize_dtype(wanted) != wanted:
        raise ValueError(f"{name}: dtype {wanted} needs 64-bit mode; set jax_enable_x64, or ask for a 32-bit dtype")
    if given in COMPLEX and wanted not in COMPLEX:
        raise TypeError(f"{name}: a {given} input cannot be converted to {wanted}; take .real first")
    return wanted


def compute_dtype(dtype: np.dtype) -> np.dtype:
    """Return the dtype to compute at: float32 for float16 and bfloat16, else ``dtype`` itself."""
    return FLOAT32 if dtype in HALVES else dtype


def matmul_precision(dtype: np.dtype) -> lax.Precision | None:
    """Return the precision of matrix products of arrays that came as ``dtype``; None is the user's or the device's.

    On accelerators the default may round float32 operands to as few bits as bfloat16 has.
    """
    chosen = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]  # JAX makes its options at run time
    return None if dtype in HALVES or chosen else lax.Precision.HIGHEST


def integer_range(x: Any) -> np.iinfo | None:
    """Return the range of the dtype that JAX holds ``x`` in, or None if that is not one of integers."""
    dtype = getattr(x, "dtype", None)
    return np.iinfo(jax.dtypes.canonicalize_dtype(dtype)) if dtype in INTEGERS | WIDE_UNSIGNED else None


def fits(x: np.ndarray | np.generic, dtype: np.dtype) -> bool:
    """Say whether every value of ``x`` is in the range of ``dtype``, up to rounding.

    Args:
        x: A NumPy array or scalar of a 64-bit type (or complex128).
        dtype: The narrower type of the same kind.
    """
    if np.size(x) == 0:
        return True
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return bool(info.min <= x.min() and x.max() <= info.max)
    with np.errstate(over="ignore"):
        return bool((np.isfinite(x.astype(dtype)) == np.isfinite(x)).all())


def cut_to_integer(value: jax.Array, dtype: np.dtype) -> jax.Array:
    """Return a real scalar cut to an integer dtype, the nearest one where it is beyond its range."""
    info = np.iinfo(dtype)
    if value.dtype.kind in "iu":
        own = np.iinfo(value.dtype)
        ends = (value.dtype.type(end) for end in (max(info.min, own.min), min(info.max, own.max)))
        return jnp.clip(value, *ends).astype(dtype)
    value = value.astype(FLOAT32) if value.dtype in HALVES else value
    # As a float, the largest integer would be rounded up, unlike the power of two above it.
    above, below = value >= 2.0 ** info.max.bit_length(), value <= info.min
    inside = jnp.where(above | below, 0, value).astype(dtype)
    return jnp.where(above, dtype.type(info.max), jnp.where(below, dtype.type(info.min), inside))


def weakly_typed(y: jax.Array) -> jax.Array:
    """Return ``y`` of a weak type, as ``jax.numpy`` returns numbers for numbers, which widen no array they meet.

    A conversion is always to a strong type, except by the primitive beneath it, with which ``jax.numpy`` does this.
    """
    weak: jax.Array = lax.convert_element_type_p.bind(y, new_dtype=y.dtype, weak_type=True, sharding=None)
    return weak

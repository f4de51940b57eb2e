"""The dtypes that are moved, what they are called on each side, and the checked cast between them."""

import functools
import math
import sys
import warnings
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from jaxact._dtypes import fits

if TYPE_CHECKING:
    import torch

# NumPy (with ml_dtypes), JAX and torch call them by the same names; the last line is unknown to torch.
_NAMES = """
    bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 bfloat16 float32 float64 complex64 complex128
    float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu
    float8_e3m4 float8_e4m3 float8_e4m3b11fnuz
"""
DTYPES = frozenset(map(jnp.dtype, _NAMES.split()))

# Those that NumPy's own DLPack knows. The others are of ml_dtypes, and NumPy's buffers move them.
NUMPY_DTYPES = frozenset(dtype for dtype in DTYPES if dtype.isbuiltin == 1)

# Those that JAX holds only in 64-bit mode; otherwise it narrows them.
WIDE_DTYPES = frozenset(map(np.dtype, ("int64", "uint64", "float64", "complex128")))

# XLA's CPU client shares a buffer that starts at a multiple of this many bytes, and copies any other.
ALIGNMENT = 64


class PrecisionWarning(UserWarning):
    """Values were rounded to 32 bits, because JAX's 64-bit mode is off and no dtype was asked for."""


@functools.cache
def torch_dtypes() -> "dict[np.dtype, torch.dtype]":
    """Return torch's dtype for each NumPy dtype that is moved and that torch has."""
    import torch

    return {dtype: getattr(torch, dtype.name) for dtype in DTYPES if hasattr(torch, dtype.name)}


@functools.cache
def numpy_dtypes() -> "dict[torch.dtype, np.dtype]":
    """Return NumPy's dtype for each torch dtype that is moved."""
    return {theirs: ours for ours, theirs in torch_dtypes().items()}


def is_numeric(dtype: np.dtype) -> bool:
    """Say whether arrays of this dtype hold numbers of a byte or more."""
    return dtype.kind in "biufc" or dtype in DTYPES


def requested_dtype(name: str, dtype: Any) -> np.dtype:
    """Return the NumPy dtype that the argument ``dtype`` names, spelled as in JAX, NumPy or torch.

    Args:
        name: The public function, for the message.
        dtype: A dtype, or its name.

    Raises:
        TypeError: If it is no dtype of numbers of a byte or more.
    """
    try:
        found = jnp.dtype(str(dtype).removeprefix("torch.") if type(dtype).__module__ == "torch" else dtype)
    except TypeError:
        found = None
    if found is None or not is_numeric(found):
        raise TypeError(
            f"{name}: dtype must be a dtype of JAX, NumPy or PyTorch for numbers of a byte or more, such as "
            f"'float32', got {dtype!r}"
        )
    return found


def cast(name: str, x: np.ndarray, dtype: np.dtype, *, asked: bool) -> np.ndarray:
    """Return ``x`` in another dtype, in new memory aligned for XLA.

    Args:
        name: The public function, for the message.
        x: The array.
        dtype: The dtype of the result.
        asked: Whether the caller asked for this dtype, and so for the rounding.

    Raises:
        TypeError: If an imaginary part would be lost.
        OverflowError: If a value would change beyond rounding.

    Warns:
        PrecisionWarning: If a value is rounded and this was not asked for.
    """
    if x.dtype.kind == "c" and dtype.kind != "c":
        raise TypeError(f"{name}: {x.dtype} data cannot become {dtype}; take .real first")
    with np.errstate(all="ignore"):  # what NumPy would warn about is refused here
        y = aligned_copy(x, dtype)
        parts = list(zip(_real_parts(x), _real_parts(y), strict=False))  # a real x becomes the real part of y
        if not all(_in_range(before, after) for before, after in parts):
            way_out = "clip it first" if asked else "enable jax_enable_x64, or clip it first"
            if x.dtype.kind == "c":
                way_out += ", .real and .imag each"
            elif dtype.kind in "iu" and np.isnan(x).any():
                way_out += ", and put numbers for its NaNs with nan_to_num"
            raise OverflowError(f"{name}: {x.dtype} data has values outside {dtype}; {way_out}")
        exact = asked or all(_equal(before, after) for before, after in parts)
    if not exact:
        warnings.warn(
            f"{name}: {x.dtype} data was rounded to {dtype}, because JAX's 64-bit mode is off; enable "
            f"jax_enable_x64, or pass dtype='{dtype}' if this is meant",
            PrecisionWarning,
            stacklevel=_stacklevel_of_the_user(),
        )
    return y


def _real_parts(x: np.ndarray) -> list[np.ndarray]:
    return [x.real, x.imag] if x.dtype.kind == "c" else [x]


def _in_range(before: np.ndarray, after: np.ndarray) -> bool:
    """Say whether a cast between real types changed no value beyond rounding, or truncation to an integer."""
    if after.dtype.kind in "iu":
        if before.dtype.kind not in "biu":
            before = np.trunc(before)
        # The comparison with the largest integer is one of floats, where 2.0**63 passes for an int64, and the
        # way back hides a wrapped sign: it takes both.
        return fits(before, after.dtype) and _equal(before, after)
    return fits(before, after.dtype)


def _equal(x: np.ndarray, y: np.ndarray) -> bool:
    return np.array_equal(x, y.astype(x.dtype), equal_nan=x.dtype.kind not in "biu")


def aligned_copy(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return a C-contiguous copy of ``x`` in ``dtype``, at an address that XLA shares."""
    size = math.prod(x.shape) * dtype.itemsize
    buffer = np.empty(size + ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    copy = buffer[start : start + size].view(dtype).reshape(x.shape)
    np.copyto(copy, x, casting="unsafe")
    return copy


def _stacklevel_of_the_user() -> int:
    """Return the stacklevel at which ``warnings.warn`` in the caller points at the user's line, not at a library's."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in {"jaxact", "jax", "torch"}:
        level, frame = level + 1, frame.f_back
    return level

"""What is kept of an array to find it again on the other side: its sorted values, which no order of axes changes."""

import dataclasses
import itertools
import math
from collections.abc import Iterator

import numpy as np

RANKS = 256
# Values beyond this are masks, as -1e9, finfo.min and -inf: no rounding of theirs says anything of the others.
HUGE = 1e8
# How many roundings apart the values of two arrays may be that are the same, and how many of their noise.
ROUNDINGS = 12.0
NOISE_FACTOR = 8.0
# The same of all values together, by root mean square.
RMS_ROUNDINGS = 4.0
RMS_NOISE_FACTOR = 6.0


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """The sorted values of an array, or evenly spaced ones of them where there are many.

    Attributes:
        size: How many elements the array has.
        count: How many are neither NaN nor huge.
        values: Some of those, sorted.
        nans: How many are NaN.
    """

    size: int
    count: int
    values: np.ndarray
    nans: int

    @property
    def scale(self) -> float:
        """The largest magnitude."""
        return float(np.abs(self.values[[0, -1]]).max()) if self.count else 0.0

    @property
    def is_telling(self) -> bool:
        """Whether it has three distinct values at least: others are masks and constants, which are everywhere."""
        return self.count > 2 and len(np.unique(self.values)) > 2


def fingerprint(x: np.ndarray) -> Fingerprint:
    """Return the fingerprint of an array of floats."""
    flat = np.asarray(x, np.float64 if x.dtype == np.float64 else np.float32).ravel()
    nans = int(np.isnan(flat).sum())
    kept = flat[np.abs(flat) < HUGE]  # NaN is not less
    kept.sort()
    values = kept[np.linspace(0, len(kept) - 1, RANKS).astype(int)] if len(kept) > RANKS else kept
    return Fingerprint(flat.size, len(kept), values.astype(np.float64), nans)


def slack(exact: Fingerprint, disturbed: list[Fingerprint], eps: float) -> np.ndarray:
    """Return how far each sorted value of the other side's array may be from this one's, and be the same array.

    Args:
        exact: The fingerprint of torch's array in float64.
        disturbed: Those of the same array with roundings at random.
        eps: The relative rounding of the dtype.
    """
    noise = np.zeros_like(exact.values)
    for other in disturbed:
        if other.count == exact.count:
            noise = np.maximum(noise, np.abs(other.values - exact.values))
    window = 2 * (len(noise) // 32) + 1
    padded = np.pad(noise, window // 2, mode="edge")
    noise = np.lib.stride_tricks.sliding_window_view(padded, window).max(axis=-1) if noise.size else noise
    own = ROUNDINGS * eps * np.abs(exact.values)
    return np.maximum(NOISE_FACTOR * noise, own) + 1e-3 * eps * exact.scale + 1e-37


def distance(a: Fingerprint, b: Fingerprint) -> float:
    """Return how far two arrays are apart at least, in any order, as a share of the larger values."""
    if a.size != b.size or not a.count or not b.count:
        return math.inf
    if a.count == b.count:
        apart = np.abs(a.values - b.values).max()
    else:
        ranks = np.linspace(0, 1, 64)
        apart = np.abs(np.quantile(a.values, ranks) - np.quantile(b.values, ranks)).max()
    return float(apart / max(a.scale, b.scale, 1e-300))


def arrangements(x: np.ndarray, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Yield the elements of an array in another shape: as they are, then in every order of its axes or of the others'."""
    seen = set()
    for y in itertools.chain([x.reshape(shape)], _permuted(x, shape), _permuted_back(x, shape)):
        key = y.ravel()[:: max(1, y.size // 64)].tobytes()
        if key not in seen:
            seen.add(key)
            yield y


def _permuted(x: np.ndarray, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    long = [n for n in x.shape if n > 1]
    if 1 < len(long) <= 5:
        squeezed = x.reshape(long)
        for axes in itertools.permutations(range(len(long))):
            yield squeezed.transpose(axes).reshape(shape)


def _permuted_back(x: np.ndarray, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    long = [n for n in shape if n > 1]
    if 1 < len(long) <= 5:
        for axes in itertools.permutations(range(len(long))):
            yield x.reshape([long[i] for i in axes]).transpose(np.argsort(axes)).reshape(shape)


def aligned(x: np.ndarray, y: np.ndarray, tolerance: float, rms: float) -> np.ndarray | None:
    """Return ``x`` arranged as ``y``, if in some order of axes the two agree; None otherwise.

    Args:
        x: An array.
        y: Another of as many elements.
        tolerance: How far two elements may be apart.
        rms: How far all may be apart, by root mean square: many small differences tell more than the largest.
    """
    step = max(1, y.size // 512)
    sample = y.ravel()[::step]
    for arranged in arrangements(x, y.shape):
        if _agree(arranged.ravel()[::step], sample, tolerance, np.inf) and _agree(arranged, y, tolerance, rms):
            return arranged
    return None


def apart(x: np.ndarray, y: np.ndarray) -> float:
    """Return how far two arrays are apart by root mean square, masked elements left out."""
    with np.errstate(all="ignore"):
        small = (np.abs(x) < HUGE) & (np.abs(y) < HUGE)
        return float(np.sqrt(np.mean((x - y)[small] ** 2))) if small.any() else 0.0


def _agree(x: np.ndarray, y: np.ndarray, tolerance: float, rms: float) -> bool:
    with np.errstate(all="ignore"):
        small = np.abs(x) < HUGE
        if not np.array_equal(small, np.abs(y) < HUGE):
            return False
        difference = np.abs(x - y)[small]
        return bool((difference <= tolerance).all()) and bool(np.sqrt(np.mean(difference**2, dtype=np.float64)) <= rms)

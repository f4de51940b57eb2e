"""The distance of floating-point numbers, in units in the last place."""

import numpy as np


def ulp_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return how many floating-point numbers lie between each a and b; two NaNs are 0 apart.

    Args:
        a: Array of a float or integer dtype. For integers the distance is the difference.
        b: Array of the same dtype and shape.

    Returns:
        Array of float64. It is infinite where just one of the two is NaN.

    Raises:
        TypeError: If the dtypes differ.

    Example:
        >>> import numpy as np
        >>> one = np.float32([1, 0])
        >>> print(ulp_distance(one, np.nextafter(one, np.float32(2), dtype=np.float32)))
        [1. 1.]
    """
    if a.dtype != b.dtype:
        raise TypeError(f"ulp_distance: the dtypes must agree, got {a.dtype} and {b.dtype}")
    if a.dtype.kind in "biu":
        return _difference(a, b)
    distance = _difference(_rank(a), _rank(b))
    a_nan, b_nan = np.isnan(a), np.isnan(b)
    return np.where(a_nan & b_nan, 0, np.where(a_nan | b_nan, np.inf, distance))


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the distances of integers as float64, rounded once: those of 64 bits are subtracted as integers."""
    larger, smaller = (choose(a, b).astype(np.uint64) for choose in (np.maximum, np.minimum))  # modulo 2^64
    return (larger - smaller).astype(np.float64)


def _rank(x: np.ndarray) -> np.ndarray:
    """Return the place of each float among all of its dtype, as an integer; both zeros stand at 0."""
    bits = x.view(f"int{8 * x.dtype.itemsize}").astype(np.int64)
    magnitude = bits & (2 ** (8 * x.dtype.itemsize - 1) - 1)
    return np.where(bits < 0, -magnitude, magnitude)

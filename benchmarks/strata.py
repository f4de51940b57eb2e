"""Inputs where something happens, out of too many to try all."""

from typing import Any

import numpy as np
from reference import Case

# Where kernels change from one formula to another, saturate or overflow, and where results become subnormal.
CORNERS: tuple[float, ...] = (
    0.0,
    0.35,
    0.5,
    0.55,
    1.0,
    1.1,
    3.0,
    6.0,
    8.0,
    9.0,
    13.2,
    14.4,
    17.0,
    20.0,
    44.0,
    64.0,
    87.3,
    88.0,
    88.7,
)
CORNERS += (104.0, 1e-19, 4e-13, 1e-7, 1e-4, 1e12, 6e12, 1.8e19, 5.7e37)
# Likewise in float64 alone.
CORNERS_64: tuple[float, ...] = (
    18.9,
    19.1,
    21.5,
    26.6,
    36.7,
    37.5,
    38.7,
    354.2,
    355.4,
    372.6,
    708.4,
    709.8,
    745.2,
    750.0,
    1418.0,
    1e103,
)
CORNERS_64 += (1e154, 4e-309, 2e-154, 3e-103)


def stratified(case: Case, dtype: Any, count: int) -> np.ndarray[Any, Any]:
    """Return numbers of all magnitudes, dense where the functions bend and their tails end, ascending.

    The neighbours of every corner, kink and zero of the derivative are among them, subnormal numbers, both zeros,
    counted as one, and both infinities.

    Args:
        case: The case.
        dtype: float32 or float64.
        count: How many numbers to take from each of some ten strata.
    """
    rng = np.random.default_rng(0)
    info = np.finfo(dtype)
    tiny = float(info.smallest_normal)
    exponents = np.repeat(np.arange(info.minexp - info.nmant, info.maxexp), -(-count // (info.maxexp - info.minexp)))
    zero = case.zero or 0.0
    corners = np.array([*CORNERS, *(CORNERS_64 if dtype == np.float64 else ()), zero]) * case.scale
    with np.errstate(over="ignore"):  # far out, x or its neighbour is infinite
        corners = np.concatenate([corners, case.kinks]).astype(dtype)
    neighbours = (corners.view(f"i{corners.itemsize}")[:, None] + np.arange(-4, 5)).view(dtype)
    # Where x, x^2, x^3 / 3 and 1 / x^2 become subnormal.
    edges = np.outer([tiny, tiny**0.5, np.cbrt(3 * tiny), tiny**-0.5 / 8], np.geomspace(1, 8, count // 16))
    bent = [rng.uniform(0, 16, count), rng.uniform(0, -1.05 * np.log(tiny), count)]
    bent += [rng.uniform(0, -2.1 * np.log(tiny), count // 4), edges.ravel()]
    magnitudes = [
        np.ldexp(rng.uniform(1, 2, exponents.size), exponents),
        np.abs(neighbours.ravel()),
        *(case.scale * x for x in bent),
    ]
    with np.errstate(over="ignore", invalid="ignore"):
        positive = np.concatenate(magnitudes).astype(dtype)
    around_zero = (zero + rng.uniform(-0.3, 0.3, count // 4)).astype(dtype)
    x = np.concatenate([positive, -positive, around_zero, np.array([np.inf, -np.inf], dtype)])
    return np.unique(x[~np.isnan(x)])

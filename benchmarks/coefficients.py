"""Derive the polynomials of the kernels, and the bound on the error of each.

``python benchmarks/coefficients.py`` fits every row of :data:`POLYNOMIALS` and prints the coefficients,
lowest power first, rounded to the dtype they are used at, with the largest weighted error that is left
after that rounding. Give names to fit some rows only. The constants in ``jaxact/_kernels`` name their row.
"""

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence

import mpmath as mp
import numpy as np
from mpmath import mpf

mp.mp.dps = 50

Function = Callable[[mpf], mpf]


@dataclasses.dataclass(frozen=True)
class Polynomial:
    """One polynomial to fit.

    Attributes:
        name: The constant in the code.
        function: What the polynomial approximates.
        interval: The interval that counts.
        degree: The polynomial's degree.
        weight: Turns an error of the polynomial into the error of the kernel, mostly a relative one.
        dtype: The type that the coefficients are rounded to.
        where: The module and the formula it serves, for the reader of the output.
        nudges: By how many units in the last place to move which coefficients after rounding: the sweep over all
            floats has found that the roundings of the kernel around the polynomial want it.
    """

    name: str
    function: Function
    interval: tuple[float, float]
    degree: int
    weight: Function
    where: str
    dtype: type = np.float32
    nudges: Mapping[int, int] = dataclasses.field(default_factory=dict)


def minimax(row: Polynomial, points: int = 800, rounds: int = 12) -> tuple[list[mpf], mpf]:
    """Fit a polynomial by Remez exchange: the largest weighted error is as small as it can be.

    The exchange runs on a fixed Chebyshev grid inside the interval, which never meets an end, where the
    function is often 0/0.

    Args:
        row: What to fit.
        points: Size of the grid.
        rounds: Exchanges at most; it stops earlier where the errors have levelled.

    Returns:
        The coefficients, lowest power first, and the largest weighted error.
    """
    low, high = map(mpf, row.interval)
    angles = [mp.pi * (2 * k + 1) / (2 * points) for k in reversed(range(points))]
    grid = [(low + high) / 2 + (high - low) / 2 * mp.cos(angle) for angle in angles]
    values = [row.function(x) for x in grid]
    weights = [row.weight(x) for x in grid]
    nodes = row.degree + 2
    chosen = [round((points - 1) * (1 - np.cos(np.pi * k / (nodes - 1))) / 2) for k in range(nodes)]
    for _ in range(rounds):
        # p(x_k) + (-1)^k E / w(x_k) = f(x_k) at the chosen points
        system = mp.matrix(nodes, nodes)
        for k, index in enumerate(chosen):
            for power in range(nodes - 1):
                system[k, power] = grid[index] ** power
            system[k, nodes - 1] = (-1) ** k / weights[index]
        *coefficients, level = mp.lu_solve(system, mp.matrix([values[index] for index in chosen]))
        errors = [w * (horner(coefficients, x) - f) for x, f, w in zip(grid, values, weights, strict=True)]
        chosen = _alternating_extremes(errors, nodes)
        if max(map(abs, errors)) < abs(level) * mpf("1.001"):
            break
    return coefficients, max(map(abs, errors))


def _alternating_extremes(errors: Sequence[mpf], count: int) -> list[int]:
    """Return the indices of the extremes of ``count`` adjacent sign runs, the largest ones."""
    extremes: list[int] = []
    for index, error in enumerate(errors):
        if extremes and (error > 0) == (errors[extremes[-1]] > 0):
            if abs(error) > abs(errors[extremes[-1]]):
                extremes[-1] = index
        else:
            extremes.append(index)
    if len(extremes) < count:
        raise ValueError(f"only {len(extremes)} alternating extremes of {count}: lower the degree")
    while len(extremes) > count:
        del extremes[0 if abs(errors[extremes[0]]) < abs(errors[extremes[-1]]) else -1]
    return extremes


def horner(coefficients: Sequence[mpf], x: mpf) -> mpf:
    """Evaluate a polynomial whose coefficients come lowest power first."""
    result = mpf(0)
    for coefficient in reversed(coefficients):
        result = result * x + coefficient
    return result


def weighted_error(row: Polynomial, coefficients: Sequence[mpf], points: int = 2000) -> mpf:
    """Return the largest weighted error of given coefficients on a grid inside the interval."""
    low, high = map(mpf, row.interval)
    grid = [low + (high - low) * (2 * k + 1) / (2 * points) for k in range(points)]
    return max(abs(row.weight(x) * (horner(coefficients, x) - row.function(x))) for x in grid)


def rounded(row: Polynomial) -> tuple[list[float], mpf]:
    """Fit a row, round its coefficients to its dtype, and nudge them.

    Args:
        row: What to fit.

    Returns:
        The coefficients that the code uses, and the largest weighted error with them.
    """
    coefficients = [float(row.dtype(float(c))) for c in minimax(row)[0]]
    for index, units in row.nudges.items():
        coefficients[index] += units * float(np.spacing(row.dtype(abs(coefficients[index]))))
    return coefficients, weighted_error(row, [mpf(c) for c in coefficients])


def _log1p_tail(w: mpf) -> mpf:
    s = mp.sqrt(w)
    return (2 * mp.atanh(s) - 2 * s) / (s * w)


def _tanh_tail(w: mpf) -> mpf:
    x = mp.sqrt(w)
    return (mp.tanh(x) - x) / (x * w)


def _mills(a: mpf) -> mpf:
    """Return exp(a^2 / 2) times the normal distribution's weight above a, which decays like 1 / a."""
    return mp.exp(a**2 / 2) * mp.erfc(a / mp.sqrt(2)) / 2


def _gelu_tail(t: mpf) -> mpf:
    q = (t + 1) / 4
    a = 3 * q / (1 - 2 * q)
    return (2 * a + 3) * _mills(a) - 1


def _gelu_slope(t: mpf) -> mpf:
    q = (t + 1) / 2
    a = 3 * q / (1 - q)
    return (_mills(a) - a / mp.sqrt(2 * mp.pi)) / (GELU_ZERO - a)


def _mish_derivative(x: mpf) -> mpf:
    e = mp.exp(x)
    n = e * (e + 2)
    return n / (n + 2) + x * 4 * e * (1 + e) / (n + 2) ** 2


def _gelu_tanh_derivative(x: mpf) -> mpf:
    c = mp.sqrt(8 / mp.pi)
    s = 1 / (1 + mp.exp(-c * (x + mpf("0.044715") * x**3)))
    return s * (1 + c * x * (1 + 3 * mpf("0.044715") * x**2) * (1 - s))


# The derivatives are 0 at -MISH_ZERO and -GELU_TANH_ZERO.
MISH_ZERO = -mp.findroot(_mish_derivative, -1.2)
GELU_TANH_ZERO = -mp.findroot(_gelu_tanh_derivative, -0.75)
# gelu'(-GELU_ZERO) = 0
GELU_ZERO = mp.findroot(lambda a: _mills(a) - a / mp.sqrt(2 * mp.pi), 0.75)

# The right side of a fit is a relative error of the kernel; half an ULP of float32 is between 3e-8 and 6e-8.
POLYNOMIALS = (
    Polynomial(
        name="EXPM1",
        where="exponentials: exp(r) - 1 = r + r^2 P(r) after the reduction by multiples of ln 2",
        function=lambda r: (mp.expm1(r) - r) / r**2,
        interval=(-0.3467, 0.3467),
        degree=4,
        weight=lambda r: r**2 / abs(mp.expm1(r)),
    ),
    Polynomial(
        name="LOG1P",
        where="logarithms: log(1 + t) = 2 s + s^3 P(s^2), s = t / (2 + t), t in [0, 1]",
        function=_log1p_tail,
        interval=(0, 1 / 9),
        degree=3,
        weight=lambda w: mp.sqrt(w) * w / (2 * mp.atanh(mp.sqrt(w))),
    ),
    Polynomial(
        name="TANH",
        where="tanh: tanh(x) = x + x^3 P(x^2), |x| <= 0.55",
        function=_tanh_tail,
        interval=(0, 0.55**2),
        degree=4,
        weight=lambda w: mp.sqrt(w) * w / mp.tanh(mp.sqrt(w)),
    ),
    Polynomial(
        name="TANH_64",
        where="tanh: tanh(x) = x + x^3 P(x^2), |x| <= 0.55",
        function=_tanh_tail,
        interval=(0, 0.55**2),
        degree=10,
        weight=lambda w: mp.sqrt(w) * w / mp.tanh(mp.sqrt(w)),
        dtype=np.float64,
    ),
    Polynomial(
        name="TANHSHRINK",
        where="tanhshrink: x - tanh(x) = (x^3 + x^3 P(x^2)) / 4, |x| <= 1",
        function=lambda w: -4 * _tanh_tail(w) - 1,
        interval=(0, 1),
        degree=7,
        weight=lambda w: -0.25 / _tanh_tail(w),
    ),
    Polynomial(
        name="TANHSHRINK_64",
        where="tanhshrink: x - tanh(x) = (x^3 + x^3 P(x^2)) / 4, |x| <= 1",
        function=lambda w: -4 * _tanh_tail(w) - 1,
        interval=(0, 1),
        degree=15,
        weight=lambda w: -0.25 / _tanh_tail(w),
        dtype=np.float64,
    ),
    Polynomial(
        name="GELU_TAIL",
        where="gelu: 1 + P(t) is (2 a + 3) exp(a^2 / 2) Phi(-a), t = 4 a / (2 a + 3) - 1, a in [0, 14.6]",
        function=_gelu_tail,
        interval=(-1, 58.4 / 32.2 - 1),
        degree=11,
        weight=lambda t: 1 / (1 + _gelu_tail(t)),
        nudges={2: 1},
    ),
    Polynomial(
        name="GELU_SLOPE",
        where="gelu: (z - a) P(t) is exp(a^2 / 2) gelu'(-a), t = 2 a / (a + 3) - 1, a in [0, 14.6], gelu'(-z) = 0",
        function=_gelu_slope,
        interval=(-1, 29.2 / 17.6 - 1),
        degree=9,
        weight=lambda t: 1 / _gelu_slope(t),
    ),
    Polynomial(
        name="GELU_TAIL_64",
        where="gelu: 1 + P(t) is (2 a + 3) exp(a^2 / 2) Phi(-a), t = 4 a / (2 a + 3) - 1, a in [0, 38.8]",
        function=_gelu_tail,
        interval=(-1, 155.2 / 80.6 - 1),
        degree=28,
        weight=lambda t: 1 / (1 + _gelu_tail(t)),
        dtype=np.float64,
    ),
    Polynomial(
        name="GELU_SLOPE_64",
        where="gelu: (z - a) P(t) is exp(a^2 / 2) gelu'(-a), t = 2 a / (a + 3) - 1, a in [0, 38.8], gelu'(-z) = 0",
        function=_gelu_slope,
        interval=(-1, 77.6 / 41.8 - 1),
        degree=20,
        weight=lambda t: 1 / _gelu_slope(t),
        dtype=np.float64,
    ),
    Polynomial(
        name="MISH_SLOPE",
        where="mish: u P(u) is mish'(-a), u = z - a, mish'(-z) = 0",
        function=lambda u: _mish_derivative(u - MISH_ZERO) / u,
        interval=(-0.5, 1.12),
        degree=11,
        weight=lambda u: u / _mish_derivative(u - MISH_ZERO),
    ),
    Polynomial(
        name="GELU_TANH_SLOPE",
        where="gelu: u P(u) is the derivative of gelu's tanh form at -a, u = z - a, which is 0 at -z",
        function=lambda u: _gelu_tanh_derivative(u - GELU_TANH_ZERO) / u,
        interval=(-0.45, 0.4),
        degree=8,
        weight=lambda u: u / _gelu_tanh_derivative(u - GELU_TANH_ZERO),
    ),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit the rows asked for and print them.

    Args:
        arguments: The command line, without the program's name; None takes the process's own.
    """
    parser = argparse.ArgumentParser(description="Derive the polynomials of jaxact's kernels.")
    parser.add_argument("names", nargs="*", help="rows to fit (default: all)")
    names = {name.upper() for name in parser.parse_args(arguments).names}
    if unknown := names - {row.name for row in POLYNOMIALS}:
        known = ", ".join(row.name for row in POLYNOMIALS)
        parser.error(f"no polynomial called {', '.join(sorted(unknown))}; there are {known}")
    for row in POLYNOMIALS:
        if not names or row.name in names:
            coefficients, error = rounded(row)
            print(f"# {row.name}, degree {row.degree}, {row.where}")
            print(f"# on {row.interval}: error {mp.nstr(error, 3)} = 2^{mp.nstr(mp.log(error, 2), 4)}")
            print(f"{row.name} = ({', '.join(map(repr_at(row.dtype), coefficients))})\n")


def repr_at(dtype: type) -> Callable[[float], str]:
    """Return the function that prints a number with the digits that ``dtype`` needs."""
    return lambda number: str(dtype(number))


if __name__ == "__main__":
    main()

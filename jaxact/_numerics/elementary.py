"""Elementary functions that the kernels share: accurate at the arguments they meet, and cheap.

XLA's float32 ``log1p`` and ``expm1`` are neither accurate nor cheap on a CPU. So float32 has its own here,
made of additions, products and polynomials; and an exponential in two parts, which saves a rounding where
something is added to it or multiplied with it, and which can be scaled before it leaves the normal numbers.
In float64 XLA's primitives keep every bound (at most 6 ULP on these arguments) and are used as they are.

A compiler may contract ``a * b + c`` into one fused instruction and may compute a value twice. Nothing here
depends on the rounding of a product that is not exact, so neither changes a result by more than it is
allowed to be wrong.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

# Coefficients, lowest power first: rows of the same name in benchmarks/coefficients.py, which derives them.
# EXPM1: exp(r) - 1 = r + r^2 P(r) on |r| <= 0.3467, relative error 2^-25.8
EXPM1 = (0.49999997, 0.16666543, 0.0416672, 0.008366538, 0.0013882524)
# LOG1P: log(1 + t) = 2 s + s^3 P(s^2) with s = t / (2 + t) on 0 <= t <= 1, relative error 2^-27.5
LOG1P = (0.6666642, 0.40021527, 0.28001803, 0.28011993)

LOG2_E = 1.442695
# ln 2 = LN2_HIGH + LN2_LOW to 2^-42: LN2_HIGH has 15 significant bits, so that its products with the
# integers up to 2^8 are exact.
LN2_HIGH = 0.693145751953125
LN2_LOW = 1.42860677e-6
# Added to a number below 2^22, this leaves the nearest integer in the low bits of the sum. The integer is
# read from those bits, since XLA folds (x + ROUNDER) - ROUNDER to x.
ROUNDER = 1.5 * 2.0**23


def widened(x: jax.Array) -> jax.Array:
    """Return float16 and bfloat16 as float32, and others as they are."""
    return x.astype(jnp.float32) if x.dtype.itemsize == 2 else x


def polynomial(coefficients: Sequence[float], x: jax.Array) -> jax.Array:
    """Evaluate a polynomial by Horner's rule.

    Args:
        coefficients: The coefficients, lowest power first.
        x: Where, float32 or float64.
    """
    *rest, highest = coefficients
    result = jnp.full_like(x, highest)
    for coefficient in reversed(rest):
        result = result * x + coefficient
    return result


def chain_rule(tangents: Sequence[Any], *partials: Callable[[], jax.Array]) -> jax.Array:
    """Return the sum of each tangent times its partial derivative.

    For the rules of functions of several arguments, made with ``defjvp(..., symbolic_zeros=True)``. An
    argument that is not differentiated is left out, which is cheaper, and it is right where its partial
    derivative is infinite: times a tangent of zeros, that would be NaN.

    Args:
        tangents: A tangent or a symbolic zero for each argument.
        partials: A function for each argument that computes its partial derivative.
    """
    moving = zip(tangents, partials, strict=True)
    first, *rest = [dx * partial() for dx, partial in moving if not isinstance(dx, SymbolicZero)]
    return sum(rest, start=first)


def two_sum(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return ``a + b`` rounded, and its rounding error: the two add up to the exact sum (Knuth, 1969).

    Infinite or overflowing sums give a NaN error.
    """
    total = a + b
    shadow = total - a
    return total, (a - (total - shadow)) + (b - shadow)


def split(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the upper half of the significant bits of ``x`` and the rest: products of halves are exact.

    The upper half comes from a bit mask, which no compiler contracts with anything. Its gradient is zero:
    only for functions that carry a derivative rule.
    """
    integer, mask = (np.int32, -(2**12)) if x.dtype == jnp.float32 else (np.int64, -(2**27))
    high = lax.bitcast_convert_type(lax.bitcast_convert_type(x, integer) & integer(mask), x.dtype)
    return high, x - high


def with_sign(size: jax.Array, x: jax.Array) -> jax.Array:
    """Return ``size``, which is not negative, with the sign bit of ``x``, that of -0 too: how functions are odd.

    Its gradient is zero: only for functions that carry a derivative rule.
    """
    integer, mask = (np.int32, -(2**31)) if x.dtype == jnp.float32 else (np.int64, -(2**63))
    sign = lax.bitcast_convert_type(x, integer) & integer(mask)
    return lax.bitcast_convert_type(lax.bitcast_convert_type(size, integer) | sign, x.dtype)


@jax.custom_jvp
def exp(x: jax.Array) -> jax.Array:
    """Return the exponential of x, in float32 within 1.1 ULP for x <= 88.3 (above: 100).

    Results below the smallest normal number are 0.
    """
    power, rest = exp_parts(x)
    return power * (1 + rest)


exp.defjvps(lambda dx, y, x: dx * y)


@jax.custom_jvp
def scaled_exp(scale: jax.Array | float, x: jax.Array) -> jax.Array:
    """Return scale * exp(x), also where exp(x) is too small for a normal number and the result is not.

    That holds for scales up to 2^8, and 0 is returned for scales below 2^-118.
    """
    power, rest = exp_parts(x, doublings=8)
    return scale * 2.0**-8 * (1 + rest) * power


scaled_exp.defjvps(lambda ds, y, scale, x: ds * exp(x), lambda dx, y, scale, x: dx * y)


@jax.custom_jvp
def expm1(x: jax.Array) -> jax.Array:
    """Return exp(x) - 1, in float32 within 1.1 ULP for x <= 88.3 (above: 100)."""
    if x.dtype != jnp.float32:
        return jnp.expm1(x)
    power, rest = exp_parts(x)
    return (power - 1) + power * rest


expm1.defjvps(lambda dx, y, x: dx * exp(x))


def one_plus_exp(x: jax.Array) -> jax.Array:
    """Return 1 + exp(x): monotone, and rounded once where exp(x) < 2^24.

    It has no gradient: for functions that carry a derivative rule.
    """
    power, rest = exp_parts(x)
    rest = power * rest
    return jnp.where(power < 2**24, (1 + power) + rest, power + (1 + rest))


def exp_parts(
    x: jax.Array, low: jax.Array | None = None, *, doublings: int = 0, bounded: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Return 2^n and exp(r) - 1, where n is the integer nearest to x / ln 2 and r = x - n ln 2.

    The exponential of x is 2^n + 2^n (exp(r) - 1), and with a constant c = 1 or -1 added it is
    (c + 2^n) + 2^n (exp(r) - 1): nothing cancels, and the sum in brackets is exact up to 2^23.

    On |r| <= 0.3467, exp(r) - 1 = r + r^2 P(r). The power of two is 0 below the normal numbers; above
    them n stays at 127, and r grows instead. In float64 the two are exp(x) and 0, or low.

    The parts have no gradient: they are for functions that carry a derivative rule.

    Args:
        x: float32 or float64.
        low: A small number to add to x: what rounding x has cost.
        doublings: How often to double the power of two, or if negative to halve it, before it leaves the
            normal numbers.
        bounded: Whether |x| <= 87 is known, and the ends need no care.
    """
    if x.dtype != jnp.float32:
        root = jnp.exp(0.5 * x)
        return 2.0**doublings * root * root, jnp.zeros_like(x) if low is None else low
    if not bounded:
        x = jnp.maximum(x, -88 - LN2_HIGH * doublings)
    ratio = x * LOG2_E
    if not bounded:
        ratio = jnp.minimum(ratio, 127 - doublings)
    bits = lax.bitcast_convert_type(ratio + ROUNDER, np.int32)
    integer = bits - np.float32(ROUNDER).view(np.int32)
    n = integer.astype(np.float32)
    r = x - n * LN2_HIGH
    r = r - n * LN2_LOW if low is None else r + (low - n * LN2_LOW)
    power = lax.bitcast_convert_type((integer + np.int32(127 + doublings)) << 23, np.float32)
    return power, r + r * r * polynomial(EXPM1, r)


@jax.custom_jvp
def log1p(t: jax.Array) -> jax.Array:
    """Return log(1 + t) for 0 <= t <= 1, in float32 within 1 ULP.

    With s = t / (2 + t), log(1 + t) = 2 artanh(s) = 2 s + s^3 P(s^2). As 2 s = t - s t, it is computed as
    t - s (t - s^2 P(s^2)): the correction is at most 0.45 of the result, and its errors count that much less.
    """
    if t.dtype != jnp.float32:
        return jnp.log1p(t)
    # The bound never acts. XLA on a CPU ends a kernel at a quotient that is used twice, but not at a minimum.
    s = jnp.minimum(t / (2 + t), 1)
    w = s * s
    return t - s * (t - w * polynomial(LOG1P, w))


log1p.defjvps(lambda dt, y, t: dt / (1 + t))

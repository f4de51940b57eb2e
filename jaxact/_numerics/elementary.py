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

# A real parameter: a number or a 0-d array of the dtype of the array.
Scalar = float | np.floating[Any] | np.integer[Any] | jax.Array

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
# The same to 2^-72, for float64.
LOG2_E_DOUBLE, LN2_LOW_DOUBLE = 1.4426950408889634, 1.4286068203094173e-06
# Added to a number below 2^22, this leaves the nearest integer in the low bits of the sum. The integer is
# read from those bits, since XLA folds (x + ROUNDER) - ROUNDER to x.
ROUNDER = 1.5 * 2.0**23


def widened(x: jax.Array) -> jax.Array:
    """Return float16 and bfloat16 as float32, and others as they are."""
    return x.astype(jnp.float32) if x.dtype.itemsize == 2 else x


def rounded(x: jax.Array) -> jax.Array:
    """Return ``x`` as a number of its dtype has it, however the program before comes to it.

    A compiler computes what several kernels need in each of them, and need not get the same numbers: it contracts a
    product with a sum that follows, so that the product is rounded in one kernel and not in the other, and it drops a
    conversion to a half and back. Where two results are subtracted and must cancel (a row and its maximum) that is
    the whole difference. Contraction and conversion end at bits, and XLA sees through bits that are only read: so a
    pattern is looked for that no computation gives, a signalling NaN, and replaced by another NaN.

    Its gradient is zero: only for functions that carry a derivative rule.
    """
    info = jnp.finfo(x.dtype)
    infinity = 2 ** (info.bits - 1) - 2**info.nmant
    integer = np.dtype(f"uint{info.bits}").type
    bits = lax.bitcast_convert_type(x, integer)
    bits = jnp.where(bits == integer(infinity + 1), integer(infinity + 2 ** (info.nmant - 1)), bits)
    return lax.bitcast_convert_type(bits, x.dtype)


def polynomial(coefficients: Sequence[float], x: jax.Array) -> jax.Array:
    """Evaluate a polynomial by Horner's rule.

    Args:
        coefficients: The coefficients, lowest power first.
        x: Where, floats or complex numbers.
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


def product_parts(x: jax.Array, factor: jax.Array, end: float = 2.0**11) -> tuple[jax.Array, jax.Array]:
    """Return x * factor rounded, and its rounding error: the two add up to the exact product (Dekker, 1971).

    An exponential turns what rounding costs its argument into a relative error, up to 44 ULP in float32: this is
    for arguments of exponentials. Where |x * factor| is not below ``end``, the error counts as 0.
    """
    product = rounded(x * factor)
    near = jnp.abs(product) < end
    (x_high, x_low), (high, low) = split(jnp.where(near, x, 0)), split(factor)
    error = ((x_high * high - jnp.where(near, product, 0)) + x_high * low + x_low * high) + x_low * low
    return product, error


def centring(scalar: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return a power of two that moves a scalar to the middle of its dtype's range by a product, and its inverse.

    Where the other factor is moved the other way, no part of either is lost below the normal numbers.
    """
    up = 2.0**64 if scalar.dtype == jnp.float32 else 2.0**500
    small = jnp.abs(scalar) < 1
    shift, inverse = jnp.where(small, up, 1 / up), jnp.where(small, 1 / up, up)
    return shift.astype(scalar.dtype), inverse.astype(scalar.dtype)


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
    """Return scale * exp(x) for x <= 88, also where exp(x) alone is too small for a normal number.

    The power of two is multiplied in two halves, each a normal number as long as the result may be one.
    """
    p, k = reduced_exp(jnp.maximum(x, -176 if x.dtype == jnp.float32 else -1418))
    half = jnp.floor(0.5 * k)
    part = scale * power_of_two(half)
    return (part + part * p) * power_of_two(k - half)


scaled_exp.defjvps(lambda ds, y, scale, x: ds * exp(x), lambda dx, y, scale, x: dx * y)


def exp_of_sum(x: jax.Array, low: jax.Array) -> jax.Array:
    """Return exp(x + low) for a small ``low``.

    It has no gradient: for functions that carry a derivative rule.
    """
    end, overflow = (-176, 100) if x.dtype == jnp.float32 else (-1418, 720)
    p, k = reduced_exp(jnp.clip(x, end, overflow), low)
    half = jnp.floor(0.5 * k)
    return (1 + p) * power_of_two(half) * power_of_two(k - half)


@jax.custom_jvp
def expm1(x: jax.Array) -> jax.Array:
    """Return exp(x) - 1, in float32 within 1.1 ULP for x <= 88.3 (above: 100)."""
    return expm1_parts(x)


expm1.defjvps(lambda dx, y, x: dx * exp(x))


def expm1_parts(x: jax.Array, low: jax.Array | None = None) -> jax.Array:
    """Return exp(x + low) - 1 for a small ``low``.

    It has no gradient: for functions that carry a derivative rule.
    """
    if x.dtype != jnp.float32:
        y = jnp.expm1(x)
        return y if low is None else y * (1 + low) + low
    power, rest = exp_parts(x, low)
    return (power - 1) + power * rest


def one_plus_exp(x: jax.Array, low: jax.Array | None = None) -> jax.Array:
    """Return 1 + exp(x + low) for a small ``low``: monotone, and rounded once where exp(x) < 2^24.

    It has no gradient: for functions that carry a derivative rule.
    """
    if x.dtype != jnp.float32:
        return 1 + jnp.exp(x) * (1 if low is None else 1 + low)
    return one_plus(*exp_parts(x, low))


def one_plus(power: jax.Array, rest: jax.Array) -> jax.Array:
    """Return 1 + power * (1 + rest), the parts of an exponential, as :func:`one_plus_exp` does."""
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
    reduced = r - n * LN2_LOW if low is None else r + (low - n * LN2_LOW)
    power = lax.bitcast_convert_type((integer + np.int32(127 + doublings)) << 23, np.float32)
    rest = reduced * reduced * polynomial(EXPM1, reduced)
    # r is exact here: where it is the argument that counts, it is not rounded before the last sum.
    return power, reduced + rest if low is None else r + ((low - n * LN2_LOW) + rest)


def reduced_exp(high: jax.Array, low: jax.Array | float = 0.0) -> tuple[jax.Array, jax.Array]:
    """Return p and the integer k with exp(high + low) = 2^k (1 + p), |p| <= 0.42.

    k is the integer nearest to the argument over ln 2, and p = exp(r) - 1 for the rest r, |r| <= 0.3467. The
    product k LN2_HIGH and its difference with ``high`` are exact.
    """
    k = lax.round((high + low) * LOG2_E_DOUBLE, lax.RoundingMethod.TO_NEAREST_EVEN)
    r = (high - k * LN2_HIGH) + (low - k * LN2_LOW_DOUBLE)
    if r.dtype != jnp.float32:
        return jnp.expm1(r), k
    return r + r * r * polynomial(EXPM1, r), k


def power_of_two(k: jax.Array) -> jax.Array:
    """Return 2^k for an integer k (of a float type) whose power is a normal number.

    In the sum with 1.5 * 2^(digits) the lowest bits are those of the integer k + bias, which the shift moves to
    where the exponent stands.
    """
    integer, digits, bias = (np.int32, 23, 127) if k.dtype == jnp.float32 else (np.int64, 52, 1023)
    bits = lax.bitcast_convert_type(k + (1.5 * 2.0**digits + bias), integer)
    return lax.bitcast_convert_type(lax.shift_left(bits, integer(digits)), k.dtype)


def times_power(value: jax.Array | float, k: jax.Array) -> jax.Array:
    """Return ``value`` * 2^k for -1086 <= k <= 0 (float32: -190), in two steps: 2^k may be below the normals."""
    return value * power_of_two(k + 64) * 2.0**-64


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

"""Exponentials that kernels share, and the two ways of taking one apart.

XLA's float32 ``exp``, ``expm1`` and ``log1p`` are neither accurate nor cheap on a CPU. So float32 has its own, made of
additions, products and polynomials. In float64 XLA's primitives keep every bound (at most 6 ULP on these arguments)
and are used as they are.

An exponential in parts saves a rounding where something is added to it or multiplied with it. Which parts to take:

* :func:`exp_parts`, a power of two and a rest, where the exponential itself is the result, or something is added to
  it. It is the cheaper one. Below the normal numbers the power is 0.
* :func:`reduced_exp`, an integer and a rest, where something else is multiplied before the power of two: where
  exp(x) alone would not be a normal number, and the product may be one.

``exp``, ``expm1`` and ``one_plus_exp`` are made of the first, ``scaled_exp`` and ``exp_of_sum`` of the second.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxact._kernels.floats import polynomial, power_of_two

LOG2_E = 1.4426950408889634
# ln 2 = LN2_HIGH + LN2_LOW to 2^-72, and with the two rounded to float32 to 2^-42. LN2_HIGH has 15 significant bits,
# so that its products with the integers up to 2^8 are exact.
LN2_HIGH, LN2_LOW = 0.693145751953125, 1.4286068203094173e-06
LN2 = LN2_HIGH + LN2_LOW

# Added to a number below 2^22, this leaves the nearest integer in the low bits of the sum. The integer is
# read from those bits, since XLA may simplify (x + ROUNDER) - ROUNDER to x: see compiler.kept_sum.
ROUNDER = 1.5 * 2.0**23

# exp(-FAR) is 0 in every dtype, and FAR * 0 is 0 where inf * 0 would be NaN.
FAR = 1e4

# EXPM1: exp(r) - 1 = r + r^2 P(r) on |r| <= 0.3467, relative error 2^-25.8
EXPM1 = (0.49999997, 0.16666543, 0.0416672, 0.008366538, 0.0013882524)


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
    k = lax.round((high + low) * LOG2_E, lax.RoundingMethod.TO_NEAREST_EVEN)
    r = (high - k * LN2_HIGH) + (low - k * LN2_LOW)
    if r.dtype != jnp.float32:
        return jnp.expm1(r), k
    return r + r * r * polynomial(EXPM1, r), k


@jax.custom_jvp
def exp(x: jax.Array) -> jax.Array:
    """Return the exponential of x, in float32 within 1.1 ULP for x <= 88.3 (above: 100).

    Results below the smallest normal number are 0.
    """
    power, rest = exp_parts(x)
    return power * (1 + rest)


exp.defjvps(lambda dx, y, x: dx * y)


@jax.custom_jvp
def expm1(x: jax.Array) -> jax.Array:
    """Return exp(x) - 1, in float32 within 1.1 ULP for x <= 88.3 (above: 100)."""
    return expm1_of_sum(x)


expm1.defjvps(lambda dx, y, x: dx * exp(x))


def expm1_of_sum(x: jax.Array, low: jax.Array | None = None) -> jax.Array:
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


@jax.custom_jvp
def scaled_exp(scale: jax.Array | float, x: jax.Array) -> jax.Array:
    """Return scale * exp(x) for x <= 88, also where exp(x) alone is too small for a normal number.

    The power of two is multiplied in two halves, each a normal number as long as the result may be one.
    """
    p, k = reduced_exp(jnp.maximum(x, vanishing(x)))
    half = jnp.floor(0.5 * k)
    part = scale * power_of_two(half)
    return (part + part * p) * power_of_two(k - half)


scaled_exp.defjvps(lambda ds, y, scale, x: ds * exp(x), lambda dx, y, scale, x: dx * y)


def exp_of_sum(x: jax.Array, low: jax.Array) -> jax.Array:
    """Return exp(x + low) for a small ``low``.

    It has no gradient: for functions that carry a derivative rule.
    """
    overflow = 100 if x.dtype == jnp.float32 else 720
    p, k = reduced_exp(jnp.clip(x, vanishing(x), overflow), low)
    half = jnp.floor(0.5 * k)
    return (1 + p) * power_of_two(half) * power_of_two(k - half)


def vanishing(x: jax.Array) -> float:
    """Return below which argument of the dtype of x an exponential is 0, whatever it is multiplied with.

    Half of its power of two is still a normal number, as :func:`power_of_two` wants it.
    """
    return -176 if x.dtype == jnp.float32 else -1418

"""Arithmetic on floats that kernels share: exact sums and products in parts, powers of two, signs, polynomials.

A compiler may contract ``a * b + c`` into one fused instruction and may compute a value twice. Nothing here
depends on the rounding of a product that is not exact, so neither changes a result by more than it is
allowed to be wrong.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxact._kernels.compiler import rounded


def widened(x: jax.Array) -> jax.Array:
    """Return float16 and bfloat16 as float32, and others as they are."""
    return x.astype(jnp.float32) if x.dtype.itemsize == 2 else x


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


def inverse_parts(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return 1 / a rounded, and what rounding has cost."""
    inverse = rounded(1 / a)
    product, error = product_parts(inverse, a)
    return inverse, ((1 - product) - error) * inverse


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

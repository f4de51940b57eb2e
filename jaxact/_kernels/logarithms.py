"""Logarithms of 1 + t that kernels share, t a number or an exponential, also in two parts."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxact._kernels.compiler import kept_quotient
from jaxact._kernels.exponentials import LN2, exp_parts, one_plus
from jaxact._kernels.floats import polynomial, two_sum

# LOG1P: log(1 + t) = 2 s + s^3 P(s^2) with s = t / (2 + t) on 0 <= t <= 1, relative error 2^-27.5
LOG1P = (0.6666642, 0.40021527, 0.28001803, 0.28011993)


@jax.custom_jvp
def log1p(t: jax.Array) -> jax.Array:
    """Return log(1 + t) for 0 <= t <= 1, in float32 within 1 ULP.

    With s = t / (2 + t), log(1 + t) = 2 artanh(s) = 2 s + s^3 P(s^2). As 2 s = t - s t, it is computed as
    t - s (t - s^2 P(s^2)): the correction is at most 0.45 of the result, and its errors count that much less.
    """
    if t.dtype != jnp.float32:
        return jnp.log1p(t)
    s = kept_quotient(t / (2 + t), at_most=1)
    w = s * s
    return t - s * (t - w * polynomial(LOG1P, w))


log1p.defjvps(lambda dt, y, t: dt / (1 + t))


def log_one_plus(power: jax.Array, rest: jax.Array) -> jax.Array:
    """Return log(1 + power * (1 + rest)), the parts of an exponential.

    In float32, with 1 + e = 2^k m and 1 <= m < 2, it is k ln 2 + log(1 + (m - 1)). For k = 0, where the result may be
    tiny, m - 1 is the exponential e itself. Every step is monotone, which max(z, 0) + log(1 + exp(-|z|)) is not for
    0 < z < 0.5: there an error of the logarithm outweighs a step of z.
    """
    if power.dtype != jnp.float32:
        return jnp.log1p(power * (1 + rest))
    bits = lax.bitcast_convert_type(one_plus(power, rest), np.int32)
    k = (bits >> 23) - np.int32(127)
    m = lax.bitcast_convert_type(bits - (k << 23), np.float32)
    return k.astype(np.float32) * LN2 + log1p(jnp.where(k > 0, m - 1, power * (1 + rest)))


def log_one_plus_parts(power: jax.Array, rest: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return what :func:`log_one_plus` does in two parts, a rounded sum and its error, for where a product follows.

    In float32, where k > 0 the rounding error of 1 + e is put back, as its quotient by m; where k = 0, e comes in two
    parts.
    """
    e = power * (1 + rest)
    if power.dtype != jnp.float32:
        y = jnp.log1p(e)
        return y, jnp.zeros_like(y)
    total, rest = one_plus(power, rest), power * rest
    error = jnp.where(power < 2**24, rest - (total - (1 + power)), 0)
    bits = lax.bitcast_convert_type(total, np.int32)
    k = (bits >> 23) - np.int32(127)
    m = lax.bitcast_convert_type(bits - (k << 23), np.float32)
    scale = lax.bitcast_convert_type((np.int32(127) - k) << 23, np.float32)
    above = k > 0
    t = jnp.where(above, m - 1, e)
    s = kept_quotient(t / (2 + t), at_most=1)
    w = s * s
    correction = s * (t - w * polynomial(LOG1P, w))
    high = jnp.where(above, k.astype(np.float32) * LN2, power)
    low = jnp.where(above, t + (error * scale * (1 - s) * (1 - s) - correction), rest - correction)
    return two_sum(high, low)


def log_one_plus_exp(z: jax.Array) -> jax.Array:
    """Return log(1 + exp(z)). It has no gradient: for functions that carry a derivative rule."""
    if z.dtype != jnp.float32:
        return jnp.where(z <= 40, jnp.log1p(jnp.exp(jnp.minimum(z, 40))), z)
    return jnp.where(z <= 30, log_one_plus(*exp_parts(z)), z)

"""mish, x tanh(softplus(x))."""

import jax
import jax.numpy as jnp

from jaxact._kernels.compiler import kept_product, kept_quotient
from jaxact._kernels.exponentials import exp, reduced_exp, scaled_exp
from jaxact._kernels.floats import polynomial, times_power
from jaxact._kernels.gates import EXP_END, size_up_to

# mish'(-z) = 0 for z = MISH_ZERO_HIGH + MISH_ZERO_LOW
MISH_ZERO_HIGH, MISH_ZERO_LOW = 1.1924312114715576, 3.043937594950088e-09

# MISH_SLOPE: mish'(-a) = u P(u) about its zero, u = z - a, in float32 on -0.5 <= u <= 1.12, relative error 2^-23.9
MISH_SLOPE = (
    0.26694793,
    0.20473127,
    0.0419078,
    -0.020272143,
    -0.015820561,
    -0.0033570724,
    0.0010858171,
    0.0009759772,
    0.00028699604,
    -3.4844263e-05,
    -0.000112376634,
    2.0599346e-05,
)


def _mish_second_derivative(x: jax.Array) -> jax.Array:
    """Return g' (2 + x (1 - s - 2 g s)) with the gate g = tanh(softplus(x)) and s = sigmoid(x)."""
    x = jnp.clip(x, -2000, 2000)
    t = exp(-jnp.abs(x))
    negative = x < 0
    d = jnp.where(negative, 2 + t * (2 + t), 1 + 2 * t * (1 + t))
    gate = jnp.where(negative, t * (2 + t), 1 + 2 * t) / d
    s = jnp.where(negative, t, 1) / (1 + t)
    factor = 4 * (1 + t) * jnp.where(negative, 1, t) / (d * d) * (2 + x * (1 - s - 2 * gate * s))
    return scaled_exp(factor, -jnp.abs(x))


@jax.custom_jvp
def mish_derivative(x: jax.Array) -> jax.Array:
    """Return the derivative of x e (e + 2) / d with e = exp(x) and d = e^2 + 2 e + 2.

    On the left it is e (4 (1 + x) + e (6 + 4 x + e (4 + e))) / d^2; on the right, with t = exp(-x) and
    d = 1 + 2 t + 2 t^2, it is 1 + 2 t^2 (2 x (1 + t) - d) / d^2. The rounding errors of d's two sums would
    count twice and are taken off again.
    """
    a = size_up_to(x, EXP_END)
    p, k = reduced_exp(-a)
    power = times_power(1.0, k)
    t = power + power * p
    negative = x < 0
    constant = jnp.where(negative, 2.0, 1.0)
    square = t * t * (3 - constant)
    rest = 2 * t + square
    d = constant + rest
    error = (rest - (d - constant)) + (square - (rest - 2 * t))
    left = 4 * (1 - a) + t * ((6 - 4 * a) + t * (4 + t))
    right = 2 * t * t * (2 * a * (1 + t) - d)
    value = kept_quotient(jnp.where(negative, left, right) / (d * d + 2 * d * error), at_least=-1e4)
    left = times_power(value + value * p, k)
    if x.dtype == jnp.float32:
        distance = (MISH_ZERO_HIGH - a) + MISH_ZERO_LOW
        near = distance * polynomial(MISH_SLOPE, distance)
        left = jnp.where(jnp.abs(distance - 0.3) < 0.8, near, left)
    return jnp.where(negative, left, 1 + value)


mish_derivative.defjvps(lambda dx, y, x: dx * _mish_second_derivative(x))


@jax.custom_jvp
def mish(x: jax.Array) -> jax.Array:
    """Return x tanh(log(1 + exp(x))) = x / (1 + 2 / (e (e + 2))), e = exp(x).

    In exp(|x|) = 2^k m, m = 1 + p and b = 2^-k, the denominator is on the left
    (1 + p + b / 2 + b^2 / (4 m + 2 b)) / b and on the right 1 + 2 b^2 / (m (m + 2 b)), where the product is
    (1 + 2 b) + p (2 + 2 b + p): sums with a largest term that is exact.
    """
    a = size_up_to(x, EXP_END)
    p, k = reduced_exp(a)
    b = kept_product(times_power(1.0, -k), at_least=0)
    negative = x < 0
    rest = b * b / jnp.where(negative, 4 * p + (4 + 2 * b), 0.5 * ((1 + 2 * b) + p * ((2 + 2 * b) + p)))
    rest += jnp.where(negative, p + 0.5 * b, 0)
    value = kept_quotient(jnp.where(negative, -a, x) / (1 + rest), at_least=-1e4)
    return jnp.where(negative, times_power(value, -k), value)


mish.defjvps(lambda dx, y, x: dx * mish_derivative(x))

"""Kernels of the sigmoidal family.

Derivatives come from what decays, exp(-|x|) or 1 - tanh |x|, and keep the digits of their tails.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxact._numerics.elementary import exp, exp_parts, one_plus_exp, polynomial, split, widened, with_sign

# Coefficients, lowest power first: rows of the same name in benchmarks/coefficients.py, which derives them.
# TANH: tanh(x) = x + x^3 P(x^2) on |x| <= 0.55, relative error 2^-27.8
TANH = (-0.33333316, 0.13332586, -0.053852312, 0.021071682, -0.0062742424)
# TANH_DOUBLE: the same for float64, relative error 2^-58.5
TANH_DOUBLE = (
    -0.333333333333333,
    0.13333333333326622,
    -0.053968253963760544,
    0.02186948838585413,
    -0.008863232601418506,
    0.003592092030256654,
    -0.0014555428449028102,
    0.0005884444838808903,
    -0.00023338156209796237,
    8.331644643676918e-05,
    -1.9494688930673296e-05,
)
# TANHSHRINK: x - tanh(x) = (x^3 + x^3 P(x^2)) / 4 on |x| <= 1, relative error 2^-25.3
TANHSHRINK = (
    0.3333333,
    -0.5333324,
    0.21585369,
    -0.08731834,
    0.034791805,
    -0.012827815,
    0.0036944374,
    -0.000571296,
)

# TANHSHRINK_DOUBLE: the same for float64, relative error 2^-53.8
TANHSHRINK_DOUBLE = (
    0.3333333333333333,
    -0.5333333333333237,
    0.21587301587218696,
    -0.08747795411655898,
    0.03545294161896416,
    -0.014368506723457967,
    0.005823298804410546,
    -0.0023599173270807228,
    0.0009558286421265539,
    -0.0003858520157364228,
    0.00015355979782501335,
    -5.842599850040597e-05,
    1.9952145818026824e-05,
    -5.517274290275475e-06,
    1.0533928449315904e-06,
    -1.0064162068076732e-07,
)

# TANHSHRINK_NUMERATOR: z cosh(z) - sinh(z) = z^3 P(z^2), to the terms below 2^-53 of the first on |z| < 1
TANHSHRINK_NUMERATOR = tuple(2 * k / math.factorial(2 * k + 1) for k in range(1, 10))


def sigmoid(x: jax.Array) -> jax.Array:
    """Return 1 / (1 + exp(-x))."""
    return _sigmoid(x) if jnp.isrealobj(x) else complex_sigmoid(x)


@jax.custom_jvp
def _sigmoid(x: jax.Array) -> jax.Array:
    """Return 1 / (1 + exp(-x)); each step is monotone."""
    return 1 / one_plus_exp(-x)


@jax.custom_jvp
def sigmoid_derivative(x: jax.Array) -> jax.Array:
    """Return sigmoid'(x) = t / (1 + t)^2 with t = exp(-|x|): never y (1 - y), which is 0 for x > 17.

    The square is 1 + t (2 + t), which rounds the sum 1 + t once and not twice.
    """
    t = exp(-jnp.abs(x))
    return t / (1 + t * (2 + t))


_sigmoid.defjvps(lambda dx, y, x: dx * sigmoid_derivative(x))
sigmoid_derivative.defjvps(lambda dx, y, x: dx * (-tanh(0.5 * x) * y))


@jax.custom_jvp
def _complex_tanh(z: jax.Array) -> jax.Array:
    """Return (1 - t) / (1 + t) with t = exp(-2 z), mirrored.

    On the imaginary axis its real part is 0, at infinity and NaN too (C99, G.6).
    """
    _, one_plus_t, one_minus_t = _decay(z + z)
    y = jnp.where(z.real < 0, -one_minus_t, one_minus_t) / one_plus_t
    return lax.complex(jnp.where(z.real == 0, z.real, y.real), y.imag)


@jax.custom_jvp
def complex_sigmoid(z: jax.Array) -> jax.Array:
    """Return 1 / (1 + exp(-z)), on the left t / (1 + t) with t = exp(z), which does not overflow."""
    t, one_plus_t, _ = _decay(z)
    return jnp.where(z.real < 0, t, 1) / one_plus_t


@jax.custom_jvp
def _complex_sigmoid_derivative(z: jax.Array) -> jax.Array:
    """Return t / (1 + t)^2, which exp(z) and exp(-z) both give as t."""
    t, one_plus_t, _ = _decay(z)
    return t / (one_plus_t * one_plus_t)


def _decay(z: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return t, 1 + t and 1 - t for t = exp(z), or exp(-z) on the right half of the plane.

    Infinitely far t is 0, at any angle. Where t is nearly -1 or 1, nothing cancels: with s = |t| and the angle a the
    real parts are (1 - s) + 2 s cos(a / 2)^2 and (1 - s) + 2 s sin(a / 2)^2.
    """
    away = -jnp.abs(z.real)
    size, rest = jnp.exp(away), -jnp.expm1(away)
    angle = jnp.where(jnp.isinf(z.real), 0, jnp.where(z.real < 0, z.imag, -z.imag))
    sine, cosine = jnp.sin(0.5 * angle), jnp.cos(0.5 * angle)
    imaginary = size * jnp.sin(angle)
    return (
        lax.complex(size * jnp.cos(angle), imaginary),
        lax.complex(rest + 2 * size * (cosine * cosine), imaginary),
        lax.complex(rest + 2 * size * (sine * sine), -imaginary),
    )


_complex_tanh.defjvps(lambda dz, y, z: dz * (4 * _complex_sigmoid_derivative(z + z)))
complex_sigmoid.defjvps(lambda dz, y, z: dz * _complex_sigmoid_derivative(z))
_complex_sigmoid_derivative.defjvps(lambda dz, y, z: dz * (-_complex_tanh(lax.complex(0.5 * z.real, 0.5 * z.imag)) * y))


def tanh(x: jax.Array) -> jax.Array:
    """Return the hyperbolic tangent."""
    return _tanh(x) if jnp.isrealobj(x) else _complex_tanh(x)


@jax.custom_jvp
def _tanh(x: jax.Array) -> jax.Array:
    """Return x + x^3 P(x^2) near 0 and elsewhere 1 - (1 - tanh |x|), mirrored.

    For float16 and bfloat16 it is XLA's in float32, whose errors are far below their rounding.
    """
    if x.dtype.itemsize == 2:
        return jnp.tanh(widened(x))
    size = jnp.abs(x)
    inner = jnp.minimum(size, 1)
    w = inner * inner
    coefficients = TANH if x.dtype == jnp.float32 else TANH_DOUBLE
    near = inner + inner * (w * polynomial(coefficients, w))
    far = 1 - _tanh_tail(size)
    return with_sign(jnp.where(size <= 0.55, near, far), x)


def _tanh_tail(size: jax.Array) -> jax.Array:
    """Return 1 - tanh(size) = 2 / (1 + exp(2 size)), to be added to numbers near 1; each step is monotone.

    Beyond size = 20, where it is 4e-18, it stays.
    """
    power, rest = exp_parts(2 * jnp.minimum(size, 20), bounded=True)
    return 2 / ((1 + power) + power * rest)


def tanh_derivative(x: jax.Array) -> jax.Array:
    """Return tanh'(x): never 1 - y^2, which is 0 for |x| > 9."""
    return 2.0**-4 * _raised_tanh_derivative(x)


@jax.custom_jvp
def _raised_tanh_derivative(x: jax.Array) -> jax.Array:
    """Return 16 tanh'(x) = q (1 - q / 64), q = 64 / (1 + exp(2 |x|)).

    Raised, it is a normal number as long as the second and third derivatives, its multiples, are. Beyond size = 45.8
    (356.4 in float64), where it no longer is, it stays.
    """
    size = jnp.minimum(jnp.abs(x), 45.8 if x.dtype == jnp.float32 else 356.4)
    power, rest = exp_parts(2 * size, doublings=-6, bounded=True)
    q = 1 / ((2.0**-6 + power) + power * rest)
    return q * (1 - 2.0**-6 * q)


_tanh.defjvps(lambda dx, y, x: widened(dx) * tanh_derivative(widened(x)))
_raised_tanh_derivative.defjvps(lambda dx, y, x: dx * (-2 * tanh(x) * y))


def softsign(x: jax.Array) -> jax.Array:
    """Return x / (1 + |x|)."""
    return _softsign(x) if jnp.isrealobj(x) else _complex_softsign(x)


@jax.custom_jvp
def _softsign(x: jax.Array) -> jax.Array:
    """Return x / (1 + |x|), with x moved to where the result is 1 before it is inf / inf."""
    bound = float(jnp.finfo(x.dtype).eps) ** -2
    x = jnp.clip(x, -bound, bound)
    return x / (1 + jnp.abs(x))


_softsign.defjvps(lambda dx, y, x: dx * softsign_derivative(x))


def softsign_derivative(x: jax.Array) -> jax.Array:
    """Return softsign'(x) = (1 / (1 + |x|))^2: squared last, so that nothing overflows."""
    r = 1 / (1 + jnp.abs(x))
    return r * r


@jax.custom_jvp
def _complex_softsign(z: jax.Array) -> jax.Array:
    """Return z / (1 + |z|): outwards its derivative is (1 / (1 + |z|))^2, and around 1 / (1 + |z|)."""
    return z / (1 + jnp.abs(z)).astype(z.dtype)


def _complex_softsign_tangent(dz: jax.Array, y: jax.Array, z: jax.Array) -> jax.Array:
    size = jnp.abs(z)
    outwards = jnp.where(size == 0, 1, z / size.astype(z.dtype))
    turned = jnp.conj(outwards) * dz
    r = 1 / (1 + size)
    return outwards * lax.complex(r * r * turned.real, r * turned.imag)


_complex_softsign.defjvps(_complex_softsign_tangent)


@jax.custom_jvp
def tanhshrink_derivative(x: jax.Array) -> jax.Array:
    """Return tanhshrink'(x) = tanh(x)^2."""
    y = _tanh(x)
    return y * y


tanhshrink_derivative.defjvps(lambda dx, y, x: dx * (_tanh(x) * (2.0**-3 * _raised_tanh_derivative(x))))


def tanhshrink(x: jax.Array) -> jax.Array:
    """Return x - tanh(x)."""
    return _tanhshrink(x) if jnp.isrealobj(x) else _complex_tanhshrink(x)


@jax.custom_jvp
def _tanhshrink(x: jax.Array) -> jax.Array:
    """Return (x^3 + x^3 P(x^2)) / 4 near 0 and elsewhere (|x| - 1) + (1 - tanh |x|), mirrored.

    The quarter is exact, what is left for the polynomial is small, and x^2 is added up from exact parts:
    two roundings count, not five. The cube is raised by 2^40, to keep its smaller part a normal number.
    """
    size = jnp.abs(x)
    inner = jnp.minimum(size, 1)
    high, low = split(inner)
    raised = 2.0**40 * inner
    cube = raised * (high * high) + raised * (low * (inner + high))
    coefficients = TANHSHRINK if x.dtype == jnp.float32 else TANHSHRINK_DOUBLE
    near = 2.0**-42 * (cube + cube * polynomial(coefficients, inner * inner))
    far = (size - 1) + _tanh_tail(size)
    y = jnp.where(size < 1, near, far)
    return jnp.where(x < 0, -y, y)


_tanhshrink.defjvps(lambda dx, y, x: dx * tanhshrink_derivative(x))


@jax.custom_jvp
def _complex_tanhshrink(z: jax.Array) -> jax.Array:
    """Return z - tanh(z), near 0 as (z cosh(z) - sinh(z)) / cosh(z), whose numerator is z^3 times a short series."""
    square = z * z
    near = z * (square * polynomial(TANHSHRINK_NUMERATOR, square)) / jnp.cosh(z)
    return jnp.where(jnp.abs(z) < 1, near, z - _complex_tanh(z))


def _complex_tanhshrink_tangent(dz: jax.Array, y: jax.Array, z: jax.Array) -> jax.Array:
    root = _complex_tanh(z)
    return dz * (root * root)


_complex_tanhshrink.defjvps(_complex_tanhshrink_tangent)

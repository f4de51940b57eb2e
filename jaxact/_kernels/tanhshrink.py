"""tanhshrink, x - tanh(x)."""

import math

import jax
import jax.numpy as jnp

from jaxact._kernels.complex_sigmoid import complex_tanh
from jaxact._kernels.floats import polynomial, split
from jaxact._kernels.tanh import raised_tanh_derivative, tanh, tanh_tail

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
# TANHSHRINK_64: the same for float64, relative error 2^-53.8
TANHSHRINK_64 = (
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


@jax.custom_jvp
def tanhshrink_derivative(x: jax.Array) -> jax.Array:
    """Return tanhshrink'(x) = tanh(x)^2."""
    y = tanh(x)
    return y * y


tanhshrink_derivative.defjvps(lambda dx, y, x: dx * (tanh(x) * (2.0**-3 * raised_tanh_derivative(x))))


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
    coefficients = TANHSHRINK if x.dtype == jnp.float32 else TANHSHRINK_64
    near = 2.0**-42 * (cube + cube * polynomial(coefficients, inner * inner))
    far = (size - 1) + tanh_tail(size)
    y = jnp.where(size < 1, near, far)
    return jnp.where(x < 0, -y, y)


_tanhshrink.defjvps(lambda dx, y, x: dx * tanhshrink_derivative(x))


@jax.custom_jvp
def _complex_tanhshrink(z: jax.Array) -> jax.Array:
    """Return z - tanh(z), near 0 as (z cosh(z) - sinh(z)) / cosh(z), whose numerator is z^3 times a short series."""
    square = z * z
    near = z * (square * polynomial(TANHSHRINK_NUMERATOR, square)) / jnp.cosh(z)
    return jnp.where(jnp.abs(z) < 1, near, z - complex_tanh(z))


def _complex_tanhshrink_tangent(dz: jax.Array, y: jax.Array, z: jax.Array) -> jax.Array:
    root = complex_tanh(z)
    return dz * (root * root)


_complex_tanhshrink.defjvps(_complex_tanhshrink_tangent)

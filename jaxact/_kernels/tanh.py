"""The hyperbolic tangent. Its derivative comes from 1 - tanh |x|, and keeps the digits of its tails."""

import jax
import jax.numpy as jnp

from jaxact._kernels.complex_sigmoid import complex_tanh
from jaxact._kernels.exponentials import exp_parts
from jaxact._kernels.floats import polynomial, widened, with_sign

# TANH: tanh(x) = x + x^3 P(x^2) on |x| <= 0.55, relative error 2^-27.8
TANH = (-0.33333316, 0.13332586, -0.053852312, 0.021071682, -0.0062742424)
# TANH_64: the same for float64, relative error 2^-58.5
TANH_64 = (
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


def tanh(x: jax.Array) -> jax.Array:
    """Return the hyperbolic tangent."""
    return _tanh(x) if jnp.isrealobj(x) else complex_tanh(x)


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
    coefficients = TANH if x.dtype == jnp.float32 else TANH_64
    near = inner + inner * (w * polynomial(coefficients, w))
    far = 1 - tanh_tail(size)
    return with_sign(jnp.where(size <= 0.55, near, far), x)


def tanh_tail(size: jax.Array) -> jax.Array:
    """Return 1 - tanh(size) = 2 / (1 + exp(2 size)), to be added to numbers near 1; each step is monotone.

    Beyond size = 20, where it is 4e-18, it stays.
    """
    power, rest = exp_parts(2 * jnp.minimum(size, 20), bounded=True)
    return 2 / ((1 + power) + power * rest)


def tanh_derivative(x: jax.Array) -> jax.Array:
    """Return tanh'(x): never 1 - y^2, which is 0 for |x| > 9."""
    return 2.0**-4 * raised_tanh_derivative(x)


@jax.custom_jvp
def raised_tanh_derivative(x: jax.Array) -> jax.Array:
    """Return 16 tanh'(x) = q (1 - q / 64), q = 64 / (1 + exp(2 |x|)).

    Raised, it is a normal number as long as the second and third derivatives, its multiples, are. Beyond size = 45.8
    (356.4 in float64), where it no longer is, it stays.
    """
    size = jnp.minimum(jnp.abs(x), 45.8 if x.dtype == jnp.float32 else 356.4)
    power, rest = exp_parts(2 * size, doublings=-6, bounded=True)
    q = 1 / ((2.0**-6 + power) + power * rest)
    return q * (1 - 2.0**-6 * q)


_tanh.defjvps(lambda dx, y, x: widened(dx) * tanh_derivative(widened(x)))
raised_tanh_derivative.defjvps(lambda dx, y, x: dx * (-2 * tanh(x) * y))

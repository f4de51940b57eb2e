"""Kernels of the sigmoidal family.

The exponential is always that of a number <= 0, which neither overflows nor cancels. Complex arrays take
the textbook formulas, which JAX differentiates itself.
"""

import jax
import jax.numpy as jnp

from jaxact._numerics.elementary import exp, exp_parts, one_plus_exp, polynomial, split

# Coefficients, lowest power first: rows of the same name in benchmarks/coefficients.py, which derives them.
# TANH: tanh(x) = x + x^3 P(x^2) on |x| <= 0.55, relative error 2^-27.8
TANH = (-0.33333316, 0.13332586, -0.053852312, 0.021071682, -0.0062742424)
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


def sigmoid(x: jax.Array) -> jax.Array:
    """Return 1 / (1 + exp(-x))."""
    return _sigmoid(x) if jnp.isrealobj(x) else 1 / (1 + jnp.exp(-x))


@jax.custom_jvp
def _sigmoid(x: jax.Array) -> jax.Array:
    """Return 1 / (1 + exp(-x)), without rounding the exponential on its own; each step is monotone."""
    return 1 / one_plus_exp(-x)


_sigmoid.defjvps(lambda dx, y, x: dx * sigmoid_derivative(x))


@jax.custom_jvp
def sigmoid_derivative(x: jax.Array) -> jax.Array:
    """Return sigmoid'(x) = t / (1 + t)^2 with t = exp(-|x|): never y (1 - y), which is 0 for x > 17.

    The square is 1 + t (2 + t), which rounds the sum 1 + t once and not twice.
    """
    t = exp(-jnp.abs(x))
    return t / (1 + t * (2 + t))


sigmoid_derivative.defjvps(lambda dx, y, x: dx * -tanh(x / 2) * y)


def tanh(x: jax.Array) -> jax.Array:
    """Return the hyperbolic tangent."""
    return _tanh(x) if jnp.isrealobj(x) else jnp.tanh(x)


@jax.custom_jvp
def _tanh(x: jax.Array) -> jax.Array:
    """Return x + x^3 P(x^2) near 0 and elsewhere 1 - 2 / (1 + exp(2 |x|)), mirrored."""
    if x.dtype != jnp.float32:
        return jnp.tanh(x)
    w = x * x
    near = x + x * (w * polynomial(TANH, w))
    far = 1 - _tanh_gap(jnp.abs(x))
    return jnp.where(jnp.abs(x) <= 0.55, near, jnp.where(x < 0, -far, far))


_tanh.defjvps(lambda dx, y, x: dx * tanh_derivative(x))


def _tanh_gap(size: jax.Array) -> jax.Array:
    """Return 1 - tanh(size) = 2 / (1 + exp(2 size)) for size >= 0; each step is monotone."""
    return 2 / one_plus_exp(2 * size)


@jax.custom_jvp
def tanh_derivative(x: jax.Array) -> jax.Array:
    """Return tanh'(x) = 4 t / (1 + t)^2 with t = exp(-2 |x|): never 1 - y^2, which is 0 for |x| > 9.

    The 4 is multiplied in before t is too small for a normal number.
    """
    power, rest = exp_parts(-2 * jnp.abs(x), doublings=2)
    numerator = power * (1 + rest)
    t = 0.25 * numerator
    return numerator / (1 + t * (2 + t))


tanh_derivative.defjvps(lambda dx, y, x: dx * -2 * tanh(x) * y)


def softsign(x: jax.Array) -> jax.Array:
    """Return x / (1 + |x|)."""
    return _softsign(x) if jnp.isrealobj(x) else x / (1 + jnp.abs(x))


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


def tanhshrink(x: jax.Array) -> jax.Array:
    """Return x - tanh(x)."""
    return _tanhshrink(x) if jnp.isrealobj(x) else x - jnp.tanh(x)


@jax.custom_jvp
def _tanhshrink(x: jax.Array) -> jax.Array:
    """Return (x^3 + x^3 P(x^2)) / 4 near 0 and elsewhere (|x| - 1) + (1 - tanh |x|), mirrored.

    The quarter is exact, what is left for the polynomial is small, and x^2 is added up from exact parts:
    two roundings count, not five. The cube is raised by 2^16, to keep its smaller part a normal number.
    """
    size = jnp.abs(x)
    high, low = split(x)
    raised = 2.0**16 * x
    cube = raised * (high * high) + raised * (low * (x + high))
    near = 2.0**-18 * (cube + cube * polynomial(TANHSHRINK, x * x))
    far = (size - 1) + _tanh_gap(size)
    return jnp.where(size < 1, near, jnp.where(x < 0, -far, far))


_tanhshrink.defjvps(lambda dx, y, x: dx * tanhshrink_derivative(x))


def tanhshrink_derivative(x: jax.Array) -> jax.Array:
    """Return tanhshrink'(x) = tanh(x)^2."""
    y = _tanh(x)
    return y * y

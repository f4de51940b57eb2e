"""Kernels of the sigmoidal family.

Values and derivatives come from the tail, sigmoid(-|x|) or 1 - tanh |x|, which keeps its digits. Complex
arrays take the textbook formulas, which JAX differentiates itself.
"""

import jax
import jax.numpy as jnp

from jaxact._numerics.elementary import one_plus_exp, polynomial, split, with_sign

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
    """Return the tail q = 1 / (1 + exp(|x|)) for x < 0, else 1 - q; each step is monotone."""
    q = 1 / one_plus_exp(jnp.abs(x))
    return jnp.where(x < 0, q, 1 - q)


_sigmoid.defjvps(lambda dx, y, x: dx * sigmoid_derivative(x))


@jax.custom_jvp
def sigmoid_derivative(x: jax.Array) -> jax.Array:
    """Return sigmoid'(x) = q (1 - q) with the tail q: never y (1 - y), which is 0 for x > 17."""
    q = 1 / one_plus_exp(jnp.abs(x))
    return q * (1 - q)


sigmoid_derivative.defjvps(lambda dx, y, x: dx * -tanh(0.5 * x) * y)


def tanh(x: jax.Array) -> jax.Array:
    """Return the hyperbolic tangent."""
    return _tanh(x) if jnp.isrealobj(x) else jnp.tanh(x)


@jax.custom_jvp
def _tanh(x: jax.Array) -> jax.Array:
    """Return x + x^3 P(x^2) near 0 and elsewhere 1 - (1 - tanh |x|), mirrored."""
    if x.dtype != jnp.float32:
        return jnp.tanh(x)
    size = jnp.abs(x)
    w = x * x
    near = size + size * (w * polynomial(TANH, w))
    far = 1 - 0.5 * _twice_tanh_tail(size)
    return with_sign(jnp.where(size <= 0.55, near, far), x)


_tanh.defjvps(lambda dx, y, x: dx * tanh_derivative(x))


def _twice_tanh_tail(size: jax.Array) -> jax.Array:
    """Return q = 2 (1 - tanh(size)) = 4 / (1 + exp(2 size)); each step is monotone.

    It is twice the tail, as the denominator is a quarter, so as to be normal as long as tanh' is.
    """
    return 1 / one_plus_exp(2 * size, doublings=-2)


@jax.custom_jvp
def tanh_derivative(x: jax.Array) -> jax.Array:
    """Return tanh'(x) = q (1 - q / 4), q twice the tail: never 1 - y^2, which is 0 for |x| > 9."""
    q = _twice_tanh_tail(jnp.abs(x))
    return q * (1 - 0.25 * q)


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
    high, low = split(size)
    raised = 2.0**16 * size
    cube = raised * (high * high) + raised * (low * (size + high))
    near = 2.0**-18 * (cube + cube * polynomial(TANHSHRINK, size * size))
    far = (size - 1) + 0.5 * _twice_tanh_tail(size)
    y = jnp.where(size < 1, near, far)
    return jnp.where(x < 0, -y, y)


_tanhshrink.defjvps(lambda dx, y, x: dx * tanhshrink_derivative(x))


def tanhshrink_derivative(x: jax.Array) -> jax.Array:
    """Return tanhshrink'(x) = tanh(x)^2."""
    y = _tanh(x)
    return y * y

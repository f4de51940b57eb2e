"""softplus, log(1 + exp(x)), and logsigmoid, its mirror image."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxact._kernels.exponentials import FAR, exp, one_plus_exp, reduced_exp, vanishing
from jaxact._kernels.floats import centring, inverse_parts, power_of_two, product_parts
from jaxact._kernels.logarithms import log1p, log_one_plus_exp, log_one_plus_parts
from jaxact._kernels.parameters import Scalar, chain_rule
from jaxact._kernels.sigmoid import sigmoid, sigmoid_derivative


def softplus(x: jax.Array, beta: Scalar, threshold: Scalar) -> jax.Array:
    """Return log(1 + exp(beta x)) / beta, or x if beta x > threshold; beta = 1, if known, costs nothing."""
    if isinstance(beta, float) and beta == 1:
        return _softplus(x, threshold)
    return _scaled_softplus(x, beta, threshold)


@jax.custom_jvp
def _softplus(x: jax.Array, threshold: Scalar) -> jax.Array:
    """Return log(1 + exp(x)), or x if x > threshold."""
    return jnp.where(x > threshold, x, log_one_plus_exp(x))


_softplus.defjvps(lambda dx, y, x, threshold: dx * jnp.where(x > threshold, 1, sigmoid(x)), None)


@jax.custom_jvp
def _scaled_softplus(x: jax.Array, beta: Scalar, threshold: Scalar) -> jax.Array:
    """Return log(1 + exp(z)) / beta with z = beta x, or x if z > threshold.

    Far to the left it is exp(z) / beta, which may be a normal number though exp(z) = 2^k (1 + p) is not: there 2^k is
    multiplied last, in two halves. The quotient is a product in parts with 1 / beta.
    """
    z, low = _product(x, beta)
    middle, right = (-18, 30) if x.dtype == jnp.float32 else (-38, 40)
    p, k = reduced_exp(jnp.clip(z, vanishing(z), right), low)
    left = z < middle
    value, error = log_one_plus_parts(power_of_two(jnp.maximum(k, -100)), p)
    value, error = jnp.where(left, 1 + p, value), jnp.where(left, 0, error)
    size = jnp.abs(beta)  # its inverse, and their parts, have to be normal numbers
    shift = jnp.where(size < 2.0**-64, 2.0**32, jnp.where(size < 2.0**64, 1, 2.0**-32)).astype(x.dtype)
    inverse, inverse_error = inverse_parts(beta * shift)
    value, error = value * shift, error * shift
    y, rest = product_parts(value, inverse, end=2.0**100)
    y = y + (rest + (error * inverse + value * inverse_error))
    k = jnp.where(left, k, 0)
    half = jnp.floor(0.5 * k)
    y = jnp.where(z == z, y * power_of_two(half) * power_of_two(k - half), z)  # NaN stays NaN
    return jnp.where((z > threshold) | (z > right), x, y)


def _scaled_softplus_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    x, beta, threshold = primals
    z = x * beta
    linear = z > threshold
    return _scaled_softplus(*primals), chain_rule(
        tangents,
        lambda: jnp.where(linear, 1, _sigmoid_of_product(x, beta)),
        lambda: jnp.where(linear, 0, -_entropy(z) / beta / beta),
        lambda: jnp.zeros_like(x),
    )


_scaled_softplus.defjvp(_scaled_softplus_jvp, symbolic_zeros=True)


@jax.custom_jvp
def _sigmoid_of_product(x: jax.Array, beta: Scalar) -> jax.Array:
    """Return sigmoid(beta x), also where rounding the product would cost digits."""
    z, low = _product(x, beta)
    return 1 / one_plus_exp(-z, -low)


_sigmoid_of_product.defjvps(
    lambda dx, y, x, beta: dx * beta * sigmoid_derivative(x * beta),
    lambda dbeta, y, x, beta: dbeta * jnp.clip(x * beta, -FAR, FAR) / beta * sigmoid_derivative(x * beta),
)


def _product(x: jax.Array, beta: Scalar) -> tuple[jax.Array, jax.Array]:
    """Return beta x rounded, and what rounding has cost."""
    beta = jnp.asarray(beta, x.dtype)
    shift, unshift = centring(beta)
    return product_parts(x * unshift, beta * shift)


@jax.custom_jvp
def _entropy(z: jax.Array) -> jax.Array:
    """Return softplus(z) - z sigmoid(z), as |z| sigmoid(-|z|) + log(1 + exp(-|z|)): nothing cancels.

    It is the entropy of a coin that falls heads with probability sigmoid(z).
    """
    size = jnp.minimum(jnp.abs(z), FAR)
    return size * sigmoid(-size) + log1p(exp(-size))


_entropy.defjvps(lambda dz, y, z: dz * -jnp.clip(z, -FAR, FAR) * sigmoid_derivative(z))


@jax.custom_jvp
def logsigmoid(x: jax.Array) -> jax.Array:
    """Return log(sigmoid(x)) = 0 - log(1 + exp(-x)); as in torch, what is too small is +0."""
    return 0 - log_one_plus_exp(-x)


logsigmoid.defjvps(lambda dx, y, x: dx * sigmoid(-x))

"""Kernels of the exponential family: softplus and logsigmoid, and the exponential linear units.

Scalar parameters are Python numbers or 0-d arrays of the dtype of ``x``; they may be differentiated too.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxact._numerics.elementary import (
    Scalar,
    centring,
    chain_rule,
    exp,
    exp_of_sum,
    exp_parts,
    expm1,
    expm1_parts,
    log1p,
    one_plus,
    one_plus_exp,
    power_of_two,
    product_parts,
    reduced_exp,
    rounded,
    scaled_exp,
)
from jaxact._numerics.sigmoidal import sigmoid, sigmoid_derivative

LN2 = 0.6931471805599453

# exp(-FAR) is 0 in every dtype, and FAR * 0 is 0 where inf * 0 would be NaN.
FAR = 1e4

# Klambauer et al., "Self-Normalizing Neural Networks", 2017, appendix A1; PyTorch has the same digits.
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


def _log_one_plus(power: jax.Array, rest: jax.Array) -> jax.Array:
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


def _log_one_plus_exp(z: jax.Array) -> jax.Array:
    """Return log(1 + exp(z)). It has no gradient: for functions that carry a derivative rule."""
    if z.dtype != jnp.float32:
        return jnp.where(z <= 40, jnp.log1p(jnp.exp(jnp.minimum(z, 40))), z)
    return jnp.where(z <= 30, _log_one_plus(*exp_parts(z)), z)


def softplus(x: jax.Array, beta: Scalar, threshold: Scalar) -> jax.Array:
    """Return log(1 + exp(beta x)) / beta, or x if beta x > threshold; beta = 1, if known, costs nothing."""
    if isinstance(beta, float) and beta == 1:
        return _softplus(x, threshold)
    return _scaled_softplus(x, beta, threshold)


@jax.custom_jvp
def _softplus(x: jax.Array, threshold: Scalar) -> jax.Array:
    """Return log(1 + exp(x)), or x if x > threshold."""
    return jnp.where(x > threshold, x, _log_one_plus_exp(x))


_softplus.defjvps(lambda dx, y, x, threshold: dx * jnp.where(x > threshold, 1, sigmoid(x)), None)


@jax.custom_jvp
def _scaled_softplus(x: jax.Array, beta: Scalar, threshold: Scalar) -> jax.Array:
    """Return log(1 + exp(z)) / beta with z = beta x, or x if z > threshold.

    Far to the left it is exp(z) / beta, which may be a normal number though exp(z) = 2^k (1 + p) is none: there 2^k is
    raised, and lowered after the division.
    """
    z, low = _product(x, beta)
    far, end, right, raised = (-87, -173.2, 30, 124) if x.dtype == jnp.float32 else (-708, -1410, 40, 1020)
    p, k = reduced_exp(jnp.clip(z, end, right), low)
    left = z < far
    power = power_of_two(jnp.where(left, k + raised, k))
    value = jnp.where(left, power + power * p, _log_one_plus(power, p))
    y = jnp.where(z == z, value, z) / beta * jnp.where(left, 2.0**-raised, 1)  # the logarithm of NaN is none
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
    return 0 - _log_one_plus_exp(-x)


logsigmoid.defjvps(lambda dx, y, x: dx * sigmoid(-x))


@jax.custom_jvp
def elu(x: jax.Array, alpha: Scalar) -> jax.Array:
    """Return x for x >= 0 (a zero with its sign, as in torch), else alpha (exp(x) - 1)."""
    return jnp.where(x >= 0, x, alpha * expm1(jnp.minimum(x, 0)))


def _elu_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    x, alpha = primals
    left = jnp.minimum(x, 0)
    return elu(*primals), chain_rule(
        tangents,
        lambda: jnp.where(x > 0, 1, scaled_exp(alpha, left)),
        lambda: jnp.where(x > 0, 0, expm1(left)),
    )


elu.defjvp(_elu_jvp, symbolic_zeros=True)


@jax.custom_jvp
def selu(x: jax.Array) -> jax.Array:
    """Return SELU_SCALE times elu(x, SELU_ALPHA), with one multiplication on either side."""
    return jnp.where(x >= 0, SELU_SCALE * x, SELU_SCALE * SELU_ALPHA * expm1(jnp.minimum(x, 0)))


def _selu_derivative(x: jax.Array) -> jax.Array:
    return jnp.where(x > 0, SELU_SCALE, scaled_exp(SELU_SCALE * SELU_ALPHA, jnp.minimum(x, 0)))


selu.defjvps(lambda dx, y, x: dx * _selu_derivative(x))


def _inverse_parts(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return 1 / a rounded, and what rounding has cost."""
    inverse = rounded(1 / a)
    product, error = product_parts(inverse, a)
    return inverse, ((1 - product) - error) * inverse


def _left_quotient(x: jax.Array, alpha: Scalar) -> tuple[jax.Array, jax.Array]:
    """Return min(x, 0) / alpha rounded, and what rounding has cost: 0 and 0 for an infinite alpha.

    Beyond 2000, where the exponential is 0, the quotient stays.
    """
    alpha = jnp.asarray(alpha, x.dtype)
    left = jnp.clip(x, -jnp.minimum(2000 * jnp.abs(alpha), float(jnp.finfo(x.dtype).max)), 0)
    shift, _ = centring(alpha)
    infinite = jnp.isinf(alpha)
    inverse, error = (jnp.where(infinite, 0, part) for part in _inverse_parts(jnp.where(infinite, 1, alpha * shift)))
    z, low = product_parts(left * shift, inverse)
    return z, low + left * shift * error


def celu(x: jax.Array, alpha: Scalar) -> jax.Array:
    """Return x for x > 0, else alpha (exp(x / alpha) - 1); alpha = 1, if known, costs nothing."""
    if isinstance(alpha, float) and alpha == 1:
        return elu(x, alpha)
    return _scaled_elu(x, alpha)


@jax.custom_jvp
def _scaled_elu(x: jax.Array, alpha: Scalar) -> jax.Array:
    """Return x for x > 0, else alpha (exp(x / alpha) - 1), which is x too where x / alpha is tiny."""
    z, low = _left_quotient(x, alpha)
    tiny = float(jnp.finfo(x.dtype).eps) / 8
    return jnp.where(jnp.abs(z) < tiny, x, alpha * expm1_parts(z, low))


def _scaled_elu_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    x, alpha = primals
    return _scaled_elu(*primals), chain_rule(
        tangents,
        lambda: jnp.where(x > 0, 1, _exp_of_quotient(x, alpha)),
        lambda: jnp.where(x > 0, 0, _celu_alpha_derivative(jnp.minimum(x, 0) / alpha)),
    )


_scaled_elu.defjvp(_scaled_elu_jvp, symbolic_zeros=True)


@jax.custom_jvp
def _exp_of_quotient(x: jax.Array, alpha: Scalar) -> jax.Array:
    """Return exp(min(x, 0) / alpha), also where rounding the quotient would cost digits."""
    return exp_of_sum(*_left_quotient(x, alpha))


_exp_of_quotient.defjvps(
    lambda dx, y, x, alpha: jnp.where(x > 0, 0, dx / alpha * y),
    lambda dalpha, y, x, alpha: -dalpha / alpha * (jnp.maximum(jnp.minimum(x, 0) / alpha, -FAR) * y),
)


@jax.custom_jvp
def _celu_alpha_derivative(z: jax.Array) -> jax.Array:
    """Return (exp(z) - 1) - z exp(z), arranged so that an overflow gives -inf and not inf - inf."""
    z = jnp.maximum(z, -FAR)
    return expm1(z) * (1 - z) - z


_celu_alpha_derivative.defjvps(lambda dz, y, z: dz * -jnp.maximum(z, -FAR) * exp(z))

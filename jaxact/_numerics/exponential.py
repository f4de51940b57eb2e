"""Kernels of the exponential family: softplus and logsigmoid, and the exponential linear units.

Scalar parameters are Python numbers or 0-d arrays of the dtype of ``x``; they may be differentiated too.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxact._numerics.elementary import chain_rule, exp, expm1, log1p, one_plus_exp, scaled_exp
from jaxact._numerics.sigmoidal import sigmoid, sigmoid_derivative

Scalar = jax.Array | float

LN2 = 0.6931471805599453

# exp(-FAR) is 0 in every dtype, and FAR * 0 is 0 where inf * 0 would be NaN.
FAR = 1e4

# Klambauer et al., "Self-Normalizing Neural Networks", 2017, appendix A1; PyTorch has the same digits.
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


def _log_one_plus_exp(z: jax.Array) -> jax.Array:
    """Return log(1 + exp(z)). It has no gradient: for functions that carry a derivative rule.

    In float32, with 1 + exp(z) = 2^k m and 1 <= m < 2, it is k ln 2 + log(1 + (m - 1)). For k = 0, where
    the result may be tiny, m - 1 is exp(z) itself. Every step is monotone, which max(z, 0) + log(1 +
    exp(-|z|)) is not for 0 < z < 0.5: there an error of the logarithm outweighs a step of z.
    """
    if z.dtype != jnp.float32:
        return jnp.maximum(z, 0) + log1p(exp(-jnp.abs(z)))
    total = one_plus_exp(z)
    bits = lax.bitcast_convert_type(total, np.int32)
    k = (bits >> 23) - np.int32(127)
    m = lax.bitcast_convert_type(bits - (k << 23), np.float32)
    logarithm = k.astype(np.float32) * LN2 + log1p(jnp.where(k > 0, m - 1, exp(z)))
    return jnp.where(z <= 30, logarithm, z)


@jax.custom_jvp
def softplus(x: jax.Array, beta: Scalar, threshold: Scalar) -> jax.Array:
    """Return log(1 + exp(z)) / beta with z = beta x, or x if z > threshold."""
    z = x * beta
    return jnp.where(z > threshold, x, _log_one_plus_exp(z) / beta)


def _softplus_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    x, beta, threshold = primals
    z = x * beta
    linear = z > threshold
    return softplus(*primals), chain_rule(
        tangents,
        lambda: jnp.where(linear, 1, sigmoid(z)),
        lambda: jnp.where(linear, 0, -_entropy(z) / (beta * beta)),
        lambda: jnp.zeros_like(x),
    )


softplus.defjvp(_softplus_jvp, symbolic_zeros=True)


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
        lambda: jnp.where(x <= 0, scaled_exp(alpha, left), 1),
        lambda: jnp.where(x > 0, 0, expm1(left)),
    )


elu.defjvp(_elu_jvp, symbolic_zeros=True)


@jax.custom_jvp
def selu(x: jax.Array) -> jax.Array:
    """Return SELU_SCALE times elu(x, SELU_ALPHA), with one multiplication on either side."""
    return jnp.where(x >= 0, SELU_SCALE * x, SELU_SCALE * SELU_ALPHA * expm1(jnp.minimum(x, 0)))


def _selu_derivative(x: jax.Array) -> jax.Array:
    return jnp.where(x <= 0, scaled_exp(SELU_SCALE * SELU_ALPHA, jnp.minimum(x, 0)), SELU_SCALE)


selu.defjvps(lambda dx, y, x: dx * _selu_derivative(x))


@jax.custom_jvp
def celu(x: jax.Array, alpha: Scalar) -> jax.Array:
    """Return x for x > 0, else alpha (exp(x / alpha) - 1); that is x too where x / alpha may be subnormal."""
    tiny = 2.0**26 * float(jnp.finfo(x.dtype).tiny)
    return jnp.where(x > -tiny, x, alpha * expm1(jnp.minimum(x, 0) / alpha))


def _celu_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    x, alpha = primals
    z = jnp.minimum(x, 0) / alpha
    return celu(*primals), chain_rule(
        tangents,
        lambda: jnp.where(x <= 0, exp(z), 1),
        lambda: jnp.where(x > 0, 0, _celu_alpha_derivative(z)),
    )


celu.defjvp(_celu_jvp, symbolic_zeros=True)


@jax.custom_jvp
def _celu_alpha_derivative(z: jax.Array) -> jax.Array:
    """Return (exp(z) - 1) - z exp(z), arranged so that an overflow gives -inf and not inf - inf."""
    z = jnp.maximum(z, -FAR)
    return expm1(z) * (1 - z) - z


_celu_alpha_derivative.defjvps(lambda dz, y, z: dz * -jnp.maximum(z, -FAR) * exp(z))

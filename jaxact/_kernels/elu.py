"""The exponential linear units: elu, selu and celu."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxact._kernels.exponentials import FAR, exp, exp_of_sum, expm1, expm1_of_sum, scaled_exp
from jaxact._kernels.floats import centring, inverse_parts, product_parts
from jaxact._kernels.parameters import Scalar, chain_rule

# Klambauer et al., "Self-Normalizing Neural Networks", 2017, appendix A1; PyTorch has the same digits.
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


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


def _left_quotient(x: jax.Array, alpha: Scalar) -> tuple[jax.Array, jax.Array]:
    """Return min(x, 0) / alpha rounded, and what rounding has cost: 0 and 0 for an infinite alpha.

    Beyond 2000, where the exponential is 0, the quotient stays.
    """
    alpha = jnp.asarray(alpha, x.dtype)
    left = jnp.clip(x, -jnp.minimum(2000 * jnp.abs(alpha), float(jnp.finfo(x.dtype).max)), 0)
    shift, _ = centring(alpha)
    infinite = jnp.isinf(alpha)
    inverse, error = (jnp.where(infinite, 0, part) for part in inverse_parts(jnp.where(infinite, 1, alpha * shift)))
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
    return jnp.where(jnp.abs(z) < tiny, x, alpha * expm1_of_sum(z, low))


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

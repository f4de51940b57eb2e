"""softsign, x / (1 + |x|)."""

import jax
import jax.numpy as jnp
from jax import lax


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

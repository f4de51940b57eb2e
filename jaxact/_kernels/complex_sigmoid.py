"""The logistic sigmoid and tanh of complex numbers, which share the decaying exponential."""

import jax
import jax.numpy as jnp
from jax import lax


@jax.custom_jvp
def complex_tanh(z: jax.Array) -> jax.Array:
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


complex_tanh.defjvps(lambda dz, y, z: dz * (4 * _complex_sigmoid_derivative(z + z)))
complex_sigmoid.defjvps(lambda dz, y, z: dz * _complex_sigmoid_derivative(z))
_complex_sigmoid_derivative.defjvps(lambda dz, y, z: dz * (-complex_tanh(lax.complex(0.5 * z.real, 0.5 * z.imag)) * y))

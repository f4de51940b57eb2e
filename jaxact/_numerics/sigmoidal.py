"""Kernels of the sigmoidal family."""

import jax
import jax.numpy as jnp


@jax.custom_jvp
def sigmoid(x: jax.Array) -> jax.Array:
    """Return 1 / (1 + exp(-x)), computed from exp(-|x|), which neither overflows nor cancels."""
    t, r = _logistic_parts(x)
    return jnp.where(x >= 0, r, t * r)


sigmoid.defjvps(lambda dx, y, x: dx * sigmoid_derivative(x))


def sigmoid_derivative(x: jax.Array) -> jax.Array:
    """Return sigmoid'(x) = t / (1 + t)^2 with t = exp(-|x|): never y (1 - y), which is 0 for x > 17."""
    t, r = _logistic_parts(x)
    return t * r * r


def _logistic_parts(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    t = jnp.exp(-jnp.abs(x))
    return t, 1 / (1 + t)

"""The logistic sigmoid. Its derivative comes from exp(-|x|), and keeps the digits of its tails."""

import jax
import jax.numpy as jnp

from jaxact._kernels.complex_sigmoid import complex_sigmoid
from jaxact._kernels.exponentials import exp, one_plus_exp
from jaxact._kernels.tanh import tanh


def sigmoid(x: jax.Array) -> jax.Array:
    """Return 1 / (1 + exp(-x))."""
    return _sigmoid(x) if jnp.isrealobj(x) else complex_sigmoid(x)


@jax.custom_jvp
def _sigmoid(x: jax.Array) -> jax.Array:
    """Return 1 / (1 + exp(-x)); each step is monotone."""
    return 1 / one_plus_exp(-x)


@jax.custom_jvp
def sigmoid_derivative(x: jax.Array) -> jax.Array:
    """Return sigmoid'(x) = t / (1 + t)^2 with t = exp(-|x|): never y (1 - y), which is 0 for x > 17.

    The square is 1 + t (2 + t), which rounds the sum 1 + t once and not twice.
    """
    t = exp(-jnp.abs(x))
    return t / (1 + t * (2 + t))


_sigmoid.defjvps(lambda dx, y, x: dx * sigmoid_derivative(x))
sigmoid_derivative.defjvps(lambda dx, y, x: dx * (-tanh(0.5 * x) * y))

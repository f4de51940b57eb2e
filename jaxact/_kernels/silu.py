"""silu, x sigmoid(x)."""

import jax
import jax.numpy as jnp

from jaxact._kernels.complex_sigmoid import complex_sigmoid
from jaxact._kernels.exponentials import reduced_exp
from jaxact._kernels.gates import (
    EXP_END,
    left_gate_derivative,
    left_sigmoid,
    reflected,
    reflected_derivative,
    size_up_to,
)
from jaxact._kernels.glu import times_sigmoid_derivative
from jaxact._kernels.tanh import tanh


def _silu_second_derivative(x: jax.Array) -> jax.Array:
    """Return sigmoid'(x) (2 - x tanh(x / 2))."""
    x = jnp.clip(x, -2000, 2000)
    return times_sigmoid_derivative(2 - x * tanh(0.5 * x), x)


@jax.custom_jvp
def silu_derivative(x: jax.Array) -> jax.Array:
    """Return s (1 + x (1 - s)) with s = sigmoid(x)."""
    a = size_up_to(x, EXP_END)
    return reflected_derivative(x, left_gate_derivative(-a, 1 - a, *reduced_exp(a)))


silu_derivative.defjvps(lambda dx, y, x: dx * _silu_second_derivative(x))


@jax.custom_jvp
def _silu(x: jax.Array) -> jax.Array:
    a = size_up_to(x, EXP_END)
    return reflected(x, left_sigmoid(-a, *reduced_exp(a)))


_silu.defjvps(lambda dx, y, x: dx * silu_derivative(x))


def silu(x: jax.Array) -> jax.Array:
    """Return x / (1 + exp(-x))."""
    if jnp.isrealobj(x):
        return _silu(x)
    return jnp.where(x.real == -jnp.inf, -0.0, x) * complex_sigmoid(x)

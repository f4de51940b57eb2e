"""glu, a sigmoid(b), and a sigmoid'(b), which the derivatives of other gates are made of."""

import jax
import jax.numpy as jnp

from jaxact._kernels.exponentials import reduced_exp
from jaxact._kernels.floats import power_of_two, times_power
from jaxact._kernels.gates import left_denominator
from jaxact._kernels.tanh import tanh


def _ends(b: jax.Array) -> tuple[float, float]:
    """Return where exp(b) leaves the normal numbers, and where a exp(-b) does even for the largest a."""
    return (87.0, 180.0) if b.dtype == jnp.float32 else (708.0, 1460.0)


def _shrunk(value: jax.Array, n: jax.Array) -> jax.Array:
    """Return ``value`` * 2^-n for any size of ``value``: in three steps, none of which is below the normals."""
    largest = -jnp.finfo(value.dtype).minexp
    for _ in range(3):
        step = jnp.minimum(n, largest)
        value, n = value * power_of_two(-step), n - step
    return value


@jax.custom_jvp
def times_sigmoid_derivative(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return a sigmoid'(b) = a m / (2^-k + m)^2 * 2^-k, where exp(|b|) = 2^k m, m = 1 + p."""
    _, high = _ends(b)
    p, k = reduced_exp(jnp.minimum(jnp.abs(b), high))
    denominator, error = left_denominator(p, jnp.minimum(k, 100))  # 2^-100 is nothing beside 1 + p
    gate = (1 + p) / (denominator * denominator + 2 * denominator * error)
    return jnp.where(jnp.isinf(b), a * 0, _shrunk(0.5 * a * gate, k - 1))  # a * gate may overflow


times_sigmoid_derivative.defjvps(
    lambda da, y, a, b: da * times_sigmoid_derivative(jnp.ones_like(b), b),
    lambda db, y, a, b: -db * tanh(0.5 * b) * times_sigmoid_derivative(a, b),
)


@jax.custom_jvp
def glu(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return a sigmoid(b), right also where sigmoid(b) alone is below the normal numbers.

    With exp(-b) = 2^k (1 + p), n = max(k, 0) and m = min(k, 0), it is a / (1 + 2^m (2^-n + p)) * 2^-n.
    """
    low, high = _ends(b)
    p, k = reduced_exp(jnp.clip(-b, -low, high))
    n = jnp.maximum(k, 0)
    power = power_of_two(k - n)
    denominator = 1 + power * (times_power(1.0, jnp.maximum(-n, -100)) + p)  # 2^-100 is nothing beside 1 + p
    half = (jnp.abs(a) > 1).astype(a.dtype)  # the quotient of a large a may overflow before it is shrunk
    # The gate of -inf is exactly 0, so that an infinite a times it is NaN.
    return jnp.where(b == -jnp.inf, a * 0, _shrunk(a * (1 - 0.5 * half) / denominator, n - half))


glu.defjvps(
    lambda da, y, a, b: da * glu(jnp.ones_like(b), b),
    lambda db, y, a, b: db * times_sigmoid_derivative(a, b),
)

"""hardswish, x (x + 3) / 6 between -3 and 3."""

import jax
import jax.numpy as jnp

from jaxact._kernels.floats import split, two_sum


@jax.custom_jvp
def hardswish_derivative(x: jax.Array) -> jax.Array:
    """Return (2 x + 3) / 6 between -3 and 3, whose sum is exact near its zero; 0 below, 1 above."""
    return jnp.where(x <= -3, 0, jnp.where(x >= 3, 1, (2 * x + 3) / 6))


hardswish_derivative.defjvps(lambda dx, y, x: jnp.where((x > -3) & (x < 3), dx / 3, 0))


@jax.custom_jvp
def hardswish(x: jax.Array) -> jax.Array:
    """Return x (x + 3) / 6 between -3 and 3, where the product cannot overflow; -0.0 below and x above.

    The sum and the product come in two parts each, so that the result has two roundings and not four. For tiny
    x, whose parts would be subnormal, it is x / 2.
    """
    inside = (x > -3) & (x < 3)
    middle = jnp.where(inside, x, 0)
    total, error = two_sum(middle, jnp.full_like(x, 3))
    (x_high, x_low), (total_high, total_low) = split(middle), split(total)
    rest = x_high * total_low + x_low * total + middle * error
    product = (x_high * total_high + rest) / 6
    product = jnp.where(jnp.abs(x) < jnp.finfo(x.dtype).eps / 8, x / 2, product)
    return jnp.where(inside, product, jnp.where(x <= -3, -0.0, x))


hardswish.defjvps(lambda dx, y, x: dx * hardswish_derivative(x))

"""What softmax and log_softmax share: the largest element of a row, and exponentials of the distances to it.

The program before may come to an element in two ways at once, so each is :func:`rounded
<jaxact._kernels.compiler.rounded>` before anything is subtracted from it: then it is one number to all that follows.
The maximum only has to be near the largest element, since it cancels.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxact._kernels.compiler import out_of_reduction
from jaxact._kernels.exponentials import exp_parts
from jaxact._kernels.floats import two_sum

# The exponential of this is the smallest normal number of float32.
LOWEST = -87.33654


def largest(x: jax.Array, axis: int) -> jax.Array:
    """Return the largest element along an axis, rounded as the elements are."""
    return out_of_reduction(jnp.max(x, axis=axis, keepdims=True, initial=-jnp.inf))


def finite(m: jax.Array) -> jax.Array:
    """Return ``m`` with NaN for what is infinite, and no NaN on the way to what is not."""
    return jnp.where(jnp.isinf(m), m - m, m)


def exp_of_difference(x: jax.Array, m: jax.Array) -> jax.Array:
    """Return exp(x - m), x <= m, without the error that rounding the difference would make in it."""
    distance = x - m
    if x.dtype != jnp.float32:
        lowest = float(np.log(jnp.finfo(x.dtype).tiny))
        near, error = two_sum(jnp.where(distance >= lowest, x, m), -m)
        return jnp.where(distance >= lowest, jnp.exp(near) * (1 + error), jnp.exp(distance))
    near, error = two_sum(jnp.where(distance >= LOWEST, x, m), -m)
    return _with_ends(distance, *exp_parts(near, error, bounded=True))


@jax.custom_jvp
def exp_of_distance(x: jax.Array) -> jax.Array:
    """Return exp(x) for x <= 0, or hardly above; 0 below the normal numbers."""
    if x.dtype != jnp.float32:
        return jnp.exp(x)
    return _with_ends(x, *exp_parts(jnp.where(x >= LOWEST, x, 0), bounded=True))


exp_of_distance.defjvps(lambda dx, y, x: dx * y)


def _with_ends(x: jax.Array, power: jax.Array, rest: jax.Array) -> jax.Array:
    """Return the exponential of x from its parts, but 0 for x < LOWEST and NaN for NaN.

    The selection also keeps the exponential out of the library that sums it: see compiler.
    """
    return jnp.where(x >= LOWEST, power * (1 + rest), jnp.where(x < 0, 0, x))  # NaN is neither

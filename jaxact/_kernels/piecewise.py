"""Functions that select between pieces, with torch's derivative at the kinks: relu and its like, clip, the shrinks.

They compare and select, and take no maximum or product of a selection: so -0.0 and NaN pass through, and a
branch that is not taken adds no NaN to a derivative, also where the cotangent or a parameter is infinite.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxact._kernels.parameters import Scalar, chain_rule


@jax.custom_jvp
def relu(x: jax.Array) -> jax.Array:
    """Return max(0, x), with derivative 0 at 0 and 1 at NaN."""
    return jnp.where(x < 0, 0, x)


relu.defjvps(lambda dx, y, x: jnp.where(x <= 0, 0, dx))


def sloped(x: jax.Array, slope: ArrayLike) -> jax.Array:
    """Return x above 0 and slope * x elsewhere."""
    return _sloped(x, jnp.asarray(slope, x.dtype))


@jax.custom_jvp
def _sloped(x: jax.Array, slope: jax.Array) -> jax.Array:
    return jnp.where(x > 0, x, x * slope)


def _sloped_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    x, slope = primals
    return _sloped(x, slope), chain_rule(
        tangents,
        lambda: jnp.where(x > 0, 1, slope),
        lambda: jnp.where(x > 0, 0, x),  # an infinite x above 0 is kept out
    )


_sloped.defjvp(_sloped_jvp, symbolic_zeros=True)


def clip(x: jax.Array, low: ArrayLike, high: ArrayLike) -> jax.Array:
    """Return x cut to [low, high], with derivative 0 at both ends and at NaN."""
    return _clip(x, jnp.asarray(low, x.dtype), jnp.asarray(high, x.dtype))


@jax.custom_jvp
def _clip(x: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
    return jnp.where(x < low, low, jnp.where(x > high, high, x))


_clip.defjvps(
    lambda dx, y, x, low, high: jnp.where((x > low) & (x < high), dx, 0),
    lambda dlow, y, x, low, high: jnp.where(x < low, dlow, 0),
    lambda dhigh, y, x, low, high: jnp.where(x > high, dhigh, 0),
)


@jax.custom_jvp
def hardshrink(x: jax.Array, lambd: Scalar) -> jax.Array:
    """Return 0 in [-lambd, lambd] and x elsewhere, with derivative 0 at both ends and at NaN."""
    return jnp.where((x >= -lambd) & (x <= lambd), 0, x)


hardshrink.defjvps(lambda dx, y, x, lambd: jnp.where((x < -lambd) | (x > lambd), dx, 0), None)


@jax.custom_jvp
def softshrink(x: jax.Array, lambd: Scalar) -> jax.Array:
    """Return x moved towards 0 by lambd, 0 in [-lambd, lambd], with derivative 0 at both ends and at NaN."""
    return jnp.where((x >= -lambd) & (x <= lambd), 0, x - jnp.copysign(lambd, x))


softshrink.defjvps(
    lambda dx, y, x, lambd: jnp.where((x < -lambd) | (x > lambd), dx, 0),
    lambda dlambd, y, x, lambd: jnp.where(x > lambd, -dlambd, jnp.where(x < -lambd, dlambd, 0)).astype(x.dtype),
)

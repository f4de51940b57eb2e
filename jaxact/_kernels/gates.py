"""What gelu, silu, mish and glu share: how a gate, and its derivative, keep the digits of the left tail.

Each is an argument times a gate that is 0 far to the left and 1 far to the right. The left tail decays like
an exponential, and that is where the textbook formulas end in 0, NaN or noise long before the result leaves
the normal numbers. Three things keep it right:

* exp(x) is taken as 2^k (1 + p): the power of two is multiplied last, in two steps, so that the product
  leaves the normal numbers only where the result does; and p, small and accurate, is added to what it
  multiplies, which saves a rounding.
* Where |x| times a small relative error would count (x^2 / 2 in gelu, the cubic in gelu's tanh form), the
  argument of the exponential comes in two parts. Parts are split by bit masks, and only exact products are
  subtracted: whether a compiler fuses a * b + c makes no difference.
* gelu, silu and the tanh form have gates with gate(-x) = 1 - gate(x). So f(x) - f(-x) = x, and only the
  left half f(-a), a = |x| is computed: f(x) is f(-a) or a + f(-a), f'(x) is f'(-a) or 1 - f'(-a).

Each function carries its derivative as a function, which carries the second derivative as a plain smooth
formula, which JAX differentiates further.
"""

import jax
import jax.numpy as jnp

from jaxact._kernels.compiler import kept_sum
from jaxact._kernels.floats import times_power

# Where exp(-a) is 0, in float32 and in float64, also multiplied with a. Beyond, nothing changes any more, and 2^k stays
# in the range that power_of_two takes.
EXP_END = (128.0, 750.0)


def size_up_to(x: jax.Array, end: tuple[float, float]) -> jax.Array:
    """Return |x|, at most the first end for float32, the second for float64."""
    return jnp.minimum(jnp.abs(x), end[0] if x.dtype == jnp.float32 else end[1])


def reflected(x: jax.Array, left: jax.Array) -> jax.Array:
    """Return f(x) from f(-|x|), where f(x) - f(-x) = x; -0.0 at -0.0 and -inf."""
    return jnp.where(x < 0, -0.0, x) + left


def reflected_derivative(x: jax.Array, left: jax.Array) -> jax.Array:
    """Return f'(x) from f'(-|x|), where f(x) - f(-x) = x."""
    return jnp.where(x < 0, left, 1 - left)


def left_sigmoid(x: jax.Array, p: jax.Array, k: jax.Array) -> jax.Array:
    """Return x / (1 + e) for e = 2^k (1 + p) >= 1, as x / (1 + (2^-k + p)) * 2^-k."""
    return times_power(x / (1 + (times_power(1.0, -k) + p)), -k)


def left_gate_derivative(u: jax.Array, w: jax.Array, p: jax.Array, k: jax.Array) -> jax.Array:
    """Return s (1 + u (1 - s)) = s (w - u s) for s = 1 / (1 + e), e = 2^k (1 + p) >= 1, w = 1 + u.

    With s = 2^-k r, a rounding error d of the denominator 1 / r enters as -d r^2 (w - 2 u s) 2^-k.
    """
    denominator, error = left_denominator(p, k)
    r = 1 / denominator
    us = u * times_power(r, -k)
    return times_power(r * (w - (us + error * r * (w - 2 * us))), -k)


def left_denominator(p: jax.Array, k: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return 1 + (2^-k + p) and the rounding error of the sum with 1, for k >= 0."""
    rest = times_power(1.0, -k) + p
    denominator = kept_sum(1 + rest, at_least=0.5)
    return denominator, rest - (denominator - 1)

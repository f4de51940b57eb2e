"""What XLA must be kept from: each trick once, what it prevents, and in which releases of jaxlib that was seen.

A compiler may rearrange what it is given. Where that costs digits or time, a kernel calls one of these functions, and
its formula stays mathematics. None changes a value. All was seen on CPUs, with jaxlib 0.7.0 to 0.12.0 where nothing
else is said. ``tests/test_compiler.py`` compiles a small formula with each trick and without it, and fails once no
release that is supported needs the trick.

XLA computes reductions, such as the maximum and the sum of a row, by a library that takes over the arithmetic next to
them, one operation at a time and each through memory. It takes over no comparison and no selection, so an exponential
that ends in one stays a kernel of its own, and :func:`out_of_reduction` ends what comes after. Two of its flaws cannot
be kept away, and are for the kernels to know:

* The maximum of a long row with NaN may be a number (seen from jaxlib 0.9.2), so no result may depend on a maximum to
  pass a NaN on.
* The matrix product of a quotient by sums along the first of three axes with a constant matrix of equal elements may be
  what stood in the memory, often NaN (seen from jaxlib 0.10.2): ``softmax(x, 0) @ ones``, by ``jax.nn`` and here.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def rounded(x: jax.Array) -> jax.Array:
    """Return ``x`` as a number of its dtype has it, however the program before comes to it.

    A compiler computes what several kernels need in each of them, and need not get the same numbers: it contracts a
    product with a sum that follows, so that the product is rounded in one kernel and not in the other, and it drops a
    conversion to a half and back. Where two results are subtracted and must cancel (a row and its maximum) that is
    the whole difference. Contraction and conversion end at bits, and XLA sees through bits that are only read: so a
    pattern is looked for that no computation gives, a signalling NaN, and replaced by another NaN.

    Its gradient is zero: only for functions that carry a derivative rule.
    """
    info = jnp.finfo(x.dtype)
    infinity = 2 ** (info.bits - 1) - 2**info.nmant
    integer = np.dtype(f"uint{info.bits}").type
    bits = lax.bitcast_convert_type(x, integer)
    bits = jnp.where(bits == integer(infinity + 1), integer(infinity + 2 ** (info.nmant - 1)), bits)
    return lax.bitcast_convert_type(bits, x.dtype)


def kept_sum(total: jax.Array, *, at_least: float) -> jax.Array:
    """Return a sum with a constant, of which the constant is subtracted again to see what rounding has cost.

    XLA simplifies (x + c) - c to x, but not with a bound between, which never acts. Seen until jaxlib 0.11.

    Args:
        total: The sum.
        at_least: A number that no sum is below.
    """
    return jnp.maximum(total, at_least)


def kept_product(product: jax.Array, *, at_least: float) -> jax.Array:
    """Return a product with a constant, which is multiplied with another one.

    XLA multiplies (x c) (y c) as (x y) (c c) where x and y are single numbers, and x y may overflow, c c be 0; but
    not with a bound between, which never acts. Seen until jaxlib 0.11.

    Args:
        product: The product.
        at_least: A number that no product is below.
    """
    return jnp.maximum(product, at_least)


def kept_quotient(quotient: jax.Array, *, at_least: float = -math.inf, at_most: float = math.inf) -> jax.Array:
    """Return a quotient that is used more than once.

    XLA ends a kernel at such a quotient and writes it to memory, but not at a bound, which never acts: one kernel is
    left where there would be two.

    Args:
        quotient: The quotient.
        at_least: A number that no quotient is below.
        at_most: Or one that none is above.
    """
    if at_least > -math.inf:
        quotient = jnp.maximum(quotient, at_least)
    return jnp.minimum(quotient, at_most) if at_most < math.inf else quotient


def out_of_reduction(x: jax.Array) -> jax.Array:
    """Return what a reduction gives, or what is computed of that, :func:`rounded`: for arithmetic on the whole array.

    A reduction's library takes over arithmetic that follows, and has its operands written to memory, but no
    comparison. Seen from jaxlib 0.10.2.
    """
    return rounded(x)

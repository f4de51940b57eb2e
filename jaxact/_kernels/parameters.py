"""What the kernels of several arguments share: the type of a real parameter, and the chain rule."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.custom_derivatives import SymbolicZero

# A real parameter: a number or a 0-d array of the dtype of the array.
Scalar = float | np.floating[Any] | np.integer[Any] | jax.Array


def chain_rule(tangents: Sequence[Any], *partials: Callable[[], jax.Array]) -> jax.Array:
    """Return the sum of each tangent times its partial derivative.

    For the rules of functions of several arguments, made with ``defjvp(..., symbolic_zeros=True)``. An
    argument that is not differentiated is left out, which is cheaper, and it is right where its partial
    derivative is infinite: times a tangent of zeros, that would be NaN.

    Args:
        tangents: A tangent or a symbolic zero for each argument.
        partials: A function for each argument that computes its partial derivative.
    """
    moving = zip(tangents, partials, strict=True)
    first, *rest = [dx * partial() for dx, partial in moving if not isinstance(dx, SymbolicZero)]
    return sum(rest, start=first)

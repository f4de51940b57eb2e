"""The accurate kernels beneath the families, and their derivatives: a module for each function, or for a few together.

Each kernel works on float32 and float64 arrays, at the dtype it is given, and carries its derivative as a
rule of its own, so that neither loses the tails that the textbook formulas lose. tanh and softmax also take
float16 and bfloat16, for which a cheaper formula in float32 is good enough, and return float32. Real parameters
are Python numbers or 0-d arrays of the dtype of the array; they may be differentiated too.

What they share is in ``floats``, ``exponentials``, ``logarithms`` and ``parameters``, what XLA must be kept from in
``compiler``. Polynomials are rows of the same name in ``benchmarks/coefficients.py``, which derives them: their
coefficients come lowest power first, and names that end in ``_64`` are for float64.
"""

from jaxact._kernels import (
    elu,
    gelu,
    glu,
    hardsigmoid,
    hardswish,
    log_softmax,
    mish,
    piecewise,
    sigmoid,
    silu,
    softmax,
    softplus,
    softsign,
    tanh,
    tanhshrink,
)

__all__ = [
    "elu",
    "gelu",
    "glu",
    "hardsigmoid",
    "hardswish",
    "log_softmax",
    "mish",
    "piecewise",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softsign",
    "tanh",
    "tanhshrink",
]

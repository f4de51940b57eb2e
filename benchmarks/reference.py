"""What is true of each activation, and how far from it jaxact may be.

The formulas are in float64, arranged so that nothing cancels: on every float32 they are good to a
thousandth of a float32 ULP, and much faster than arbitrary precision. ``tests/test_accuracy.py`` holds each
against mpmath.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy.special import ndtr

Array = np.ndarray[Any, np.dtype[np.float64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]

# The largest error in ULPs of the result's type: of the value, and of the derivative.
BOUNDS = {
    "float32": {"value": 2.0, "derivative": 4.0},
    "bfloat16": {"value": 0.51, "derivative": 0.51},
    "float16": {"value": 0.55, "derivative": 0.55},
    "float64": {"value": 32.0, "derivative": 64.0},
}
# XLA flushes subnormal results to 0 on a CPU. Where the exact result is one, or 0, the error may be as large, in
# units of the smallest normal number.
SUBNORMAL_BOUND = 1.0
# No relative bound can hold around a zero of the derivative that is no float: up to so far from it, an
# absolute error is small enough whatever its ULPs are. In float64 it is as many times smaller as the ULPs are.
WINDOW = 0.25
WINDOW_ERROR = 6e-8
WINDOW_ERROR_64 = WINDOW_ERROR * 2.0**-29


def relu(x: Array) -> tuple[Array, Array]:
    """Return max(x, 0) and its derivative."""
    return np.maximum(x, 0), np.where(x > 0, 1.0, 0.0)


def relu6(x: Array) -> tuple[Array, Array]:
    """Return x cut to [0, 6] and its derivative."""
    return np.clip(x, 0, 6), np.where((x > 0) & (x < 6), 1.0, 0.0)


def leaky_relu(x: Array, negative_slope: float) -> tuple[Array, Array]:
    """Return x, below 0 times the slope, and its derivative."""
    slope = np.where(x > 0, 1.0, negative_slope)
    return x * slope, slope


def prelu(x: Array, weight: float) -> tuple[Array, Array]:
    """Return leaky_relu, by another name for the slope."""
    return leaky_relu(x, weight)


def threshold(x: Array, threshold: float, value: float) -> tuple[Array, Array]:
    """Return x above the threshold, else the value, and its derivative."""
    above = x > threshold
    return np.where(above, x, value), np.where(above, 1.0, 0.0)


def hardtanh(x: Array, min_val: float = -1.0, max_val: float = 1.0) -> tuple[Array, Array]:
    """Return x cut to [min_val, max_val] and its derivative."""
    return np.clip(x, min_val, max_val), np.where((x > min_val) & (x < max_val), 1.0, 0.0)


def hardshrink(x: Array, lambd: float) -> tuple[Array, Array]:
    """Return x, or 0 up to lambd, and its derivative."""
    slope = np.where(np.abs(x) > lambd, 1.0, 0.0)
    return np.where(slope > 0, x, 0), slope


def softshrink(x: Array, lambd: float) -> tuple[Array, Array]:
    """Return x moved towards 0 by lambd and its derivative."""
    return x - np.clip(x, -lambd, lambd), np.where(np.abs(x) > lambd, 1.0, 0.0)


def hardsigmoid(x: Array) -> tuple[Array, Array]:
    """Return x + 3 cut to [0, 6] over 6, and its derivative."""
    return np.clip(x + 3, 0, 6) / 6, np.where(np.abs(x) < 3, 1 / 6, 0.0)


def hardswish(x: Array) -> tuple[Array, Array]:
    """Return x times hardsigmoid(x), and its derivative, a line between -3 and 3."""
    value = np.maximum(x, -3) * hardsigmoid(x)[0]
    return value, np.where(x <= -3, 0.0, np.where(x >= 3, 1.0, (2 * x + 3) / 6))


def elu(x: Array, alpha: float) -> tuple[Array, Array]:
    """Return x, below 0 alpha (exp(x) - 1), and its derivative."""
    below = np.minimum(x, 0)
    return np.where(x > 0, x, alpha * np.expm1(below)), np.where(x > 0, 1.0, alpha * np.exp(below))


def selu(x: Array) -> tuple[Array, Array]:
    """Return the elu of the self-normalizing alpha, scaled, and its derivative."""
    scale = 1.0507009873554805
    value, derivative = elu(x, 1.6732632423543772)
    return scale * value, scale * derivative


def celu(x: Array, alpha: float) -> tuple[Array, Array]:
    """Return x, below 0 alpha (exp(x / alpha) - 1), and its derivative."""
    below = np.minimum(x, 0) / alpha
    return np.where(x > 0, x, alpha * np.expm1(below)), np.where(x > 0, 1.0, np.exp(below))


def softplus(x: Array, beta: float = 1.0, threshold: float = 20.0) -> tuple[Array, Array]:
    """Return log(1 + exp(z)) / beta with z = beta x, above the threshold x, and its derivative.

    The product z of two float32 is exact.
    """
    z = x * beta
    t = np.exp(-np.abs(z))
    value = (np.log1p(t) + np.maximum(z, 0)) / beta
    linear = z > threshold
    return np.where(linear, x, value), np.where(linear, 1.0, np.where(z < 0, t, 1.0) / (1 + t))


def logsigmoid(x: Array) -> tuple[Array, Array]:
    """Return -log(1 + exp(-x)) and its derivative."""
    t = np.exp(-np.abs(x))
    return np.minimum(x, 0) - np.log1p(t), np.where(x < 0, 1.0, t) / (1 + t)


def sigmoid(x: Array) -> tuple[Array, Array]:
    """Return 1 / (1 + exp(-x)) and its derivative."""
    t = np.exp(-np.abs(x))
    r = 1 / (1 + t)
    return np.where(x < 0, t, 1.0) * r, t * r * r


def tanh(x: Array) -> tuple[Array, Array]:
    """Return the hyperbolic tangent and its derivative 1 / cosh(x)^2."""
    return np.tanh(x), 4 * sigmoid(2 * x)[1]


def softsign(x: Array) -> tuple[Array, Array]:
    """Return x / (1 + |x|) and its derivative."""
    x = np.clip(x, -1e300, 1e300)
    r = 1 / (1 + np.abs(x))
    return x * r, r * r


def tanhshrink(x: Array) -> tuple[Array, Array]:
    """Return x - tanh(x), near 0 by its Taylor series, and its derivative tanh(x)^2.

    At the 0.1 where the two meet, the series leaves 2e-14 and the difference loses as much.
    """
    y = np.tanh(x)
    w = np.clip(x, -0.1, 0.1) ** 2
    series = w * (1 / 3 - w * (2 / 15 - w * (17 / 315 - w * (62 / 2835 - w * (1382 / 155925 - w * 21844 / 6081075)))))
    return np.where(np.abs(x) < 0.1, x * series, x - y), y * y


def gated(x: Array, gate: Array, slope: Array) -> tuple[Array, Array]:
    """Return x * gate and its derivative gate + x * slope, also at the infinities.

    ``gate`` is a function of x that goes from 0 to 1, faster than 1 / |x|, and ``slope`` its derivative.
    """
    return np.maximum(x, -SATURATED) * gate, gate + saturate(x) * slope


# Beyond, and long before, a gate is 0 or 1 to all the digits of float64, and its slope 0.
SATURATED = 1000.0


def saturate(x: Array) -> Array:
    """Return x moved to where a gate saturates, if it is farther out."""
    return np.clip(x, -SATURATED, SATURATED)


def silu(x: Array) -> tuple[Array, Array]:
    """Return x sigmoid(x) and its derivative."""
    return gated(x, *sigmoid(x))


def gelu(x: Array, approximate: str = "none") -> tuple[Array, Array]:
    """Return x Phi(x), Phi the normal distribution function, and its derivative.

    Approximate, it is x (1 + tanh(u)) / 2 = x sigmoid(2 u) with u = sqrt(2 / pi) (x + 0.044715 x^3).
    """
    if approximate == "none":
        return gated(x, ndtr(x), np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi))
    c = saturate(x)
    gate, slope = sigmoid(np.sqrt(8 / np.pi) * c * (1 + 0.044715 * c * c))
    return gated(x, gate, np.sqrt(8 / np.pi) * (1 + 3 * 0.044715 * c * c) * slope)


def mish(x: Array) -> tuple[Array, Array]:
    """Return x tanh(log(1 + e)), e = exp(x), and its derivative.

    The hyperbolic tangent is n / (n + 2) with n = e (e + 2), and its derivative 2 n' / (n + 2)^2, n' = 2 e (e + 1).
    Above x = 40 it is 1.
    """
    e = np.exp(np.minimum(x, 40))
    n = e * (e + 2)
    return gated(x, n / (n + 2), np.where(x > 40, 0, 4 * e * (e + 1) / (n + 2) ** 2))


@dataclass(frozen=True)
class Case:
    """One activation at one set of parameters.

    Attributes:
        name: What to call it: the function's name, with its parameter where it is listed at several.
        reference: The formula here, of the name of the function in jaxact and in ``torch.nn.functional``. It
            takes a float64 array and the parameters, and returns the value and the derivative.
        parameters: Its parameters, by the names that all have for them.
        zero: The zero of the derivative, if it has one that is no float.
        kinks: Where the derivative jumps.
        scale: How much wider it is than with the default parameters: where it bends in x / scale as they do in x.
        monotone: Whether the results, not just the exact values, have to rise with x.
        odd: Whether f(-x) = -f(x).
    """

    name: str
    reference: Callable[..., tuple[Array, Array]]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    zero: float | None = None
    kinks: tuple[float, ...] = ()
    scale: float = 1.0
    monotone: bool = False
    odd: bool = False

    @property
    def function(self) -> str:
        """The function's name in jaxact and in ``torch.nn.functional``."""
        return self.reference.__name__

    def exact(self, x: Array) -> dict[str, Array]:
        """Return the value and the derivative at float64 inputs, by their names in ORDERS."""
        with np.errstate(all="ignore"):
            return dict(zip(ORDERS, self.reference(x, **self.parameters), strict=True))

    def in_window(self, order: str, x: Array) -> Mask:
        """Return where x is so near to the derivative's zero that an absolute error counts."""
        if self.zero is None or order != "derivative":
            return np.zeros(x.shape, bool)
        return np.abs(x - self.zero) <= WINDOW


# What is judged, and what it is called in all benchmarks and their figures: a function has a value and a derivative at
# a number; at an array it has a gradient, which is the derivatives times a cotangent. The arrays that a call returns
# are its outputs.
ORDERS = ("value", "derivative")

CASES = {
    case.name: case
    for case in (
        Case("relu", relu, kinks=(0.0,)),
        Case("relu6", relu6, kinks=(0.0, 6.0)),
        Case("leaky_relu", leaky_relu, {"negative_slope": 0.01}, kinks=(0.0,)),
        Case("hardtanh", hardtanh, kinks=(-1.0, 1.0), odd=True),
        Case("hardshrink", hardshrink, {"lambd": 0.5}, kinks=(-0.5, 0.5), odd=True),
        Case("softshrink", softshrink, {"lambd": 0.5}, kinks=(-0.5, 0.5), odd=True),
        Case("hardsigmoid", hardsigmoid, kinks=(-3.0, 3.0)),
        Case("hardswish", hardswish, kinks=(-3.0, 3.0)),
        Case("elu", elu, {"alpha": 1.0}),
        Case("selu", selu, kinks=(0.0,)),
        Case("celu", celu, {"alpha": 2.0}),
        Case("softplus", softplus, kinks=(20.0,), monotone=True),
        Case("logsigmoid", logsigmoid, monotone=True),
        Case("sigmoid", sigmoid, monotone=True),
        Case("tanh", tanh, monotone=True, odd=True),
        Case("softsign", softsign, odd=True),
        Case("tanhshrink", tanhshrink, odd=True),
        Case("silu", silu, zero=-1.2784645427610737),
        Case("gelu", gelu, {"approximate": "none"}, zero=-0.7517915246935645),
        Case("gelu_tanh", gelu, {"approximate": "tanh"}, zero=-0.7524614220710163),
        Case("mish", mish, zero=-1.1924312145154952),
    )
}


def _general() -> Iterator[Case]:
    """Yield cases of parameters that are not the defaults: they make no product and no quotient exact."""
    random = tuple(10 ** np.random.default_rng(0).uniform(-4, 4, 3))
    for slope in (1e-3, 0.1, 0.3, 1.7, -0.7):
        yield _case(leaky_relu, negative_slope=slope)
        yield _case(prelu, weight=slope)
    for alpha in (1e-3, 0.3, 0.7, 1.3, 3.0, 1e3, -1.5, *random):
        yield _case(elu, alpha=alpha)
        yield _case(celu, alpha=alpha)
    for beta in (0.01, 0.1, 0.3, 0.7, 1.7, 3.0, 30.0, 1e4, -1.7, *random):
        yield _case(softplus, beta=beta, threshold=20.0)
    for beta, limit in ((0.7, 5.0), (0.3, 100.0), (1.7, -3.0)):
        yield _case(softplus, beta=beta, threshold=limit)
    for lambd in (0.1, 1.3, 30.0):
        yield _case(hardshrink, lambd=lambd)
        yield _case(softshrink, lambd=lambd)
    for low, high in ((-0.3, 0.7), (0.1, 1.7), (-1e3, 1e3)):
        yield _case(hardtanh, min_val=low, max_val=high)
    for limit, value in ((0.1, 20.0), (-1.3, -0.3)):
        yield _case(threshold, threshold=limit, value=value)


def _case(reference: Callable[..., tuple[Array, Array]], **parameters: float) -> Case:
    """Return the case of a function at parameters rounded to float32, the same for each type that is wider."""
    p = {name: float(np.float32(value)) for name, value in parameters.items()}
    name = f"{reference.__name__}({', '.join(f'{name}={value:.5g}' for name, value in p.items())})"
    match p:
        case {"beta": beta, "threshold": limit}:
            return Case(name, reference, p, kinks=(limit / beta,), scale=1 / abs(beta))
        case {"lambd": lambd}:
            return Case(name, reference, p, kinks=(-lambd, lambd))
        case {"alpha": alpha}:
            return Case(name, reference, p, kinks=(0.0,), scale=abs(alpha) if reference is celu else 1.0)
        case {"min_val": low, "max_val": high}:
            return Case(name, reference, p, kinks=(low, high))
        case {"threshold": limit}:
            return Case(name, reference, p, kinks=(limit,))
    return Case(name, reference, p, kinks=(0.0,))


GENERAL = {case.name: case for case in _general()}


def ulp(exact: Array, dtype: Any) -> Array:
    """Return the distance between neighbouring numbers of ``dtype`` at each exact result."""
    info = jnp.finfo(dtype)
    exponent = np.maximum(np.abs(exact), float(info.smallest_normal)).view(np.int64) & ~(2**52 - 1)
    return exponent.view(np.float64) * float(info.eps)


def is_normal(exact: Array, dtype: Any) -> Mask:
    """Return where an exact result is a normal number of ``dtype``: the results to which the bounds apply."""
    info = jnp.finfo(dtype)
    size = np.abs(exact)
    return (size >= float(info.smallest_normal)) & (size <= float(info.max))


def is_kept(x: Array, dtype: Any) -> Mask:
    """Return where an input of ``dtype`` is not flushed to 0, and is no NaN: the inputs to which the bounds apply.

    XLA does so on a CPU with what is subnormal for the type it computes in, float32 for the narrow types.
    """
    computed = np.float64 if dtype == np.float64 else np.float32
    return (x == 0) | (np.abs(x) >= np.finfo(computed).smallest_normal)

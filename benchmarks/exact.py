"""The activations as their definitions have them, in mpmath at any precision, with their derivatives.

Names and parameters are jaxact's. Nothing here is arranged against cancellation: precision does that. Derivatives
come from the definitions by the rules of calculus, which a `Jet` follows through each step. A number is a `Jet`, one of
mpmath's or one of Python's, and so is typed as anything.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from mpmath import mp, mpf

# How many digits to compute with. They are tried in this order, until two results in a row agree in 20 digits. With few
# digits a small term is lost: with 30 of them 1 + exp(-700) is 1, and less 1 it is 0. What is 0 with 400 digits too is
# taken to be 0: the smallest normal float64 is 2e-308, which is not lost beside 1 then.
DIGITS = (30, 60, 150, 400)
# Beyond all floats, mpmath takes long for an exponential that is as good as 0 or infinity.
FAR = mpf(10) ** 320


class Jet:
    """A number with its first and second derivative by something that it depends on."""

    def __init__(self, value: Any, first: Any = 0, second: Any = 0) -> None:
        self.orders = (value, first, second)

    def through(self, value: Any, first: Any, second: Any) -> "Jet":
        """Return a function of the number, from that function's value and derivatives there: the chain rule."""
        _, du, ddu = self.orders
        return Jet(value, first * du, second * du * du + first * ddu)

    def __add__(self, other: Any) -> "Jet":
        return Jet(*(a + b for a, b in zip(self.orders, _jet(other).orders, strict=True)))

    def __neg__(self) -> "Jet":
        return Jet(*(-a for a in self.orders))

    def __sub__(self, other: Any) -> "Jet":
        return self + -other

    def __rsub__(self, other: Any) -> "Jet":
        return -self + other

    def __mul__(self, other: Any) -> "Jet":
        (u, du, ddu), (v, dv, ddv) = self.orders, _jet(other).orders
        return Jet(u * v, du * v + u * dv, ddu * v + 2 * du * dv + u * ddv)

    def __rtruediv__(self, other: Any) -> "Jet":
        r = 1 / self.orders[0]
        return self.through(r, -r * r, 2 * r**3) * other

    def __truediv__(self, other: Any) -> "Jet":
        return self * (1 / _jet(other))

    def __abs__(self) -> "Jet":
        return -self if self < 0 else self

    def __lt__(self, other: Any) -> bool:
        return self.orders[0] < _jet(other).orders[0]

    def __gt__(self, other: Any) -> bool:
        return self.orders[0] > _jet(other).orders[0]

    __radd__, __rmul__ = __add__, __mul__


def _jet(number: Any) -> Jet:
    return number if isinstance(number, Jet) else Jet(mpf(number))


def exp(x: Any) -> Any:
    return x.through(*[_exp(x.orders[0])] * 3)


def _exp(value: Any) -> Any:
    return mp.exp(max(-FAR, min(value, FAR)))


def log1p(x: Any) -> Any:
    r = 1 / (1 + x.orders[0])
    return x.through(mp.log1p(x.orders[0]), r, -r * r)


def tanh(x: Any) -> Any:
    y, slope = mp.tanh(x.orders[0]), mp.sech(x.orders[0]) ** 2
    return x.through(y, slope, -2 * y * slope)


def erfc(x: Any) -> Any:
    value = x.orders[0]
    slope = -2 / mp.sqrt(mp.pi) * _exp(-value * value)
    near = max(-(10**5), min(value, 10**5))  # as far out as mpmath computes it, and as floats tell it from 0 and 2
    return x.through(mp.erfc(near), slope, -2 * value * slope)


def relu(x: Any) -> Any:
    return max(x, 0)


def relu6(x: Any) -> Any:
    return min(max(x, 0), 6)


def leaky_relu(x: Any, negative_slope: Any = 0.01) -> Any:
    return x if x > 0 else negative_slope * x


def prelu(x: Any, weight: Any = 0.25) -> Any:
    return leaky_relu(x, weight)


def threshold(x: Any, threshold: Any, value: Any) -> Any:
    return x if x > threshold else value


def elu(x: Any, alpha: Any = 1.0) -> Any:
    return x if x > 0 else alpha * (exp(x) - 1)


def selu(x: Any) -> Any:
    scale, alpha = mpf("1.0507009873554804934193349852946"), mpf("1.6732632423543772848170429916717")
    return scale * elu(x, alpha)


def celu(x: Any, alpha: Any = 1.0) -> Any:
    return x if x > 0 else alpha * (exp(x / alpha) - 1)


def softplus(x: Any, beta: Any = 1.0, threshold: Any = 20.0) -> Any:
    return x if beta * x > threshold else log1p(exp(beta * x)) / beta


def logsigmoid(x: Any) -> Any:
    return -log1p(exp(-x))


def sigmoid(x: Any) -> Any:
    return 1 / (1 + exp(-x))


def softsign(x: Any) -> Any:
    return x / (1 + abs(x))


def tanhshrink(x: Any) -> Any:
    return x - tanh(x)


def silu(x: Any) -> Any:
    return x * sigmoid(x)


def gelu(x: Any, approximate: Any = "none") -> Any:
    if approximate == "tanh":  # x (1 + tanh(u)) / 2
        return x * sigmoid(2 * mp.sqrt(2 / mp.pi) * (x + mpf("0.044715") * x * x * x))
    return x / 2 * erfc(-x / mp.sqrt(2))


def mish(x: Any) -> Any:
    return x * tanh(log1p(exp(x)))


def hardtanh(x: Any, min_val: Any = -1.0, max_val: Any = 1.0) -> Any:
    return min(max(x, min_val), max_val)


def hardsigmoid(x: Any) -> Any:
    return relu6(x + 3) / 6


def hardswish(x: Any) -> Any:
    return x * relu6(x + 3) / 6


def hardshrink(x: Any, lambd: Any = 0.5) -> Any:
    return x if abs(x) > lambd else 0


def softshrink(x: Any, lambd: Any = 0.5) -> Any:
    return x - max(min(x, lambd), -lambd)


def value(function: Callable[..., Any], x: Any, **parameters: Any) -> Any:
    """Return the exact value at the float x, to 20 digits and more."""
    return derivatives(function, x, (0,), **parameters)[0]


def derivative(function: Callable[..., Any], x: Any, **parameters: Any) -> Any:
    """Return the exact derivative at the float x, which is no kink, to 20 digits and more."""
    return derivatives(function, x, (1,), **parameters)[0]


def derivatives(
    function: Callable[..., Any], x: Any, orders: tuple[int, ...] = (0, 1, 2), by: str | None = None, **parameters: Any
) -> list[Any]:
    """Return the exact derivatives at the float x, which is no kink, to 20 digits and more.

    Those at an infinity are those at 2^4000, which round to the limits.

    Args:
        function: One of the functions here.
        x: The float.
        orders: Which to return: 0 is the value, 1 and 2 are the first and the second derivative.
        by: The parameter to differentiate by, x if there is none.
        parameters: The parameters.
    """
    x = mpf(float(x)) if mp.isfinite(float(x)) else mpf(2) ** 4000 * (1 if x > 0 else -1)
    arguments = {by: Jet(mpf(parameters[by]), 1)} if by else {}
    results = [mpf(0)] * len(orders)
    for digits in DIGITS:
        with mp.workdps(digits):
            jet = _jet(function(Jet(x, 0 if by else 1), **parameters | arguments))
            before, results = results, [mpf(jet.orders[order]) for order in orders]
            if all(abs(a - b) < abs(b) / 10**20 for a, b in zip(before, results, strict=True)):
                break
    return results


_exponentials = np.vectorize(mp.exp, otypes=[object])


def multi_head_attention_forward(
    query: Any,
    key: Any,
    value: Any,
    embed_dim_to_check: Any,
    num_heads: Any,
    in_proj_weight: Any,
    in_proj_bias: Any,
    bias_k: Any,
    bias_v: Any,
    add_zero_attn: Any,
    out_proj_weight: Any,
    out_proj_bias: Any,
    attn_mask: Any = None,
    q_proj_weight: Any = None,
    k_proj_weight: Any = None,
    v_proj_weight: Any = None,
    average_attn_weights: Any = True,
    **_: Any,
) -> Any:
    """Return the outputs and weights of multi-head attention, without dropout and padding: arrays of mpf, and bool."""
    batched = query.ndim == 3
    sequences = [x if batched else x[:, None] for x in (query, key, value)]
    matrices = (
        np.split(in_proj_weight, 3) if in_proj_weight is not None else (q_proj_weight, k_proj_weight, v_proj_weight)
    )
    biases = np.split(in_proj_bias, 3) if in_proj_bias is not None else (0, 0, 0)
    q, k, v = (x @ matrix.T + bias for x, matrix, bias in zip(sequences, matrices, biases, strict=True))
    more = [(bias_k, bias_v)] if bias_k is not None else []
    more += [(0 * k[:1], 0 * v[:1])] if add_zero_attn else []
    for of_k, of_v in more:
        k, v = (np.concatenate([x, np.broadcast_to(row, x[:1].shape)]) for x, row in ((k, of_k), (v, of_v)))
    heads = [x.reshape(*x.shape[:2], num_heads, -1).transpose(1, 2, 0, 3) for x in (q, k, v)]
    scores = heads[0] @ heads[1].swapaxes(2, 3) / mp.sqrt(heads[0].shape[-1])
    if attn_mask is not None:
        mask = np.where(attn_mask, mpf("-inf"), mpf(0)) if attn_mask.dtype == bool else attn_mask
        mask = mask.reshape(-1, num_heads, *mask.shape[1:]) if mask.ndim == 3 else mask
        scores[..., : mask.shape[-1]] = scores[..., : mask.shape[-1]] + mask
    weights = _exponentials(scores - scores.max(-1, keepdims=True))
    weights = weights / weights.sum(-1, keepdims=True)
    outputs = (weights @ heads[2]).transpose(2, 0, 1, 3).reshape(q.shape) @ out_proj_weight.T + out_proj_bias
    weights = weights.sum(1) / num_heads if average_attn_weights else weights
    return (outputs, weights) if batched else (outputs[:, 0], weights[0])

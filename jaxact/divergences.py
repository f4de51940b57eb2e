"""Where jaxact and PyTorch differ on purpose: the list that the docs, the tests and ``jaxact check`` show.

jaxact gives what PyTorch gives, except where PyTorch's floating-point result is wrong. A row or two stand for each
cause.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf, nan
from typing import Any


@dataclass(frozen=True)
class Divergence:
    """One input at which PyTorch's result is wrong.

    Attributes:
        function: The function's name.
        of: "value" or "derivative".
        at: The inputs; one alone, but where the function takes a row of numbers.
        torch: What PyTorch gives there.
        exact: What is right, to more digits than float64 has.
        because: Why PyTorch's result is wrong.
        parameters: The parameters, where they are not the defaults.
        dtype: The dtype of the inputs.
    """

    function: str
    of: str
    at: tuple[float, ...]
    torch: tuple[float, ...]
    exact: tuple[float, ...]
    because: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "float32"


def _at(function: str, of: str, at: float, torch: float, exact: float, because: str, **parameters: Any) -> Divergence:
    return Divergence(function, of, (at,), (torch,), (exact,), because, parameters)


DIVERGENCES = (
    _at("sigmoid", "derivative", 30.0, 0.0, 9.3576229688384233e-14, "y (1 - y) with y rounded to 1"),
    _at("tanh", "derivative", 15.0, 0.0, 3.7430491875353693e-13, "1 - y² with y rounded to 1"),
    _at("tanh", "derivative", -15.0, 0.0, 3.7430491875353693e-13, "1 - y² with y rounded to -1"),
    _at("softsign", "value", inf, nan, 1.0, "inf / inf"),
    _at("softsign", "value", -inf, nan, -1.0, "inf / inf"),
    _at("softsign", "derivative", inf, nan, 0.0, "inf / inf"),
    _at("softsign", "derivative", -inf, nan, 0.0, "inf / inf"),
    _at("softsign", "derivative", 1e10, 0.0, 9.999999998e-21, "a difference of equal terms"),
    _at("tanhshrink", "value", 0.001, 3.4924596548080444e-10, 3.3333324749747586e-10, "x - y with y rounded"),
    _at("tanhshrink", "value", 0.3, 0.008687376976013184, 0.008687388560055381, "x - y with y rounded"),
    _at("tanhshrink", "derivative", 0.001, 1.0132789611816406e-06, 9.9999942832848932e-7, "1 - (1 - y²)"),
    _at("silu", "value", -inf, nan, -0.0, "-inf times 0"),
    _at("silu", "value", -89.0, -0.0, -1.9823535699982119e-37, "sigmoid is subnormal"),
    _at("silu", "derivative", inf, nan, 1.0, "inf times 0"),
    _at("silu", "derivative", -inf, nan, -0.0, "inf times 0"),
    _at("silu", "derivative", -89.0, -0.0, -1.9600799343802545e-37, "sigmoid is subnormal"),
    _at("gelu", "value", -inf, nan, -0.0, "-inf times 0"),
    _at("gelu", "value", -10.0, -0.0, -7.6198530241605261e-23, "1 + erf cancels"),
    _at("gelu", "value", -13.0, -0.0, -7.9523137194148436e-38, "1 + erf cancels"),
    _at("gelu", "derivative", inf, nan, 1.0, "inf times 0"),
    _at("gelu", "derivative", -inf, nan, -0.0, "-inf times 0"),
    _at("gelu", "derivative", -10.0, -7.694599251752704e-22, -7.6184000964648141e-22, "1 + erf cancels"),
    _at("gelu", "value", -inf, nan, -0.0, "-inf times 0", approximate="tanh"),
    _at("gelu", "value", -8.0, -0.0, -3.1077829375011112e-21, "1 + tanh cancels", approximate="tanh"),
    _at("gelu", "derivative", inf, nan, 1.0, "inf times 0", approximate="tanh"),
    _at("gelu", "derivative", -inf, nan, -0.0, "-inf times 0", approximate="tanh"),
    _at("gelu", "derivative", 1e20, nan, 1.0, "x³ overflows", approximate="tanh"),
    _at("gelu", "derivative", -1e20, nan, 0.0, "x³ overflows", approximate="tanh"),
    _at("mish", "value", -inf, nan, -0.0, "-inf times 0"),
    _at("mish", "derivative", inf, nan, 1.0, "inf times 0"),
    _at("mish", "derivative", -inf, nan, -0.0, "-inf times 0"),
    _at("mish", "derivative", -89.0, 2.2273639090442967e-39, -1.9600799343802545e-37, "tanh(softplus) is subnormal"),
    _at("hardswish", "value", 1e38, inf, 9.9999996802856925e37, "x (x + 3) overflows"),
    _at("hardswish", "value", -inf, nan, -0.0, "-inf times 0"),
    Divergence(
        *("softmin", "value", (0, 1), (0.0, 1.0), (0.731058578630004879, 0.268941421369995121), "-1 is 255"),
        *({"dim": 0, "dtype": "float32"}, "uint8"),
    ),
    Divergence(
        *("softmin", "value", (-128, -127), (0.0, 1.0), (0.731058578630004879, 0.268941421369995121)),
        *("-(-128) is -128", {"dim": 0, "dtype": "float32"}, "int8"),
    ),
    Divergence(
        *("softsign", "value", (-128,), (1.007874,), (-0.992248062015503876,), "the absolute value of -128 is -128"),
        *({}, "int8"),
    ),
    Divergence("softsign", "value", (127,), (-0.9921875,), (0.9921875,), "1 + 127 is -128", {}, "int8"),
    Divergence("softsign", "value", (255,), (inf,), (0.99609375,), "1 + 255 is 0", {}, "uint8"),
    Divergence(
        *("softsign", "value", (-32768,), (1.0000305,), (-0.999969483353169154,)),
        *("the absolute value of -32768 is -32768", {}, "int16"),
    ),
    Divergence(
        *("threshold", "value", (0,), (255,), (-1,), "-1 is 255", {"threshold": 1, "value": -1}, "uint8"),
    ),
)

# What a row cannot show, by the names of the functions.
REMARKS: dict[tuple[str, ...], str] = {
    ("glu",): "`glu` keeps its tails as `sigmoid` does, also where the gate alone is below the normal numbers.",
    ("scaled_dot_product_attention", "multi_head_attention_forward"): (
        "`scaled_dot_product_attention` and `multi_head_attention_forward` with a boolean mask do not let a masked "
        "key's infinite score or NaN into the value. A key and a value that no query attends to, and a query that "
        "attends to none, may hold anything: neither a value nor a gradient, also of a projection, tells."
    ),
    ("multi_head_attention_forward",): (
        "`multi_head_attention_forward` gives heads and weights of 0 to a query all of whose keys are masked, with "
        "`need_weights=True` as with `need_weights=False`. With weights PyTorch gives NaN, and NaN in every gradient "
        "of the projections though the loss leaves that query out (pytorch issue 41508)."
    ),
    ("softmax", "softmin", "log_softmax"): (
        "`softmax`, `softmin` and `log_softmax` refuse complex numbers with a real `dtype`, for which PyTorch drops "
        "the imaginary part."
    ),
}


def remarks(function: str) -> list[str]:
    """Return what is to be said of a function's divergences beyond the rows, without markup.

    Args:
        function: The function's name.

    Returns:
        Sentences, of the documentation's page.

    Example:
        >>> from jaxact.divergences import remarks
        >>> remarks("relu")
        []
    """
    return [text.replace("`", "") for functions, text in REMARKS.items() if function in functions]

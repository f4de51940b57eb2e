"""The activations as their definitions have them, in mpmath at any precision.

Names and parameters are jaxact's. Nothing here is arranged against cancellation: precision does that.
"""

from mpmath import mp, mpf

# The digits to compute with, the next number of them where the result is so small that too few would be left of,
# say, 1 + exp(-700). The smallest normal float64 is 2e-308.
DIGITS = (50, 150, 400)


def relu(x):
    return max(x, 0)


def relu6(x):
    return min(max(x, 0), 6)


def leaky_relu(x, negative_slope=0.01):
    return x if x > 0 else negative_slope * x


def elu(x, alpha=1.0):
    return x if x > 0 else alpha * (mp.exp(x) - 1)


def selu(x):
    scale, alpha = mpf("1.0507009873554804934193349852946"), mpf("1.6732632423543772848170429916717")
    return scale * elu(x, alpha)


def celu(x, alpha=1.0):
    return max(x, 0) + min(alpha * (mp.exp(x / alpha) - 1), 0)


def softplus(x, beta=1.0, threshold=20.0):
    return x if beta * x > threshold else mp.log(1 + mp.exp(beta * x)) / beta


def logsigmoid(x):
    return mp.log(sigmoid(x))


def sigmoid(x):
    return 1 / (1 + mp.exp(-x))


def tanh(x):
    return mp.tanh(x)


def softsign(x):
    return x / (1 + abs(x))


def tanhshrink(x):
    return x - mp.tanh(x)


def silu(x):
    return x * sigmoid(x)


def gelu(x, approximate="none"):
    if approximate == "tanh":
        return x / 2 * (1 + mp.tanh(mp.sqrt(2 / mp.pi) * (x + mpf("0.044715") * x**3)))
    return x / 2 * (1 + mp.erf(x / mp.sqrt(2)))


def mish(x):
    return x * mp.tanh(mp.log(1 + mp.exp(x)))


def hardtanh(x, min_val=-1.0, max_val=1.0):
    return min(max(x, min_val), max_val)


def hardsigmoid(x):
    return relu6(x + 3) / 6


def hardswish(x):
    return x * relu6(x + 3) / 6


def hardshrink(x, lambd=0.5):
    return x if abs(x) > lambd else mpf(0)


def softshrink(x, lambd=0.5):
    return mp.sign(x) * max(abs(x) - lambd, 0)


def value(function, x, **parameters):
    """Return the exact value at the float x, to 20 digits and more."""
    return _precise(lambda t: mpf(function(t, **parameters)), x)


def derivative(function, x, **parameters):
    """Return the exact derivative at the float x, which is no kink, to 20 digits and more.

    It is a central difference over a step of 10**-digits, at twice as many digits.
    """
    return _precise(lambda t: mp.diff(lambda u: function(u, **parameters), t), x)


def _precise(function, x):
    """Return the function at x, with as many digits as leave 20 after cancellation and keep the step below x."""
    x = mpf(float(x))
    for digits in DIGITS:
        with mp.workdps(digits):
            result = function(x)
        if min(abs(result), abs(x)) > mpf(10) ** (20 - digits) * max(1, abs(x)):
            break
    return result

"""Kernels of the gated family: gelu (both), silu, mish, glu.

Each is an argument times a gate that is 0 far to the left and 1 far to the right. The left tail decays like
an exponential, and that is where the textbook formulas end in 0, NaN or noise long before the result leaves
the normal numbers. Three things keep it right here:

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

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxact._numerics.elementary import (
    exp,
    polynomial,
    power_of_two,
    reduced_exp,
    scaled_exp,
    split,
    times_power,
)
from jaxact._numerics.sigmoidal import complex_sigmoid, tanh

# gelu's tanh form is x sigmoid(x (C1 + C2 x^2)), C1 = 2 sqrt(2 / pi), C2 = 0.044715 C1. The high parts have
# 12 significant bits.
C1_HIGH, C1_LOW = 1.595703125, 6.599660573071176e-05
C2_HIGH, C2_LOW = 0.07135009765625, 4.718616350248776e-06
C1, C2 = C1_HIGH + C1_LOW, C2_HIGH + C2_LOW

# gelu'(-z) = 0 for z = ZERO_HIGH + ZERO_LOW
ZERO_HIGH, ZERO_LOW = 0.7517915368080139, -1.211444945855772e-08

INV_SQRT_TAU = 0.3989422804014327  # 1 / sqrt(2 pi)

# Where the left tails are 0, in float32 and in float64: of exp(-a), of gelu(-a), of gelu(-a) in the tanh form. Beyond,
# nothing changes any more, and 2^k stays in the range that power_of_two takes.
EXP_END = (128.0, 750.0)
GELU_END = (16.0, 38.7)
GELU_TANH_END = (11.0, 21.5)

# Likewise the zeros -z of the derivatives of mish and of gelu's tanh form
MISH_ZERO_HIGH, MISH_ZERO_LOW = 1.1924312114715576, 3.043937594950088e-09
GELU_TANH_ZERO_HIGH, GELU_TANH_ZERO_LOW = 0.7524614334106445, -1.1339628272762046e-08

# Coefficients, lowest power first: rows of the same name in benchmarks/coefficients.py, which derives them.
# With M(a) = exp(a^2 / 2) Phi(-a), Phi the normal distribution:
# GELU_TAIL: (2 a + 3) M(a) = 1 + P(4 a / (2 a + 3) - 1), relative error 2^-26.2 and, in float64, 2^-50.3
GELU_TAIL = (
    0.234684,
    -0.39019892,
    -0.114991404,
    0.035792165,
    0.03528588,
    0.007982777,
    -0.0048876777,
    -0.005441117,
    -0.0020534087,
    0.0005292348,
    0.0009145854,
    0.00028782574,
)
GELU_TAIL_64 = (
    0.2346840018643683,
    -0.3901990369717382,
    -0.11499090479961135,
    0.03579603838141738,
    0.03527816236604318,
    0.00794417564883018,
    -0.004850465430930976,
    -0.005271048572484072,
    -0.0021044261492832563,
    0.00016453438709131027,
    0.0008422660975964053,
    0.0006297982477385608,
    0.0002285356321045815,
    -3.48043728708529e-05,
    -0.00012232818176226978,
    -0.00010563951604873719,
    -4.687631945735193e-05,
    8.605545148451984e-06,
    1.7404253323210697e-05,
    -4.101547642473427e-06,
    5.798873477222938e-06,
    2.983262362019684e-05,
    9.667321586348778e-06,
    -2.127005103834779e-05,
    -1.2752877961235648e-05,
    5.654459475596701e-06,
    4.794055326071918e-06,
    -4.5784513267020154e-07,
    -5.962884535603884e-07,
)
# GELU_SLOPE: M(a) - a / sqrt(2 pi) = (z - a) P(2 a / (a + 3) - 1), relative error 2^-26.7 and 2^-52.0
GELU_SLOPE = (
    0.47829768,
    -0.11997544,
    0.05359615,
    -0.014074469,
    0.00020360558,
    0.0010927005,
    -9.26439e-05,
    -0.00012290927,
    4.3518885e-06,
    1.1264251e-05,
)
GELU_SLOPE_64 = (
    0.47829767775524845,
    -0.11997542713544342,
    0.05359610983496228,
    -0.014074772490328001,
    0.00020407134832459029,
    0.0010950104750753861,
    -9.407407680202224e-05,
    -0.0001300243360280694,
    4.764544464784757e-06,
    2.0092661180836298e-05,
    2.5396803626270307e-06,
    -3.0181526121164228e-06,
    -1.238840558980445e-06,
    2.458763872431494e-07,
    3.398413660889537e-07,
    6.243604534047095e-08,
    -5.41768918741246e-08,
    -3.198144836041328e-08,
    5.678298573181045e-10,
    5.284854935593642e-09,
    1.2908121432041224e-09,
)

# Derivatives f'(-a) = u P(u) about their zeros, u = z - a, in float32: MISH_SLOPE on -0.5 <= u <= 1.12, relative
# error 2^-23.9; GELU_TANH_SLOPE on -0.45 <= u <= 0.4, relative error 2^-24.2
MISH_SLOPE = (
    0.26694793,
    0.20473127,
    0.0419078,
    -0.020272143,
    -0.015820561,
    -0.0033570724,
    0.0010858171,
    0.0009759772,
    0.00028699604,
    -3.4844263e-05,
    -0.000112376634,
    2.0599346e-05,
)
GELU_TANH_SLOPE = (
    0.4304001,
    0.38751844,
    -0.015782805,
    -0.11394394,
    -0.016620751,
    0.019670675,
    0.0052727526,
    -0.002328149,
    -0.0009373559,
)


def _size(x: jax.Array, end: tuple[float, float]) -> jax.Array:
    """Return |x|, at most the first end for float32, the second for float64."""
    return jnp.minimum(jnp.abs(x), end[0] if x.dtype == jnp.float32 else end[1])


def _reflected(x: jax.Array, left: jax.Array) -> jax.Array:
    """Return f(x) from f(-|x|), where f(x) - f(-x) = x; -0.0 at -0.0 and -inf."""
    return jnp.where(x < 0, -0.0, x) + left


def _reflected_derivative(x: jax.Array, left: jax.Array) -> jax.Array:
    """Return f'(x) from f'(-|x|), where f(x) - f(-x) = x."""
    return jnp.where(x < 0, left, 1 - left)


# gelu: x Phi(x)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _times_density(coefficients: tuple[float, ...], x: jax.Array) -> jax.Array:
    """Return P(x) phi(x), P a polynomial and phi the normal density: its derivative is (P'(x) - x P(x)) phi(x).

    The power of two is multiplied last, so that the product leaves the normal numbers only where the result does.
    """
    a = _size(x, GELU_END)
    p, k = _gauss(a)
    value = INV_SQRT_TAU * polynomial(coefficients, jnp.copysign(a, x))
    return times_power(value + value * p, k)


@_times_density.defjvp
def _times_density_jvp(coefficients: tuple[float, ...], primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    derivative = [0.0, *(-c for c in coefficients)]
    for n, c in enumerate(coefficients[1:]):
        derivative[n] += (n + 1) * c
    return _times_density(coefficients, x), dx * _times_density(tuple(derivative), x)


@jax.custom_jvp
def gelu_derivative(x: jax.Array) -> jax.Array:
    """Return Phi(x) + x phi(x), on the left exp(-a^2 / 2) (z - a) P: exact about its zero -z."""
    a = _size(x, GELU_END)
    t = 2 * jnp.minimum(a / (a + 3), 1) - 1  # the bound never acts: see gelu
    slope = polynomial(GELU_SLOPE if x.dtype == jnp.float32 else GELU_SLOPE_64, t)
    value = ((ZERO_HIGH - a) + ZERO_LOW) * slope
    p, k = _gauss(a)
    return _reflected_derivative(x, times_power(value + value * p, k))


gelu_derivative.defjvps(lambda dx, y, x: dx * _times_density((2.0, 0.0, -1.0), x))


@jax.custom_jvp
def gelu(x: jax.Array) -> jax.Array:
    """Return x Phi(x), on the left -q (1 + P(q - 1)) exp(-a^2 / 2) / 4 with q = 4 a / (2 a + 3).

    The rounding error of q's denominator is taken off again where it counts, near 0: it enters the result times
    1 / 3 at a = 0 and less and less further out, 1 / 3 - 0.21 q to a few hundredths.

    Two bounds never act. XLA simplifies (2 a + 3) - 3 to 2 a, but not with a maximum between; and for a CPU it
    ends a kernel at a quotient that is used twice, and writes it to memory, but not at a minimum.
    """
    a = _size(x, GELU_END)
    denominator = jnp.maximum(2 * a + 3, 3)
    q = jnp.minimum(4 * a / denominator, 2)
    error = 2 * a - (denominator - 3)
    tail = polynomial(GELU_TAIL if x.dtype == jnp.float32 else GELU_TAIL_64, q - 1)
    p, k = _gauss(a)
    rest = tail + (p * tail + (p - error * (1 / 3 - 0.2125 * q)))
    return _reflected(x, 0.25 * times_power(-(q + q * rest), k))


gelu.defjvps(lambda dx, y, x: dx * gelu_derivative(x))


def _gauss(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return p and k with exp(-a^2 / 2) = 2^k (1 + p), a^2 = h^2 + (a - h) (a + h) with h^2 exact."""
    h, rest = split(a)
    return reduced_exp(-0.5 * (h * h), -0.5 * (rest * (a + h)))


# silu: x sigmoid(x); gelu's tanh form: x sigmoid(x (C1 + C2 x^2))


def _silu_second_derivative(x: jax.Array) -> jax.Array:
    """Return sigmoid'(x) (2 - x tanh(x / 2))."""
    x = jnp.clip(x, -2000, 2000)
    return _times_sigmoid_derivative(2 - x * tanh(0.5 * x), x)


@jax.custom_jvp
def silu_derivative(x: jax.Array) -> jax.Array:
    """Return s (1 + x (1 - s)) with s = sigmoid(x)."""
    a = _size(x, EXP_END)
    return _reflected_derivative(x, _left_gate_derivative(-a, 1 - a, *reduced_exp(a)))


silu_derivative.defjvps(lambda dx, y, x: dx * _silu_second_derivative(x))


@jax.custom_jvp
def _silu(x: jax.Array) -> jax.Array:
    a = _size(x, EXP_END)
    return _reflected(x, _left_sigmoid(-a, *reduced_exp(a)))


_silu.defjvps(lambda dx, y, x: dx * silu_derivative(x))


def silu(x: jax.Array) -> jax.Array:
    """Return x / (1 + exp(-x))."""
    if jnp.isrealobj(x):
        return _silu(x)
    return jnp.where(x.real == -jnp.inf, -0.0, x) * complex_sigmoid(x)


@jax.custom_jvp
def _gelu_tanh_second_derivative(x: jax.Array) -> jax.Array:
    """Return the derivative of s + x v s' with s = sigmoid(z), v = dz/dx, z the cubic: s' times the curvature."""
    x = jnp.clip(x, -50, 50)
    return _times_sigmoid_derivative(_gelu_tanh_curvature(x), x * (C1 + C2 * x * x))


def _gelu_tanh_curvature(x: jax.Array) -> jax.Array:
    """Return 2 v + x v' - x v^2 tanh(z / 2)."""
    w = x * x
    v = C1 + 3 * C2 * w
    return 2 * C1 + 12 * C2 * w - x * v * v * tanh(0.5 * x * (C1 + C2 * w))


def _gelu_tanh_third_derivative(x: jax.Array) -> jax.Array:
    """Return s' (c' - v tanh(z / 2) c) with the curvature c, of which s'' = -s' v tanh(z / 2)."""
    x = jnp.clip(x, -50, 50)
    curvature, change = jax.jvp(_gelu_tanh_curvature, (x,), (jnp.ones_like(x),))
    w = x * x
    z, v = x * (C1 + C2 * w), C1 + 3 * C2 * w
    return _times_sigmoid_derivative(change - v * tanh(0.5 * z) * curvature, z)


_gelu_tanh_second_derivative.defjvps(lambda dx, y, x: dx * _gelu_tanh_third_derivative(x))


@jax.custom_jvp
def gelu_tanh_derivative(x: jax.Array) -> jax.Array:
    """Return s (1 + x v (1 - s)) with s = sigmoid(z), v = dz/dx, z = x (C1 + C2 x^2)."""
    a = _size(x, GELU_TANH_END)
    high, low, (v, v_rest) = _gelu_tanh_argument(a)
    u, w = -a * (v + v_rest), (1 - a * v) - a * v_rest
    left = _left_gate_derivative(u, w, *reduced_exp(high, low))
    if x.dtype == jnp.float32:
        distance = (GELU_TANH_ZERO_HIGH - a) + GELU_TANH_ZERO_LOW
        near = distance * polynomial(GELU_TANH_SLOPE, distance)
        left = jnp.where(jnp.abs(distance) < 0.4, near, left)
    return _reflected_derivative(x, left)


gelu_tanh_derivative.defjvps(lambda dx, y, x: dx * _gelu_tanh_second_derivative(x))


@jax.custom_jvp
def gelu_tanh(x: jax.Array) -> jax.Array:
    """Return x (1 + tanh(u)) / 2 = x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3)."""
    a = _size(x, GELU_TANH_END)
    high, low, _ = _gelu_tanh_argument(a)
    return _reflected(x, _left_sigmoid(-a, *reduced_exp(high, low)))


gelu_tanh.defjvps(lambda dx, y, x: dx * gelu_tanh_derivative(x))


def _gelu_tanh_argument(a: jax.Array) -> tuple[jax.Array, jax.Array, tuple[jax.Array, jax.Array]]:
    """Return z = a (C1 + C2 a^2) in two parts, to 2^-31 of itself (float64: 2^-60), and dz/da likewise.

    dz/da = C1 + 3 C2 a^2 = 3 (C1 + C2 a^2) - 2 C1. With a = h + rest, and a^2 and C1 + C2 a^2 likewise, the
    high parts have half the digits; the products h^2, C2_HIGH * (high part of a^2) and the result's high part
    are exact.
    """
    h, rest = split(a)
    hh = h * h
    square, square_rest = split(hh)
    square_rest += rest * (a + h)
    factor, _ = split(C1 + C2 * hh)
    factor_rest = ((C1_HIGH - factor) + C2_HIGH * square) + (C2 * square_rest + (C2_LOW * square + C1_LOW))
    derivative = 3 * factor - 2 * C1_HIGH, 3 * factor_rest - 2 * C1_LOW
    return h * factor, rest * factor + a * factor_rest, derivative


def _left_sigmoid(x: jax.Array, p: jax.Array, k: jax.Array) -> jax.Array:
    """Return x / (1 + e) for e = 2^k (1 + p) >= 1, as x / (1 + (2^-k + p)) * 2^-k."""
    return times_power(x / (1 + (times_power(1.0, -k) + p)), -k)


def _left_gate_derivative(u: jax.Array, w: jax.Array, p: jax.Array, k: jax.Array) -> jax.Array:
    """Return s (1 + u (1 - s)) = s (w - u s) for s = 1 / (1 + e), e = 2^k (1 + p) >= 1, w = 1 + u.

    With s = 2^-k r, a rounding error d of the denominator 1 / r enters as -d r^2 (w - 2 u s) 2^-k.
    """
    denominator, error = _left_denominator(p, k)
    r = 1 / denominator
    us = u * times_power(r, -k)
    return times_power(r * (w - (us + error * r * (w - 2 * us))), -k)


def _left_denominator(p: jax.Array, k: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return 1 + (2^-k + p) and the rounding error of the sum with 1, for k >= 0.

    The bound never acts; without it XLA simplifies (1 + rest) - 1 to rest.
    """
    rest = times_power(1.0, -k) + p
    denominator = jnp.maximum(1 + rest, 0.5)
    return denominator, rest - (denominator - 1)


# mish: x tanh(softplus(x))


def _mish_second_derivative(x: jax.Array) -> jax.Array:
    """Return g' (2 + x (1 - s - 2 g s)) with the gate g = tanh(softplus(x)) and s = sigmoid(x)."""
    x = jnp.clip(x, -2000, 2000)
    t = exp(-jnp.abs(x))
    negative = x < 0
    d = jnp.where(negative, 2 + t * (2 + t), 1 + 2 * t * (1 + t))
    gate = jnp.where(negative, t * (2 + t), 1 + 2 * t) / d
    s = jnp.where(negative, t, 1) / (1 + t)
    factor = 4 * (1 + t) * jnp.where(negative, 1, t) / (d * d) * (2 + x * (1 - s - 2 * gate * s))
    return scaled_exp(factor, -jnp.abs(x))


@jax.custom_jvp
def mish_derivative(x: jax.Array) -> jax.Array:
    """Return the derivative of x e (e + 2) / d with e = exp(x) and d = e^2 + 2 e + 2.

    On the left it is e (4 (1 + x) + e (6 + 4 x + e (4 + e))) / d^2; on the right, with t = exp(-x) and
    d = 1 + 2 t + 2 t^2, it is 1 + 2 t^2 (2 x (1 + t) - d) / d^2. The rounding errors of d's two sums would
    count twice and are taken off again.
    """
    a = _size(x, EXP_END)
    p, k = reduced_exp(-a)
    power = times_power(1.0, k)
    t = power + power * p
    negative = x < 0
    constant = jnp.where(negative, 2.0, 1.0)
    square = t * t * (3 - constant)
    rest = 2 * t + square
    d = constant + rest
    error = (rest - (d - constant)) + (square - (rest - 2 * t))
    left = 4 * (1 - a) + t * ((6 - 4 * a) + t * (4 + t))
    right = 2 * t * t * (2 * a * (1 + t) - d)
    value = jnp.where(negative, left, right) / (d * d + 2 * d * error)
    value = jnp.maximum(value, -1e4)  # the bound never acts: see gelu
    left = times_power(value + value * p, k)
    if x.dtype == jnp.float32:
        distance = (MISH_ZERO_HIGH - a) + MISH_ZERO_LOW
        near = distance * polynomial(MISH_SLOPE, distance)
        left = jnp.where(jnp.abs(distance - 0.3) < 0.8, near, left)
    return jnp.where(negative, left, 1 + value)


mish_derivative.defjvps(lambda dx, y, x: dx * _mish_second_derivative(x))


@jax.custom_jvp
def mish(x: jax.Array) -> jax.Array:
    """Return x tanh(log(1 + exp(x))) = x / (1 + 2 / (e (e + 2))), e = exp(x).

    In exp(|x|) = 2^k m, m = 1 + p and b = 2^-k, the denominator is on the left
    (1 + p + b / 2 + b^2 / (4 m + 2 b)) / b and on the right 1 + 2 b^2 / (m (m + 2 b)), where the product is
    (1 + 2 b) + p (2 + 2 b + p): sums with a largest term that is exact.
    """
    a = _size(x, EXP_END)
    p, k = reduced_exp(a)
    b = jnp.maximum(times_power(1.0, -k), 0)  # the bound never acts: it keeps XLA from taking b b as 2^2c 2^-128
    negative = x < 0
    rest = b * b / jnp.where(negative, 4 * p + (4 + 2 * b), 0.5 * ((1 + 2 * b) + p * ((2 + 2 * b) + p)))
    rest += jnp.where(negative, p + 0.5 * b, 0)
    value = jnp.maximum(jnp.where(negative, -a, x) / (1 + rest), -1e4)  # the bound never acts: see gelu
    return jnp.where(negative, times_power(value, -k), value)


mish.defjvps(lambda dx, y, x: dx * mish_derivative(x))


# glu: a sigmoid(b)


def _glu_ends(b: jax.Array) -> tuple[float, float]:
    """Return where exp(b) leaves the normal numbers, and where a exp(-b) does even for the largest a."""
    return (87.0, 180.0) if b.dtype == jnp.float32 else (708.0, 1460.0)


def _shrunk(value: jax.Array, n: jax.Array) -> jax.Array:
    """Return ``value`` * 2^-n for any size of ``value``: in three steps, none of which is below the normals."""
    largest = -jnp.finfo(value.dtype).minexp
    for _ in range(3):
        step = jnp.minimum(n, largest)
        value, n = value * power_of_two(-step), n - step
    return value


@jax.custom_jvp
def _times_sigmoid_derivative(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return a sigmoid'(b) = a m / (2^-k + m)^2 * 2^-k, where exp(|b|) = 2^k m, m = 1 + p."""
    _, high = _glu_ends(b)
    p, k = reduced_exp(jnp.minimum(jnp.abs(b), high))
    denominator, error = _left_denominator(p, jnp.minimum(k, 100))  # 2^-100 is nothing beside 1 + p
    gate = (1 + p) / (denominator * denominator + 2 * denominator * error)
    return jnp.where(jnp.isinf(b), a * 0, _shrunk(0.5 * a * gate, k - 1))  # a * gate may overflow


_times_sigmoid_derivative.defjvps(
    lambda da, y, a, b: da * _times_sigmoid_derivative(jnp.ones_like(b), b),
    lambda db, y, a, b: -db * tanh(0.5 * b) * _times_sigmoid_derivative(a, b),
)


@jax.custom_jvp
def glu(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return a sigmoid(b), right also where sigmoid(b) alone is below the normal numbers.

    With exp(-b) = 2^k (1 + p), n = max(k, 0) and m = min(k, 0), it is a / (1 + 2^m (2^-n + p)) * 2^-n.
    """
    low, high = _glu_ends(b)
    p, k = reduced_exp(jnp.clip(-b, -low, high))
    n = jnp.maximum(k, 0)
    power = power_of_two(k - n)
    denominator = 1 + power * (times_power(1.0, jnp.maximum(-n, -100)) + p)  # 2^-100 is nothing beside 1 + p
    half = (jnp.abs(a) > 1).astype(a.dtype)  # the quotient of a large a may overflow before it is shrunk
    # The gate of -inf is exactly 0, so that an infinite a times it is NaN.
    return jnp.where(b == -jnp.inf, a * 0, _shrunk(a * (1 - 0.5 * half) / denominator, n - half))


glu.defjvps(
    lambda da, y, a, b: da * glu(jnp.ones_like(b), b),
    lambda db, y, a, b: db * _times_sigmoid_derivative(a, b),
)

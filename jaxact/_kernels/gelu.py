"""gelu, x Phi(x) with the normal distribution Phi, its tanh form, x sigmoid(x (C1 + C2 x^2)), and their derivatives."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxact._kernels.compiler import kept_quotient, kept_sum
from jaxact._kernels.exponentials import reduced_exp
from jaxact._kernels.floats import polynomial, split, times_power
from jaxact._kernels.gates import left_gate_derivative, left_sigmoid, reflected, reflected_derivative, size_up_to
from jaxact._kernels.glu import times_sigmoid_derivative
from jaxact._kernels.tanh import tanh

INV_SQRT_TAU = 0.3989422804014327  # 1 / sqrt(2 pi)

# Where gelu(-a) is 0, in float32 and in float64: beyond, nothing changes any more.
GELU_END = (16.0, 38.7)

# gelu'(-z) = 0 for z = GELU_ZERO_HIGH + GELU_ZERO_LOW
GELU_ZERO_HIGH, GELU_ZERO_LOW = 0.7517915368080139, -1.211444945855772e-08

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

# The tanh form: C1 = 2 sqrt(2 / pi), C2 = 0.044715 C1. The high parts have 12 significant bits.
C1_HIGH, C1_LOW = 1.595703125, 6.599660573071176e-05
C2_HIGH, C2_LOW = 0.07135009765625, 4.718616350248776e-06
C1, C2 = C1_HIGH + C1_LOW, C2_HIGH + C2_LOW

# Likewise where it is 0, and the zero -z of its derivative.
GELU_TANH_END = (11.0, 21.5)
GELU_TANH_ZERO_HIGH, GELU_TANH_ZERO_LOW = 0.7524614334106445, -1.1339628272762046e-08

# GELU_TANH_SLOPE: its derivative at -a is u P(u) about the zero, u = z - a, in float32 on -0.45 <= u <= 0.4, relative
# error 2^-24.2
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


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _times_density(coefficients: tuple[float, ...], x: jax.Array) -> jax.Array:
    """Return P(x) phi(x), P a polynomial and phi the normal density: its derivative is (P'(x) - x P(x)) phi(x).

    The power of two is multiplied last, so that the product leaves the normal numbers only where the result does.
    """
    a = size_up_to(x, GELU_END)
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
    a = size_up_to(x, GELU_END)
    t = 2 * kept_quotient(a / (a + 3), at_most=1) - 1
    slope = polynomial(GELU_SLOPE if x.dtype == jnp.float32 else GELU_SLOPE_64, t)
    value = ((GELU_ZERO_HIGH - a) + GELU_ZERO_LOW) * slope
    p, k = _gauss(a)
    return reflected_derivative(x, times_power(value + value * p, k))


gelu_derivative.defjvps(lambda dx, y, x: dx * _times_density((2.0, 0.0, -1.0), x))


@jax.custom_jvp
def gelu(x: jax.Array) -> jax.Array:
    """Return x Phi(x), on the left -q (1 + P(q - 1)) exp(-a^2 / 2) / 4 with q = 4 a / (2 a + 3).

    The rounding error of q's denominator is taken off again where it counts, near 0: it enters the result times
    1 / 3 at a = 0 and less and less further out, 1 / 3 - 0.21 q to a few hundredths.
    """
    a = size_up_to(x, GELU_END)
    denominator = kept_sum(2 * a + 3, at_least=3)
    q = kept_quotient(4 * a / denominator, at_most=2)
    error = 2 * a - (denominator - 3)
    tail = polynomial(GELU_TAIL if x.dtype == jnp.float32 else GELU_TAIL_64, q - 1)
    p, k = _gauss(a)
    rest = tail + (p * tail + (p - error * (1 / 3 - 0.2125 * q)))
    return reflected(x, 0.25 * times_power(-(q + q * rest), k))


gelu.defjvps(lambda dx, y, x: dx * gelu_derivative(x))


def _gauss(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return p and k with exp(-a^2 / 2) = 2^k (1 + p), a^2 = h^2 + (a - h) (a + h) with h^2 exact."""
    h, rest = split(a)
    return reduced_exp(-0.5 * (h * h), -0.5 * (rest * (a + h)))


@jax.custom_jvp
def _gelu_tanh_second_derivative(x: jax.Array) -> jax.Array:
    """Return the derivative of s + x v s' with s = sigmoid(z), v = dz/dx, z the cubic: s' times the curvature."""
    x = jnp.clip(x, -50, 50)
    return times_sigmoid_derivative(_gelu_tanh_curvature(x), x * (C1 + C2 * x * x))


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
    return times_sigmoid_derivative(change - v * tanh(0.5 * z) * curvature, z)


_gelu_tanh_second_derivative.defjvps(lambda dx, y, x: dx * _gelu_tanh_third_derivative(x))


@jax.custom_jvp
def gelu_tanh_derivative(x: jax.Array) -> jax.Array:
    """Return s (1 + x v (1 - s)) with s = sigmoid(z), v = dz/dx, z = x (C1 + C2 x^2)."""
    a = size_up_to(x, GELU_TANH_END)
    high, low, (v, v_rest) = _gelu_tanh_argument(a)
    u, w = -a * (v + v_rest), (1 - a * v) - a * v_rest
    left = left_gate_derivative(u, w, *reduced_exp(high, low))
    if x.dtype == jnp.float32:
        distance = (GELU_TANH_ZERO_HIGH - a) + GELU_TANH_ZERO_LOW
        near = distance * polynomial(GELU_TANH_SLOPE, distance)
        left = jnp.where(jnp.abs(distance) < 0.4, near, left)
    return reflected_derivative(x, left)


gelu_tanh_derivative.defjvps(lambda dx, y, x: dx * _gelu_tanh_second_derivative(x))


@jax.custom_jvp
def gelu_tanh(x: jax.Array) -> jax.Array:
    """Return x (1 + tanh(u)) / 2 = x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3)."""
    a = size_up_to(x, GELU_TANH_END)
    high, low, _ = _gelu_tanh_argument(a)
    return reflected(x, left_sigmoid(-a, *reduced_exp(high, low)))


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

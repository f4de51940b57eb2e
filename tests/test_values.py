"""Values: equal to torch at every input; the distance to the exact value is test_accuracy.py's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jaxact
from jaxact.catalog import BY_NAME
from jaxact.interop.parity import ulp_distance
from oracle import ROWS, SHAPES, accepts, names, shaped, special_points, spread, torch_value

TINY = np.finfo(np.float32).tiny

# Functions that only select, or scale once, are torch's bit for bit.
SELECTING = {"relu", "relu6", "leaky_relu", "prelu", "rrelu", "threshold", "hardtanh", "hardshrink", "softshrink"}

# The bounds that the kernels hold on every input, in ULPs.
ULPS = dict.fromkeys(SELECTING, 0) | dict.fromkeys(("softmax", "softmin", "log_softmax", "softmax2d"), 4)

# torch's float64 values, the oracle here, cancel in the left tail of these: up to 1e-15 absolute.
CANCELLING = {"gelu", "mish"}


def assert_close(row, x, y):
    """Assert that y is torch's value at x, to the row's bound; subnormal results may be flushed."""
    if row.name in SELECTING:
        np.testing.assert_array_equal(y, torch_value(row, x))
        return
    exact = torch_value(row, x, torch.float64)
    expected = exact.astype(np.float32)
    assert y.dtype == expected.dtype
    assert y.shape == expected.shape
    distance = ulp_distance(y, expected)
    distance = np.where((np.abs(exact) < TINY) & (np.abs(y) <= TINY), 0, distance)
    if row.name in CANCELLING:
        distance = np.where(np.abs(y - exact) <= 1e-14, 0, distance)
    if row.family != "normalizing":  # where torch has no limit, jaxact has
        distance = np.where(np.isnan(exact) & ~np.isnan(x) & ~np.isnan(y), 0, distance)
    assert (distance <= ULPS.get(row.name, 2)).all(), (
        f"{distance.max()} ULP at {x.reshape(-1)[distance.argmax()] if x.shape == y.shape else x}: "
        f"{y.reshape(-1)[distance.argmax()]!r}, exact {exact.reshape(-1)[distance.argmax()]!r}"
    )


@pytest.mark.parametrize("row", ROWS)
class TestValues:
    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_random_inputs_of_every_shape(self, row, shape):
        if accepts(row, shape):
            x = spread(np.random.default_rng(0), shape)
            assert_close(row, x, np.asarray(row.function(x, **row.parameters)))
        else:
            with pytest.raises(ValueError, match=f"^{row.name}: "):
                row.function(np.zeros(shape, np.float32), **row.parameters)

    def test_many_random_inputs(self, row):
        x = spread(np.random.default_rng(1), (4, 16, 1024))
        assert_close(row, x, np.asarray(row.function(x, **row.parameters)))

    def test_special_points(self, row):
        x = shaped(row, special_points(row))
        assert_close(row, x, np.asarray(row.function(x, **row.parameters)))

    def test_jit_gives_what_the_eager_call_gives(self, row):
        x = shaped(row, special_points(row))
        eager = row.function(x, **row.parameters)
        jitted = jax.jit(lambda x: row.function(x, **row.parameters))(x)
        np.testing.assert_array_equal(eager, jitted)


@pytest.mark.parametrize("row", names(*SELECTING))
def test_selecting_functions_are_torch_bit_for_bit(row):
    x = spread(np.random.default_rng(2), 4096, low=-120, high=120)
    ours = np.asarray(row.function(x, **row.parameters))
    np.testing.assert_array_equal(ours.view(np.int32), torch_value(row, x).view(np.int32))


@pytest.mark.parametrize("row", names(*SELECTING - {"hardshrink", "softshrink", "threshold"}))
def test_zeros_keep_their_sign_where_torchs_do(row):
    x = np.float32([-0.0, 0.0])
    np.testing.assert_array_equal(np.signbit(row.function(x, **row.parameters)), np.signbit(torch_value(row, x)))


@pytest.mark.parametrize("slope", [0.01, 0.0, -0.5, 2.0, 1e30, np.inf])
def test_leaky_relu_at_unusual_slopes(slope):
    row = BY_NAME["leaky_relu"]
    x = np.float32([-3, -0.0, 0.0, 1e-30, -1e-30, 2, np.inf, -np.inf])
    expected = torch_value(row, x, negative_slope=slope)
    np.testing.assert_array_equal(row.function(x, slope), expected)
    np.testing.assert_array_equal(row.function(x, jnp.float32(slope)), expected)
    np.testing.assert_array_equal(jax.jit(row.function)(x, slope), expected)


@pytest.mark.parametrize(("name", "sign"), [("sigmoid", None), ("tanh", -1)], ids=["sigmoid", "tanh"])
def test_monotone_and_odd(name, sign):
    row = BY_NAME[name]
    x = np.sort(np.abs(spread(np.random.default_rng(3), 200_000)))
    up, down = np.asarray(row.function(x)), np.asarray(row.function(-x))
    assert (np.diff(up) >= 0).all()
    assert (np.diff(down) <= 0).all()
    if sign is not None:
        np.testing.assert_array_equal(down, sign * up)


def test_exact_points():
    assert float(jaxact.sigmoid(0.0)) == 0.5
    assert str(jaxact.tanh(-0.0)) == "-0.0"


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -3])
def test_softmax_along_every_axis(dim):
    row = BY_NAME["softmax"]
    x = spread(np.random.default_rng(4), (3, 4, 5), high=3)
    y = np.asarray(row.function(x, dim))
    np.testing.assert_allclose(y, torch_value(row, x, torch.float64, dim=dim), rtol=4 * 2**-23)
    np.testing.assert_allclose(y.sum(dim), 1, atol=2**-22)


def test_softmax_of_infinite_rows():
    row = BY_NAME["softmax"]
    inf, nan = np.inf, np.nan
    x = np.float32([[-inf, -inf, -inf], [inf, 0, 0], [inf, inf, 0], [-inf, 0, 0], [nan, 0, 1], [1e38, -1e38, 0]])
    np.testing.assert_array_equal(row.function(x, 1), torch_value(row, x, dim=1))


def test_softmax_rows_of_1024():
    row = BY_NAME["softmax"]
    x = np.random.default_rng(5).standard_normal((256, 1024)).astype(np.float32)
    y = np.asarray(row.function(x, -1))
    assert_close(row, x, y)
    sums = y.astype(np.float64).sum(-1)
    assert (np.abs(sums - 1) <= 2 * np.finfo(np.float32).eps).all()

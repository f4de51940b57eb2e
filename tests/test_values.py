"""Values: equal to torch at every input, or nearer to the exact value than torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from oracle import ROWS, names, special_points, spread, torch_value

import jaxact
from jaxact.catalog import BY_NAME
from jaxact.interop.parity import ulp_distance

TINY = np.finfo(np.float32).tiny

# The bound of each kernel over all of float32, in ULPs; a function that only selects or scales is exact.
ULPS = {"relu": 0, "leaky_relu": 0, "softmax": 4}
SHAPES = [(), (0,), (1,), (7,), (3, 5), (2, 0, 3), (2, 3, 4), (2, 3, 4, 5), (2, 1, 3, 2, 4)]


def assert_close(y, exact, ulps):
    """Assert that y is within so many ULPs of the float64 array exact; subnormal results may be flushed."""
    expected = exact.astype(np.float32)
    assert y.dtype == expected.dtype
    assert y.shape == expected.shape
    distance = np.where(np.abs(exact) < TINY, np.where(np.abs(y) <= TINY, 0, np.inf), ulp_distance(y, expected))
    worst = np.unravel_index(distance.argmax(), distance.shape) if distance.size else None
    assert (distance <= ulps).all(), f"{distance[worst]} ULP: {y[worst]!r}, exact {exact[worst]!r}"


@pytest.mark.parametrize("row", ROWS)
class TestValues:
    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_random_inputs_of_every_shape(self, row, shape):
        x = spread(np.random.default_rng(0), shape)
        y = np.asarray(row.function(x, **row.parameters))
        assert_close(y, torch_value(row, x, torch.float64), ULPS.get(row.name, 2))

    def test_many_random_inputs(self, row):
        x = spread(np.random.default_rng(1), (64, 1024))
        y = np.asarray(row.function(x, **row.parameters))
        assert_close(y, torch_value(row, x, torch.float64), ULPS.get(row.name, 2))

    def test_special_points(self, row):
        x = special_points(row)[:, None]
        y = np.asarray(row.function(x, **row.parameters))
        assert_close(y, torch_value(row, x, torch.float64), ULPS.get(row.name, 2))

    def test_jit_gives_what_the_eager_call_gives(self, row):
        x = special_points(row)[:, None]
        eager = row.function(x, **row.parameters)
        jitted = jax.jit(lambda x: row.function(x, **row.parameters))(x)
        np.testing.assert_array_equal(eager, jitted)


@pytest.mark.parametrize("row", names("relu", "leaky_relu"))
def test_selecting_functions_are_torch_bit_for_bit(row):
    x = np.concatenate([special_points(row)[:-1], spread(np.random.default_rng(2), 4096, low=-120, high=120)])
    ours = np.asarray(row.function(x, **row.parameters))
    np.testing.assert_array_equal(ours.view(np.int32), torch_value(row, x).view(np.int32))


@pytest.mark.parametrize("slope", [0.01, 0.0, -0.5, 2.0, 1e30, np.inf])
def test_leaky_relu_at_unusual_slopes(slope):
    row = BY_NAME["leaky_relu"]
    x = np.float32([-3, -0.0, 0.0, 1e-30, -1e-30, 2, np.inf, -np.inf])
    expected = torch_value(row, x, negative_slope=slope)
    np.testing.assert_array_equal(row.function(x, slope), expected)
    np.testing.assert_array_equal(row.function(x, jnp.float32(slope)), expected)
    np.testing.assert_array_equal(jax.jit(row.function)(x, slope), expected)


@pytest.mark.parametrize(
    ("name", "sign"), [("sigmoid", None), ("tanh", -1)], ids=["sigmoid", "tanh"]
)
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
    assert_close(y, torch_value(row, x, torch.float64, dim=dim), 4)
    np.testing.assert_allclose(y.sum(dim), 1, atol=2**-22)


def test_softmax_of_infinite_rows():
    row = BY_NAME["softmax"]
    inf, nan = np.inf, np.nan
    x = np.float32([[-inf, -inf, -inf], [inf, 0, 0], [inf, inf, 0], [-inf, 0, 0], [nan, 0, 1], [1e38, -1e38, 0]])
    np.testing.assert_array_equal(row.function(x, 1), torch_value(row, x, dim=1))


def test_softmax_rows_of_1024(rng=np.random.default_rng(5)):
    row = BY_NAME["softmax"]
    x = rng.standard_normal((256, 1024)).astype(np.float32)
    y = np.asarray(row.function(x, -1))
    assert_close(y, torch_value(row, x, torch.float64), 4)
    sums = y.astype(np.float64).sum(-1)
    assert (np.abs(sums - 1) <= 2 * np.finfo(np.float32).eps).all()

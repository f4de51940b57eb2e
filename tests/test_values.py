"""Values: equal to torch at every input; the distance to the exact value is test_accuracy.py's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxact.catalog import BY_NAME
from jaxact.interop.ulps import ulp_distance
from oracle import ROWS, SELECTING, SHAPES, accepts, flushed, names, shaped, special_points, spread, torch_value

TINY = np.finfo(np.float32).tiny

# The bounds that the kernels hold on every input, in ULPs.
ULPS = dict.fromkeys(SELECTING, 0) | dict.fromkeys(("softmax", "softmin", "log_softmax", "softmax2d"), 4)

# torch's float64 values, the oracle here, cancel in these where they are small: up to 1e-15 absolute. The sum in
# log_softmax, which is 1 or little more where its result is small, rounds to 1.2e-7 a few times.
ABSOLUTE = dict.fromkeys(("gelu", "mish", "tanhshrink"), 1e-14) | {"log_softmax": 2.4e-7}


def assert_close(row, x, y):
    """Assert that y is torch's value at x, to the row's bound; subnormal results may be flushed."""
    if row.name in SELECTING:
        np.testing.assert_array_equal(flushed(y), flushed(torch_value(row, x)))
        return
    exact = torch_value(row, x, torch.float64)
    with np.errstate(over="ignore"):
        expected = exact.astype(np.float32)
    assert y.dtype == expected.dtype
    assert y.shape == expected.shape
    distance = ulp_distance(y, expected)
    distance = np.where((np.abs(exact) < TINY) & (np.abs(y) <= TINY), 0, distance)
    if row.name in ABSOLUTE:
        distance = np.where(np.isclose(y, exact, rtol=0, atol=ABSOLUTE[row.name]), 0, distance)
    if row.family != "normalizing":  # where torch has no limit, jaxact has
        given = np.isnan(x) if x.shape == y.shape else np.isnan(x).any(-1, keepdims=True)
        distance = np.where(np.isnan(exact) & ~given & ~np.isnan(y), 0, distance)
    worst = np.unravel_index(distance.argmax(), distance.shape) if distance.size else ()
    assert (distance <= ULPS.get(row.name, 2)).all(), f"{distance[worst]} ULP: {y[worst]!r}, exact {exact[worst]!r}"


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
    np.testing.assert_array_equal(flushed(ours).view(np.int32), flushed(torch_value(row, x)).view(np.int32))


@pytest.mark.parametrize("row", [row for row in ROWS if row.id != "softmax2d"])
def test_one_element_at_a_time_gives_what_an_array_gives(row):
    """XLA rewrites a kernel of one element by other rules than one of many, so its rounding may differ."""
    x = shaped(row, np.concatenate([spread(np.random.default_rng(3), 60, low=-4), special_points(row)]))
    together = np.asarray(row.function(x, **row.parameters))
    apart = np.concatenate([row.function(x[i : i + 1], **row.parameters) for i in range(len(x))])
    distance = ulp_distance(together, apart)
    subnormal = np.abs(torch_value(row, x, torch.float64)) < TINY
    distance = np.where(subnormal & (np.abs(together) <= TINY) & (np.abs(apart) <= TINY), 0, distance)
    assert (distance <= 2).all(), (x[distance > 2], together[distance > 2], apart[distance > 2])


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


@pytest.mark.parametrize("length", [5, 1024])  # XLA computes long rows by other code than short ones
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("row", names("softmax", "softmin", "log_softmax"))
def test_special_values_in_rows_of_the_softmax_family(row, dim, dtype, length):
    specials = np.float32([np.nan, np.inf, -np.inf, 1e38, -1e38])
    x = np.random.default_rng(5).normal(size=(2 * specials.size + 1, length)).astype(np.float32)
    x[: specials.size, length // 2] = specials
    x[specials.size : -1, :] = specials[:, None]
    x = (x if dim == 1 else x.T).astype(dtype)
    y = np.asarray(row.function(x, dim)).astype(np.float32)
    expected = torch_value(row, x, dim=dim).astype(np.float32)
    np.testing.assert_allclose(y, expected, rtol=1e-5 if dtype == "float32" else 2**-7, atol=1e-37)

"""Limits: over all exponents, NaN and infinity stand where the exact result has them, and nowhere else.

Values, first and second derivatives, in every dtype. Results that are 0, 1 or subnormal are results too; how near a
result is to the exact one is the question of test_accuracy.py.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxact
from jaxact.catalog import BY_NAME
from oracle import ROWS, names

DTYPES = ("float16", "bfloat16", "float32", "float64")
PARAMETERS = {
    "elu": [{"alpha": 1e-3}, {"alpha": 1e3}],
    "celu": [{"alpha": 1e-3}, {"alpha": 1e3}, {"alpha": np.inf}],
    "softplus": [{"beta": 0.01}, {"beta": 50.0}, {"beta": 1.0, "threshold": 1e4}],
    "gelu": [{"approximate": "tanh"}],
}
CASES = [
    pytest.param(row.values[0], parameters, id=f"{row.id}-{'-'.join(map(str, parameters.values()))}")
    for row in ROWS
    if row.values[0].elementwise
    for parameters in [row.values[0].parameters, *PARAMETERS.get(row.id, ())]
]


def numbers(dtype):
    """Return numbers of every exponent, subnormal ones too, and of both signs; zeros and infinities."""
    info = jnp.finfo(dtype)
    exponents = np.arange(info.minexp - info.nmant, info.maxexp)
    positive = [np.ldexp(mantissa, exponents) for mantissa in (1.0, 1.371, 1.93)]
    positive = np.concatenate([[0.0], *positive, np.linspace(1, 2000, 500), [float(info.max), np.inf]])
    with np.errstate(over="ignore"):
        return np.concatenate([-positive, positive]).astype(dtype)


def float64(parts):
    return [np.asarray(part, np.float64) for part in parts]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("row", "parameters"), CASES)
def test_elementwise(row, parameters, dtype, x64):
    x = numbers(dtype)
    function = functools.partial(row.function, **parameters)
    first = jax.grad(function)
    value, *slopes = float64(jax.jit(lambda x: [jax.vmap(f)(x) for f in (function, first, jax.grad(first))])(x))
    # Towards an infinity that is in its range, each of these functions is x, or x times selu's scale.
    down = row.range.startswith("(-inf") or parameters.get("alpha") == np.inf
    up = row.range.endswith("inf)")
    with np.errstate(over="ignore"):
        far = np.isinf((x.astype(np.float64) * (1.0507 if row.name == "selu" else 1)).astype(x.dtype))
    expected = far & np.where(x > 0, up, down)
    np.testing.assert_array_equal(np.isinf(value), expected, str(x[np.isinf(value) != expected]))
    for order, y in (("value", value), ("first", slopes[0]), ("second", slopes[1])):
        assert not np.isnan(y).any(), (order, x[np.isnan(y)])
        assert order == "value" or np.isfinite(y).all(), (order, x[np.isinf(y)])


@pytest.mark.parametrize("dtype", DTYPES)
def test_glu(dtype, x64):
    """Its first half is finite; its gate may have any argument."""
    b = numbers(dtype)
    for a in (0.0, -1.5, 3e4):
        x = jnp.stack([jnp.full(b.shape, a, dtype), jnp.asarray(b)], -1)

        def loss(x):
            return jnp.sum(jaxact.glu(x).astype(jnp.float64))

        for y in float64([jaxact.glu(x), jax.grad(loss)(x), jax.grad(lambda x: jnp.sum(jax.grad(loss)(x)))(x)]):
            assert np.isfinite(y).all(), (a, b[~np.isfinite(y).all(-1)])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("row", names("softmax", "softmin", "log_softmax"))
def test_rows(row, dtype, x64):
    """A row whose largest number, in softmin the least, is infinite is NaN, as in torch; no other row is."""
    x = numbers(dtype)
    x = np.stack([x, np.roll(x, 3), -x, np.zeros_like(x)], -1)
    x = np.concatenate([x, np.where(x > 0, -np.inf, x)[np.isfinite(x).all(-1)].astype(dtype)])
    c = np.broadcast_to(np.array([1.0, -2.0, 0.5, 3.0]).astype(dtype), x.shape)

    def gradient(x):
        _, pull_back = jax.vjp(lambda x: row.function(x, -1), x)
        return pull_back(jnp.asarray(c))[0]

    y, first, second = float64([row.function(x, -1), gradient(x), jax.grad(lambda x: jnp.sum(gradient(x) * c))(x)])
    wide = x.astype(np.float64) * (-1 if row.name == "softmin" else 1)
    largest = wide.max(-1, keepdims=True)
    undefined = np.broadcast_to(np.isinf(largest), x.shape)
    for part in (y, first, second):
        np.testing.assert_array_equal(np.isnan(part), undefined)
    with np.errstate(over="ignore", invalid="ignore"):
        infinite = np.isinf((wide - largest).astype(dtype)) & (row.name == "log_softmax")
    np.testing.assert_array_equal(np.isinf(y), infinite & ~undefined)
    assert not np.isinf(first).any()
    assert not np.isinf(second).any()


def test_the_numbers_reach_everywhere():
    x = numbers("float64")
    assert np.isinf(x).sum() == 2
    assert {5e-324, 0.0, float(np.finfo(float).max)} <= set(x)
    assert np.unique(np.frexp(x[x > 0])[1]).size == 2098
    assert BY_NAME["tanh"].range == "(-1, 1)"  # so that nothing infinite is expected of it

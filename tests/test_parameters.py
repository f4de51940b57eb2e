"""Parameters: at unusual values, hit exactly, traced, batched and differentiated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.test_util import check_grads

import jaxact
from jaxact.catalog import BY_NAME
from oracle import SELECTING, flushed, special_points, spread, torch_gradient, torch_value

INF, NAN = np.inf, np.nan

UNUSUAL = {
    "leaky_relu": [{"negative_slope": s} for s in (0.01, 0.0, -0.5, 2.0, 1e30, INF, 1)],
    "prelu": [{"weight": w} for w in (0.0, -0.5, 2.0)],
    "rrelu": [{}, {"lower": 0.0, "upper": 0.0}, {"lower": -1.0, "upper": 3.0}],
    "threshold": [
        {"threshold": t, "value": v} for t, v in ((0.0, 0.0), (1.0, -7.0), (-1.0, INF), (1.0, NAN), (NAN, 1.0))
    ],
    "elu": [{"alpha": a} for a in (1.0, 0.0, -1.5, 1e-30, 100.0)],
    "celu": [{"alpha": a} for a in (1.0, -2.0, 1e-3, 1e3)],
    "softplus": [
        {"beta": b, "threshold": t}
        for b, t in ((1.0, 20.0), (0.1, 20.0), (50.0, 20.0), (1000.0, 20.0), (1.0, 0.0), (1.0, -5.0), (-1.0, 20.0))
    ],
    "hardtanh": [{"min_val": a, "max_val": b} for a, b in ((0.0, 6.0), (1.0, 1.0), (-INF, INF), (-3.0, -1.0))],
    "hardshrink": [{"lambd": v} for v in (0.0, 1.0, -1.0, INF)],
    "softshrink": [{"lambd": v} for v in (0.0, 1.0, 1e30)],
    "gelu": [{"approximate": "tanh"}, {"approximate": "none"}],
}
CASES = [
    pytest.param(BY_NAME[name], parameters, id=f"{name}-{'-'.join(map(str, parameters.values()))}")
    for name, several in UNUSUAL.items()
    for parameters in several
]
TRACEABLE = [case for case in CASES if case.values[1] and case.values[0].name != "gelu"]


def inputs(parameters):
    """Return spread numbers, special points, and each parameter's own value and its neighbours."""
    hit = np.float32([v for v in parameters.values() if isinstance(v, (int, float)) and np.isfinite(v)])
    hit = np.concatenate([hit, -hit])
    around = np.concatenate([hit, np.nextafter(hit, np.float32(INF)), np.nextafter(hit, np.float32(-INF))])
    around = around[(around == 0) | (np.abs(around) > 1e-37)]
    return np.concatenate([spread(np.random.default_rng(0), 500), special_points(BY_NAME["relu"])[:-1], around])


def assert_torchs(row, ours, theirs, exact):
    """Assert bit for bit equality for a selecting function, and float32 rounding for any other."""
    if row.name in SELECTING:
        np.testing.assert_array_equal(flushed(ours), flushed(theirs))
        return
    finite_limit = np.isnan(theirs) & ~np.isnan(ours)
    np.testing.assert_allclose(ours, np.where(finite_limit, ours, exact), rtol=2e-6, atol=1e-12)


@pytest.mark.parametrize(("row", "parameters"), CASES)
class TestUnusualValues:
    def test_value(self, row, parameters):
        x = inputs(parameters)
        ours = np.asarray(row.function(x, **parameters))
        assert_torchs(row, ours, torch_value(row, x, **parameters), torch_value(row, x, torch.float64, **parameters))

    def test_gradient(self, row, parameters):
        x = inputs(parameters)
        c = np.random.default_rng(1).standard_normal(x.shape).astype(np.float32)
        ours = np.asarray(jax.vjp(lambda x: row.function(x, **parameters), x)[1](jnp.asarray(c))[0])
        theirs, exact = (torch_gradient(row, x, c, dtype, **parameters) for dtype in (None, torch.float64))
        finite_limit = np.isnan(theirs) & ~np.isnan(ours)
        near = np.isclose(ours, theirs, rtol=2e-6, atol=1e-7, equal_nan=True)
        nearer = np.isclose(ours, exact, rtol=2e-6, atol=1e-12, equal_nan=True)
        wrong = ~(finite_limit | near | nearer)
        assert not wrong.any(), (x[wrong], ours[wrong], theirs[wrong])


@pytest.mark.parametrize(("row", "parameters"), TRACEABLE)
class TestTraced:
    def test_traced_as_arrays_under_jit(self, row, parameters):
        x = inputs(parameters)
        arrays = {key: jnp.float32(value) for key, value in parameters.items()}
        eager = row.function(x, **parameters)
        for traced in (
            jax.jit(row.function)(x, **arrays),
            row.function(x, **arrays),
            row.function(x, *arrays.values()),
        ):
            np.testing.assert_allclose(traced, eager, rtol=2e-7)

    def test_vmap_over_the_parameters(self, row, parameters):
        x = np.linspace(-3, 3, 13, dtype=np.float32)
        arrays = {key: jnp.full(2, value, jnp.float32) for key, value in parameters.items()}
        batched = jax.vmap(lambda p: row.function(x, **p))(arrays)
        np.testing.assert_allclose(batched, jnp.stack([row.function(x, **parameters)] * 2), rtol=2e-7)


LEARNED = {
    "leaky_relu": {"negative_slope": 0.3},
    "prelu": {"weight": 0.3},
    "rrelu": {"lower": 0.1, "upper": 0.4},
    "threshold": {"value": 0.3, "threshold": 0.1},
    "elu": {"alpha": 1.3},
    "celu": {"alpha": 1.3},
    "softplus": {"beta": 1.3, "threshold": 3.0},
    "hardtanh": {"min_val": -1.3, "max_val": 1.4},
    "hardshrink": {"lambd": 0.3},
    "softshrink": {"lambd": 0.3},
    "gumbel_softmax": {"tau": 0.7},
}


@pytest.mark.parametrize("name", LEARNED)
def test_learned_parameters_have_right_gradients(name, x64):
    x = np.array([-2.9, -1.1, -0.7, 0.05, 0.6, 1.1, 2.2])
    parameters = {key: jnp.float64(value) for key, value in LEARNED[name].items()}
    extra = {"key": jax.random.key(0)} if name == "gumbel_softmax" else {}
    check_grads(lambda p, x: getattr(jaxact, name)(x, **p, **extra), (parameters, x), order=2, modes=("fwd", "rev"))


@pytest.mark.parametrize("name", sorted(LEARNED.keys() - {"gumbel_softmax"}))
def test_a_parameters_gradient_is_finite_at_infinite_inputs(name):
    x = np.float32([INF, 1.0])
    gradients = jax.grad(lambda p: getattr(jaxact, name)(x, **p)[1])(LEARNED[name])
    assert all(np.isfinite(g) for g in gradients.values())
    _, tangent = jax.jvp(lambda x: getattr(jaxact, name)(x, **LEARNED[name]), (x,), (jnp.ones_like(x),))
    assert not np.isnan(tangent).any()


class TestPreluWeight:
    @pytest.mark.parametrize(
        ("shape", "size"), [((4, 3, 2), 3), ((4, 3), 3), ((5,), 1), ((), 1), ((2, 3, 4, 5), 1)], ids=str
    )
    def test_value_and_both_gradients_are_torchs(self, shape, size):
        rng = np.random.default_rng(0)
        x, c = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
        w = rng.uniform(-1, 1, size).astype(np.float32)
        y, vjp = jax.vjp(jaxact.prelu, jnp.asarray(x), jnp.asarray(w))
        dx, dw = vjp(jnp.asarray(c))
        tx, tw = (torch.tensor(a, requires_grad=True) for a in (x, w))
        ty = torch.nn.functional.prelu(tx, tw)
        ty.backward(torch.tensor(c))
        np.testing.assert_array_equal(y, ty.detach())
        np.testing.assert_array_equal(dx, tx.grad)
        np.testing.assert_allclose(dw, tw.grad, rtol=1e-5, atol=1e-6)

    def test_one_axis_is_the_channels(self):
        np.testing.assert_array_equal(jaxact.prelu(np.float32([-1, -2]), jnp.array([0.5, 0.25])), [-0.5, -0.5])

    @pytest.mark.parametrize(
        ("shape", "weight"), [((2, 3), (2,)), ((2, 3), (0,)), ((3,), (2,)), ((), (2,)), ((2, 3), (1, 3))]
    )
    def test_a_weight_that_does_not_fit(self, shape, weight):
        with pytest.raises(ValueError, match="prelu: weight must h"):
            jaxact.prelu(jnp.ones(shape), jnp.ones(weight))

    def test_another_dtype(self):
        with pytest.raises(TypeError, match="prelu: weight must have the input's dtype bfloat16, got float32"):
            jaxact.prelu(jnp.ones((2, 3), jnp.bfloat16), jnp.ones(3))

    @pytest.mark.parametrize("weight", [None, "0.1", [0.1], torch.ones(1)], ids=repr)
    def test_no_array(self, weight):
        with pytest.raises(TypeError, match="prelu: weight must be"):
            jaxact.prelu(jnp.ones((2, 3)), weight)


WRONG = [
    ("rrelu", {"lower": 0.5, "upper": 0.1}, ValueError, "lower <= upper, got lower=0.5, upper=0.1"),
    ("rrelu", {"lower": NAN}, ValueError, "must be finite"),
    ("rrelu", {"training": True}, ValueError, "needs key="),
    ("celu", {"alpha": 0.0}, ValueError, "alpha must not be 0"),
    ("hardtanh", {"min_val": 2.0, "max_val": 1.0}, ValueError, "got min_val=2.0, max_val=1.0"),
    ("hardtanh", {"min_val": 2.0}, ValueError, "min_val must not exceed max_val"),
    ("softshrink", {"lambd": -1.0}, ValueError, "lambd must be finite and not negative, got -1.0"),
    ("softshrink", {"lambd": NAN}, ValueError, "lambd must be finite"),
    ("softshrink", {"lambd": INF}, ValueError, "lambd must be finite"),
    ("gelu", {"approximate": "erf"}, ValueError, "approximate must be 'none' or 'tanh', got 'erf'"),
    ("gelu", {"approximate": None}, TypeError, "approximate must be 'none' or 'tanh', got None"),
    ("glu", {"dim": 1}, ValueError, "dim must be in"),
    ("glu", {"dim": None}, TypeError, "dim must be an int"),
    ("threshold", {"threshold": 0.1}, TypeError, "missing a required argument: 'value'"),
]


@pytest.mark.parametrize(("name", "parameters", "error", "message"), WRONG, ids=lambda v: str(v)[:20])
def test_wrong_values(name, parameters, error, message):
    with pytest.raises(error, match=rf"^{name}.*{message}"):
        getattr(jaxact, name)(np.float32([1, 2]), **parameters)
    arrays = {key: jnp.asarray(v) if isinstance(v, float) else v for key, v in parameters.items()}
    with pytest.raises(error, match=rf"^{name}"):
        getattr(jaxact, name)(np.float32([1, 2]), **arrays)


def test_glu_over_an_odd_size():
    with pytest.raises(ValueError, match=r"glu: the size along dim=-1 must be even to be halved, got shape \(3,\)"):
        jaxact.glu(np.ones(3, np.float32))


class TestIntegerParameters:
    @pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint8"])
    def test_cut_to_integers_as_torch_does(self, dtype):
        x = np.array([0, 1, 2, 3, 100], dtype)
        for name, p in (("threshold", {"threshold": 1.5, "value": 20.7}), ("hardtanh", {"min_val": 0, "max_val": 2.7})):
            np.testing.assert_array_equal(getattr(jaxact, name)(x, **p), torch_value(BY_NAME[name], x, **p))

    @pytest.mark.parametrize(
        ("name", "parameters"),
        [
            ("threshold", {"threshold": 1, "value": 300}),
            ("threshold", {"threshold": 1, "value": -1}),
            ("hardtanh", {"min_val": -3, "max_val": -1}),
            ("hardtanh", {"min_val": 0.0, "max_val": NAN}),
        ],
    )
    def test_out_of_the_dtypes_range(self, name, parameters):
        with pytest.raises((OverflowError, ValueError), match=name):
            getattr(jaxact, name)(np.array([1], np.uint8), **parameters)

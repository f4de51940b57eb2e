"""The random functions, rrelu in training and gumbel_softmax: their distributions, keys, gradients and errors.

Every test of a distribution has fixed keys and significance 0.001: a right implementation would fail it at one
key in a thousand. Critical values: of the Kolmogorov-Smirnov distance of n numbers sqrt(log(2 / 0.001) / 2 / n),
the first term of its asymptotic distribution (Smirnov, Ann. Math. Statist. 19, 1948); of chi-squared with 4 degrees
of freedom 18.467 (NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.4); of the correlation of n independent
pairs 3.2905 / sqrt(n), the normal distribution's two-sided quantile.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jaxact

N = 50_000
KEY = jax.random.key(7)
HALVES = [jnp.float16, jnp.bfloat16]
BOUNDS = [(1 / 8, 1 / 3), (-1.0, 2.0), (0.0, 1e-3)]
LOGITS = np.float32([0.5, -1.0, 2.0, 0.0, -0.3])

rrelu = functools.partial(jaxact.rrelu, training=True)
DRAWS = {"rrelu": rrelu, "gumbel_softmax": jaxact.gumbel_softmax}


def assert_uniform(u):
    """Compare numbers with the uniform distribution on (0, 1), by the Kolmogorov-Smirnov distance."""
    u = np.sort(np.asarray(u, np.float64).ravel())
    steps = np.arange(u.size + 1) / u.size
    distance = max(np.max(steps[1:] - u), np.max(u - steps[:-1]))
    assert distance < np.sqrt(np.log(2 / 0.001) / 2 / u.size)


def assert_choices(choices, probabilities):
    """Compare the frequencies of choices among five with their probabilities, by chi-squared."""
    expected = np.asarray(probabilities, np.float64) * np.size(choices)
    observed = np.bincount(np.ravel(choices), minlength=5)
    assert np.sum((observed - expected) ** 2 / expected) < 18.467


def assert_uncorrelated(a, b):
    a, b = (np.ravel(x) - np.mean(x) for x in (a, b))
    assert abs(np.mean(a * b)) / (np.std(a) * np.std(b)) < 3.2905 / np.sqrt(a.size)


def softmax(x):
    return np.exp(x) / np.sum(np.exp(x))


class TestStatistics:
    """The tests of distributions can fail."""

    def test_uniform(self):
        u = np.random.default_rng(0).random(N)
        assert_uniform(u)
        for wrong in (u**1.03, 0.98 * u, np.round(u, 1)):
            with pytest.raises(AssertionError):
                assert_uniform(wrong)

    def test_choices(self):
        choices = np.random.default_rng(0).choice(5, N, p=softmax(LOGITS))
        assert_choices(choices, softmax(LOGITS))
        for wrong in (softmax(LOGITS / 1.05), np.full(5, 0.2)):
            with pytest.raises(AssertionError):
                assert_choices(choices, wrong)

    def test_uncorrelated(self):
        a, b = np.random.default_rng(0).random((2, N))
        assert_uncorrelated(a, b)
        with pytest.raises(AssertionError):
            assert_uncorrelated(a, b + 0.05 * a)


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
class TestKeys:
    x = -np.linspace(1, 2, 1000, dtype=np.float32).reshape(200, 5)

    def test_the_same_key_draws_the_same(self, draw):
        np.testing.assert_array_equal(draw(self.x, key=KEY), draw(self.x, key=jax.random.key(7)))

    def test_another_key_draws_others(self, draw):
        first, second = (np.asarray(draw(self.x, key=key)) for key in jax.random.split(KEY))
        assert (first != second).mean() > 0.99  # float32 numbers may coincide

    def test_keys_of_both_kinds(self, draw):
        raw = jax.random.PRNGKey(7)
        np.testing.assert_array_equal(draw(self.x, key=raw), draw(self.x, key=jax.random.wrap_key_data(raw)))

    def test_vmap_over_keys_is_the_stack(self, draw):
        keys = jax.random.split(KEY, 3)
        batched = jax.vmap(lambda key: draw(self.x, key=key))(keys)
        np.testing.assert_allclose(batched, jnp.stack([draw(self.x, key=key) for key in keys]), rtol=1e-6)

    def test_jit(self, draw):
        jitted = jax.jit(lambda x, key: draw(x, key=key))(self.x, KEY)
        np.testing.assert_allclose(jitted, draw(self.x, key=KEY), rtol=1e-6)

    @pytest.mark.parametrize("dtype", HALVES)
    def test_halves_are_the_rounded_float32_result(self, draw, dtype):
        x = self.x.astype(dtype)
        y = draw(x, key=KEY)
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, draw(x.astype(np.float32), key=KEY).astype(dtype))

    @pytest.mark.parametrize("shape", [(), (0, 5)])
    def test_shapes(self, draw, shape):
        y = draw(jnp.full(shape, -1.0), key=KEY)
        assert y.shape == shape
        assert np.isfinite(y).all()


class TestRrelu:
    @pytest.mark.parametrize("bounds", BOUNDS)
    def test_slopes_are_uniform(self, bounds):
        lower, upper = bounds
        slopes = -np.asarray(rrelu(-np.ones(N, np.float32), *bounds, key=KEY), np.float64)
        assert slopes.min() >= np.float32(lower)
        assert slopes.max() <= np.float32(upper)
        assert_uniform((slopes - lower) / (upper - lower))

    def test_slopes_are_independent(self):
        slopes = np.asarray(rrelu(-np.ones((N // 5, 5), np.float32), key=KEY))
        assert_uncorrelated(slopes[1:], slopes[:-1])
        assert_uncorrelated(slopes[:, 1:], slopes[:, :-1])
        assert_uncorrelated(slopes, rrelu(-np.ones((N // 5, 5), np.float32), key=jax.random.key(8)))

    def test_the_slope_does_not_depend_on_the_input(self):
        x = -np.exp2(np.random.default_rng(0).integers(-9, 9, 1000)).astype(np.float32)
        np.testing.assert_array_equal(rrelu(x, key=KEY) / x, -rrelu(-np.ones_like(x), key=KEY))

    def test_what_is_positive_stays(self):
        x = np.float32([1e-30, 0.5, 3, np.inf])
        np.testing.assert_array_equal(rrelu(x, key=KEY), x)

    def test_the_gradient_is_the_drawn_slope(self):
        x = np.float32([-3, -0.5, -1e-3, -0.0, 0.0, 1e-3, 2.0] * 10)
        slopes = -rrelu(-np.ones_like(x), key=KEY)
        gradient = jax.grad(lambda x: jnp.sum(rrelu(x, key=KEY)))(x)
        np.testing.assert_array_equal(gradient, np.where(x > 0, 1, slopes))

    def test_equal_bounds_leave_no_choice(self):
        x = np.linspace(-3, 3, 50, dtype=np.float32)
        np.testing.assert_array_equal(rrelu(x, 0.25, 0.25, key=KEY), jaxact.leaky_relu(x, 0.25))

    def test_the_bounds_may_be_traced_and_differentiated(self):
        """A slope is lower + u (upper - lower)."""
        x = -np.ones(N, np.float32)
        mean = jax.jit(lambda lower, upper: jnp.mean(rrelu(x, lower, upper, key=KEY)))
        np.testing.assert_allclose(jax.grad(mean, argnums=(0, 1))(0.1, 0.3), (-0.5, -0.5), atol=0.01)

    @pytest.mark.parametrize("bounds", BOUNDS)
    @pytest.mark.parametrize("key", [None, KEY], ids=["no key", "key"])
    def test_outside_training_it_is_torchs(self, bounds, key):
        x = np.float32([-np.inf, -3, -1e-3, -0.0, 0.0, 2.0, np.inf, np.nan])
        theirs = torch.nn.functional.rrelu(torch.from_numpy(x), *bounds)
        np.testing.assert_allclose(jaxact.rrelu(x, *bounds, key=key), theirs, rtol=1.2e-7)  # 1 ULP, of the mean slope


class TestGumbelSoftmax:
    x = np.broadcast_to(LOGITS, (N, 5))

    @pytest.mark.parametrize("hard", [False, True])
    @pytest.mark.parametrize("tau", [0.1, 1.0, 5.0])
    def test_choices_have_the_probabilities_of_softmax(self, tau, hard):
        y = np.asarray(jaxact.gumbel_softmax(self.x, tau, hard, key=KEY))
        assert_choices(y.argmax(-1), softmax(LOGITS))

    @pytest.mark.parametrize("dtype", HALVES)
    def test_choices_of_halves(self, dtype):
        y = jaxact.gumbel_softmax(self.x.astype(dtype), hard=True, key=KEY)
        assert_choices(np.asarray(y, np.float32).argmax(-1), softmax(LOGITS.astype(dtype).astype(np.float64)))

    @pytest.mark.parametrize("tau", [0.5, 1.0, 3.0])
    def test_probabilities_are_distributed_as_a_logistic_variable(self, tau):
        """Of two classes, tau log(y0 / y1) = x0 - x1 + g0 - g1, and g0 - g1 is a logistic variable."""
        x = np.broadcast_to(np.float32([0.7, -0.4]), (N, 2))
        y = np.asarray(jaxact.gumbel_softmax(x, tau, key=KEY), np.float64)
        assert_uniform(1 / (1 + np.exp(-(tau * np.log(y[:, 0] / y[:, 1]) - 1.1))))

    def test_choices_are_independent(self):
        x = np.zeros((N, 2), np.float32)
        y = np.asarray(jaxact.gumbel_softmax(x, key=KEY))[:, 0]
        assert_uncorrelated(y[1:], y[:-1])
        assert_uncorrelated(y, jaxact.gumbel_softmax(x, key=jax.random.key(8))[:, 0])

    def test_probabilities_sum_to_one(self):
        np.testing.assert_allclose(jaxact.gumbel_softmax(self.x, 0.5, key=KEY).sum(-1), 1, rtol=3e-7)

    @pytest.mark.parametrize("dim", [0, 1, -1])
    @pytest.mark.parametrize("dtype", [np.float32, *HALVES])
    def test_hard_is_one_at_the_largest_probability_and_zero_elsewhere(self, dim, dtype):
        x = np.random.default_rng(0).standard_normal((50, 60)).astype(dtype)
        hard = jaxact.gumbel_softmax(x, hard=True, dim=dim, key=KEY)
        soft = jaxact.gumbel_softmax(x.astype(np.float32), dim=dim, key=KEY)
        np.testing.assert_array_equal(hard, np.asarray(soft) == np.max(soft, dim, keepdims=True))

    @pytest.mark.parametrize("tau", [0.3, 2.0])
    def test_hard_has_the_gradient_of_the_soft_sample(self, tau):
        x, c = np.random.default_rng(1).standard_normal((2, 20, 5)).astype(np.float32)

        def gradient(hard):
            def loss(x, tau):
                return jnp.sum(c * jaxact.gumbel_softmax(x, tau, hard, key=KEY))

            return jax.grad(loss, argnums=(0, 1))(x, tau)

        for hard, soft in zip(gradient(True), gradient(False), strict=True):
            np.testing.assert_allclose(hard, soft, rtol=1e-6, atol=1e-7)
            assert np.any(soft)

    def test_what_has_no_probability_is_not_chosen(self):
        x = np.where(np.arange(5) == 3, -np.inf, self.x[:1000]).astype(np.float32)
        assert not np.any(jaxact.gumbel_softmax(x, key=KEY)[:, 3])
        assert not np.any(jaxact.gumbel_softmax(x, hard=True, key=KEY)[:, 3])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: jaxact.rrelu(x, training=True), ValueError, "rrelu: training=True .* needs key=, a JAX PRNG key"),
        (lambda x: jaxact.gumbel_softmax(x), TypeError, "gumbel_softmax.* missing .*'key'"),
        (lambda x: jaxact.gumbel_softmax(x, key=None), TypeError, "gumbel_softmax: key must be a JAX PRNG key"),
        (lambda x: jaxact.rrelu(x, 0.4, 0.2), ValueError, "lower <= upper, got lower=0.4, upper=0.2"),
        (lambda x: jaxact.rrelu(x, 0.1, np.inf), ValueError, "rrelu: the bounds must be finite"),
        (lambda x: jaxact.rrelu(x, np.nan, 0.2), ValueError, "rrelu: the bounds must be finite"),
        (lambda x: jaxact.rrelu(x, "0.1"), TypeError, "rrelu: lower must be .* got str"),
        (lambda x: jaxact.rrelu(x, jnp.ones(2), 2.0), ValueError, "rrelu: lower must be a number or a 0-d array"),
        (lambda x: jaxact.gumbel_softmax(x, 1j, key=KEY), TypeError, "gumbel_softmax: tau must be a real number"),
        (lambda x: jaxact.gumbel_softmax(x, dim=1, key=KEY), ValueError, "gumbel_softmax: dim must be in"),
        (lambda x: jaxact.gumbel_softmax(x.astype(int), key=KEY), TypeError, "gumbel_softmax: input of dtype int32"),
        (lambda x: rrelu(x.astype(int), key=KEY), TypeError, "rrelu: input of dtype int32"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(np.float32([-1, 2]))


@pytest.mark.parametrize("key", [3, 0.5, "key", np.float32([1, 2]), jnp.ones(3), (KEY,), torch.tensor(1)], ids=repr)
@pytest.mark.parametrize("name", ["rrelu", "gumbel_softmax"])
def test_what_is_no_key_is_a_type_error(name, key):
    with pytest.raises(TypeError, match=f"^{re.escape(name)}: key must be a JAX PRNG key"):
        DRAWS[name](np.float32([-1, 2]), key=key)

"""Attention: values and gradients are torch's, or the exact ones; what is masked reaches nothing; dropout."""

import functools
import inspect

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from attention_cases import (
    CASES,
    FUNCTIONS,
    INF,
    SOME,
    TOLERANCES,
    assert_close,
    assert_like_torch,
    boolean,
    jax_run,
    mha_arguments,
    mha_case,
    normal,
    tensor,
    torch_run,
)
from jaxact.attention import multi_head_attention_forward, scaled_dot_product_attention


@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning")
class TestTorch:
    """Values and gradients, both against torch in float64 at the same inputs."""

    @pytest.mark.parametrize(("function", "name"), CASES)
    def test_float32(self, function, name):
        assert_like_torch(*FUNCTIONS[function], name, np.float32)

    @pytest.mark.parametrize(("function", "name"), SOME)
    def test_float64(self, function, name, x64):
        assert_like_torch(*FUNCTIONS[function], name, np.float64)

    @pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
    @pytest.mark.parametrize(("function", "name"), SOME[2:])
    def test_halves_are_computed_in_float32_and_rounded_once(self, function, name, dtype):
        assert_like_torch(*FUNCTIONS[function], name, dtype)

    def test_arguments_are_torchs(self):
        theirs = inspect.signature(F.multi_head_attention_forward).parameters
        *ours, dropout_key = inspect.signature(multi_head_attention_forward).parameters.values()
        assert [(p.name, p.default) for p in ours] == [(p.name, p.default) for p in theirs.values()]
        assert dropout_key.kind is inspect.Parameter.KEYWORD_ONLY

    def test_module(self):
        """The forward pass of a torch.nn.MultiheadAttention with its own weights."""
        module = torch.nn.MultiheadAttention(8, 2, add_bias_kv=True)
        x = normal(np.random.default_rng(0), 3, 2, 8).astype(np.float32)
        exact = module.double()(*[tensor(x).double()] * 3)
        weights = {name.replace(".", "_"): p.detach().numpy() for name, p in module.float().named_parameters()}
        ours = multi_head_attention_forward(
            x, x, x, 8, 2, weights["in_proj_weight"], weights["in_proj_bias"], weights["bias_k"], weights["bias_v"],
            False, 0.0, weights["out_proj_weight"], weights["out_proj_bias"],
        )  # fmt: skip
        for y, true in zip(ours, exact, strict=True):
            assert_close(y, true.detach().numpy(), TOLERANCES[np.float32][0])

    @pytest.mark.parametrize("shape", [(8,), (1, 8), (1, 1, 8)])
    def test_extra_keys_of_fewer_axes(self, shape):
        """As PyTorch's own sample inputs have them; its documentation knows the last one only."""

        def case(name):
            arrays, options = mha_case(name)
            return arrays | {bias: arrays[bias].reshape(shape) for bias in ("bias_k", "bias_v")}, options

        functions = multi_head_attention_forward, F.multi_head_attention_forward
        assert_like_torch(*functions, case, "extra keys, masks", np.float32)


class TestMaskedRows:
    """A query that may attend to no key."""

    @pytest.mark.parametrize("mask", [np.array([[False, False], [True, False]]), np.array([[-INF, -INF], [0, -INF]])])
    @pytest.mark.parametrize("batch", [(), (2, 3)])
    def test_sdpa_gives_zeros_and_zero_gradients(self, mask, batch, debug_nans):
        rng = np.random.default_rng(0)
        x = normal(rng, *batch, 2, 4).astype(np.float32)
        mask = mask if mask.dtype == bool else mask.astype(np.float32)
        y, vjp = jax.vjp(lambda q, k, v: scaled_dot_product_attention(q, k, v, mask), x, x, x)
        assert not np.any(y[..., 0, :])
        np.testing.assert_array_equal(y[..., 1, :], x[..., 0, :])
        dq, dk, dv = vjp(jnp.ones_like(x))
        assert not np.any(dq)  # the other query has no choice either
        assert not np.any(dk)
        np.testing.assert_array_equal(dv[..., 0, :], 1)

    @pytest.mark.parametrize("kind", ["bool", "float"])
    @pytest.mark.parametrize("mask", ["attn_mask", "key_padding_mask"])
    def test_mha_gives_zeros_with_weights_too(self, mask, kind):
        """Where torch has NaN, and in every gradient of the projections (pytorch issue 41508)."""
        arrays, options = mha_arguments(np.random.default_rng(0))
        arrays = {name: x.astype(np.float32) for name, x in arrays.items()}
        masked = np.zeros((3, 4) if mask == "attn_mask" else (2, 4), bool)
        masked[1] = True
        lost = np.zeros((3, 2), bool)  # a query of all sequences, or all queries of a sequence
        lost[1 if mask == "attn_mask" else (slice(None), 1)] = True
        arrays[mask] = masked if kind == "bool" else np.where(masked, -INF, 0).astype(np.float32)
        cotangent = np.broadcast_to(~lost[..., None], (3, 2, 8)).astype(np.float32)
        both = [cotangent, np.zeros((2, 3, 4), np.float32)]

        (theirs, _), gradients = torch_run(F.multi_head_attention_forward, arrays, options, both)
        assert np.isnan(theirs[lost]).all()
        assert np.isnan(gradients["in_proj_weight"]).all()
        (exact,), exact_gradients = torch_run(
            F.multi_head_attention_forward, arrays, options | {"need_weights": False}, [cotangent]
        )
        (output, weights), gradients = jax_run(multi_head_attention_forward, arrays, options, both)
        assert_close(output, exact, TOLERANCES[np.float32][0])
        np.testing.assert_allclose(weights.sum(-1), ~lost.T, rtol=1e-6)
        for argument in gradients.keys() - {mask}:
            assert_close(gradients[argument], exact_gradients[argument], TOLERANCES[np.float32][1])

    @pytest.mark.parametrize("batch", [(), (1, 2)])
    def test_masked_scores_may_overflow(self, batch):
        """Where torch adds -inf to the score inf, for NaN; the exact value is that of the other key."""
        key = np.broadcast_to(np.array([[3e38], [1]], np.float32), (*batch, 2, 1))
        value = np.broadcast_to(np.array([[5], [7]], np.float32), (*batch, 2, 1))
        arguments = key[..., :1, :], key, value, np.array([[False, True]])
        assert F.scaled_dot_product_attention(*map(tensor, arguments)).isnan().all()
        np.testing.assert_array_equal(scaled_dot_product_attention(*arguments), 7)


# id: shapes of query, of key and value, and of a mask that leaves out the last two keys; options


UNUSED_KEYS = {
    "of all": ((2, 3, 8), (2, 5, 8), (5,), {}),
    "of a sequence": ((2, 4, 3, 8), (2, 4, 5, 8), (2, 1, 1, 5), {}),
    "of a head": ((2, 4, 3, 8), (2, 4, 5, 8), (4, 3, 5), {}),
    "of each query": ((2, 3, 8), (2, 5, 8), (2, 3, 5), {}),
    "broadcast to all sequences": ((2, 4, 3, 8), (4, 5, 8), (2, 4, 3, 5), {}),
    "of grouped heads": ((2, 6, 3, 8), (2, 2, 5, 8), (2, 6, 3, 5), {"enable_gqa": True}),
    "of one group": ((2, 6, 3, 8), (2, 1, 5, 8), (6, 3, 5), {"enable_gqa": True}),
    "after the last query": ((2, 4, 3, 8), (2, 4, 5, 8), None, {"is_causal": True}),
}
# id: options of mha_arguments, where to set masks to True, what then is unused
LAST, LAST_STATIC = np.s_[3, 1], np.s_[2:, 3]  # the last key of the second sequence
UNUSED_OF_MHA = {
    "padding": ({}, {"key_padding_mask": (1, 3)}, {"key": LAST, "value": LAST}),
    "no batch": ({"batched": False}, {"key_padding_mask": 3}, {"key": 3, "value": 3}),
    "more keys": (
        {"bias_kv": True, "add_zero_attn": True}, {"key_padding_mask": (1, 3)}, {"key": LAST, "value": LAST}
    ),
    "static": (
        {"static": "kv"}, {"key_padding_mask": (1, 3)}, {"key": 0, "static_k": LAST_STATIC, "static_v": LAST_STATIC}
    ),
    "static values": ({"static": "v"}, {"key_padding_mask": (1, 3)}, {"key": LAST, "static_v": LAST_STATIC}),
    "additive mask too": (
        {"attn_mask": "float"}, {"key_padding_mask": (1, 3)}, {"key": LAST, "value": LAST}
    ),
    "of all queries": ({}, {"attn_mask": np.s_[:, 3]}, {"key": 3, "value": 3}),
    "a query": ({"attn_mask": "bool 3-D"}, {"attn_mask": np.s_[:, 1]}, {"query": 1}),
    "a query, by both masks": (
        {}, {"attn_mask": np.s_[1, :3], "key_padding_mask": (1, 3)}, {"query": (1, 1), "key": LAST, "value": LAST}
    ),
    "after the last query": (
        {"S": 5, "is_causal": True}, {"attn_mask": ~np.tri(3, 5, dtype=bool)}, {"key": np.s_[3:], "value": np.s_[3:]}
    ),
}  # fmt: skip


class TestUnused:
    """What takes no part, a key that no query attends to or a query that attends to none, may hold anything."""

    @staticmethod
    def assert_no_matter(function, arrays, others, unused):
        """Compare the outputs, their gradients and directional derivatives of both, whatever the unused hold."""

        def outputs(arrays):
            y = function(**arrays, **others)
            return [x for x in (y if isinstance(y, tuple) else (y,)) if x is not None]

        @jax.jit
        def run(arrays):
            gradient = jax.grad(lambda arrays: sum(jnp.sum(y**2) for y in outputs(arrays)))
            direction = jax.tree.map(jnp.ones_like, arrays)
            return [jax.jvp(f, (arrays,), (direction,)) for f in (outputs, gradient)]

        expected = run(arrays)
        for bad in (np.nan, np.inf, -np.inf):
            for name, index in unused.items():
                arrays[name][index] = bad
            ours = run(arrays)
            for leaf, true in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
                np.testing.assert_array_equal(leaf, true)
            for name, index in unused.items():
                assert not np.any(ours[1][0][name][index])

    @pytest.mark.parametrize(
        ("name", "dtype"), [*((name, np.float32) for name in UNUSED_KEYS), ("of grouped heads", ml_dtypes.bfloat16)]
    )
    def test_keys(self, name, dtype):
        query, key, mask, options = UNUSED_KEYS[name]
        rng = np.random.default_rng(0)
        arrays = {"query": normal(rng, *query), "key": normal(rng, *key), "value": normal(rng, *key)}
        arrays = {side: x.astype(dtype) for side, x in arrays.items()}
        if mask is not None:
            options = options | {"attn_mask": boolean(rng, *mask)}
            options["attn_mask"][..., 3:] = False
        last = np.s_[..., 3:, :]
        self.assert_no_matter(scaled_dot_product_attention, arrays, options, {"key": last, "value": last})

    @pytest.mark.parametrize("mask", [(3, 1), (2, 1, 3, 5)])
    def test_queries(self, mask):
        rng = np.random.default_rng(0)
        arrays = {"query": normal(rng, 2, 4, 3, 8), "key": normal(rng, 2, 4, 5, 8), "value": normal(rng, 2, 4, 5, 8)}
        arrays = {side: x.astype(np.float32) for side, x in arrays.items()}
        mask = boolean(rng, *mask)
        mask[..., 1, :] = False
        self.assert_no_matter(scaled_dot_product_attention, arrays, {"attn_mask": mask}, {"query": np.s_[..., 1, :]})

    @pytest.mark.parametrize("need_weights", [True, False])
    @pytest.mark.parametrize("name", UNUSED_OF_MHA)
    def test_mha(self, name, need_weights):
        """The gradients of the projections are among those that do not change."""
        options, masked, unused = UNUSED_OF_MHA[name]
        options = dict.fromkeys(masked, "bool") | options | {"need_weights": need_weights}
        arrays, options = mha_arguments(np.random.default_rng(0), **options)
        others = options | {name: x for name, x in arrays.items() if x.dtype == bool}
        arrays = {name: x.astype(np.float32) for name, x in arrays.items() if x.dtype != bool}
        for mask, index in masked.items():
            others[mask][index] = True
        self.assert_no_matter(multi_head_attention_forward, arrays, others, unused)


class TestDropout:
    P = 0.3
    # Uniform attention to S = 64 keys whose values are the unit vectors: the output is the weights after dropout.
    ARRAYS = (np.zeros((64, 64, 8), np.float32), np.zeros((64, 64, 8), np.float32), np.eye(64, dtype=np.float32)[None])

    def weights(self, seed, p=P):
        return np.asarray(scaled_dot_product_attention(*self.ARRAYS, dropout_p=p, dropout_key=jax.random.key(seed)))

    def test_kept_weights_are_scaled(self):
        weights = self.weights(0)
        np.testing.assert_allclose(weights[weights != 0], 1 / 64 / (1 - self.P), rtol=2e-7)  # one rounding each

    def test_distribution(self):
        """Counts within 4.5 standard deviations, a chance of 7e-6 each for 5 of them, by key."""
        kept = self.weights(0) != 0
        deviation = np.sqrt(self.P * (1 - self.P))
        assert abs(kept.mean() - (1 - self.P)) < 4.5 * deviation / np.sqrt(kept.size)
        for other in (*(np.roll(kept, 1, axis) for axis in range(3)), self.weights(1) != 0):
            covariance = np.mean((kept - (1 - self.P)) * (other - (1 - self.P)))
            assert abs(covariance) < 4.5 * deviation**2 / np.sqrt(kept.size)

    def test_reproducible_by_key(self):
        np.testing.assert_array_equal(self.weights(0), self.weights(0))
        assert np.any(self.weights(0) != self.weights(1))

    def test_legacy_keys(self):
        legacy = scaled_dot_product_attention(*self.ARRAYS, dropout_p=self.P, dropout_key=jax.random.PRNGKey(3))
        np.testing.assert_array_equal(legacy, self.weights(3))

    @pytest.mark.parametrize(
        "p",
        [np.float32(P), np.float16(P), np.array(P), jnp.float32(P), jnp.array(P, jnp.bfloat16), ml_dtypes.bfloat16(P)],
    )
    def test_probabilities_of_other_types(self, p):
        np.testing.assert_array_equal(self.weights(0, p), self.weights(0, float(p)))

    @pytest.mark.parametrize("p", [0, 0.0, np.float32(0)])
    def test_probability_0_needs_no_key(self, p):
        np.testing.assert_array_equal(scaled_dot_product_attention(*self.ARRAYS, dropout_p=p), 1 / 64)

    @pytest.mark.parametrize("p", [1, 1.0, True])
    def test_probability_1_gives_zeros_and_zero_gradients(self, p, debug_nans):
        assert not np.any(self.weights(0, p))
        gradient = jax.grad(
            lambda q: jnp.sum(scaled_dot_product_attention(q, q, q, dropout_p=p, dropout_key=jax.random.key(0)))
        )
        assert not np.any(gradient(jnp.ones((3, 4))))

    def test_gradient_is_through_the_weights_kept(self):
        q, k, v = (jnp.asarray(x[:2]) for x in self.ARRAYS)
        weights = self.weights(5)[:2]
        attend = functools.partial(scaled_dot_product_attention, dropout_p=self.P, dropout_key=jax.random.key(5))
        weights, vjp = jax.vjp(lambda v: attend(q, k, v), jnp.broadcast_to(v, (2, 64, 64)))
        cotangent = normal(np.random.default_rng(0), 2, 64, 64).astype(np.float32)
        np.testing.assert_allclose(vjp(cotangent)[0], weights.mT @ cotangent, rtol=0, atol=1e-6)  # measured 2e-7

    def test_vmap_over_keys(self):
        q, k, v = (jnp.asarray(x[0]) for x in self.ARRAYS)
        keys = jax.random.split(jax.random.key(0), 3)
        attend = functools.partial(scaled_dot_product_attention, q, k, v, dropout_p=self.P)
        y = jax.vmap(lambda key: attend(dropout_key=key))(keys)
        np.testing.assert_array_equal(y, jnp.stack([attend(dropout_key=key) for key in keys]))

    def test_mha(self):
        """The weights returned are those after dropout, and without them the same ones are dropped."""
        arrays, options = mha_arguments(np.random.default_rng(0), average_attn_weights=False, dropout_p=0.5)
        arrays = {name: x.astype(np.float32) for name, x in arrays.items()}
        key = jax.random.key(2, impl="rbg")
        run = functools.partial(multi_head_attention_forward, **arrays, **options, dropout_key=key)
        output, weights = run()
        _, full = run(training=False)
        kept = np.asarray(weights != 0)
        assert 0 < kept.mean() < 1
        np.testing.assert_allclose(weights[kept], 2 * full[kept], rtol=1e-6)
        without_weights, nothing = run(need_weights=False)
        assert nothing is None
        np.testing.assert_allclose(output, without_weights, rtol=0, atol=2e-6)


@pytest.mark.parametrize("length", [4, 256])
def test_nan_stays_in_its_row(length):
    """Also in long rows, where the maximum by which XLA computes passes no NaN on."""
    query = np.random.default_rng(0).normal(size=(2, length, 64)).astype(np.float32)
    query[0, 1, 3] = np.nan
    key = value = np.ones((2, length, 64), np.float32)
    nan = np.isnan(scaled_dot_product_attention(query, key, value))
    assert nan[0, 1].all()
    assert nan.sum() == 64

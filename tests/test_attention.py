"""Attention: scaled_dot_product_attention and multi_head_attention_forward against live torch."""

import functools
import inspect

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from jax import export, lax
from jax.experimental import checkify
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxact import attention
from jaxact.attention import multi_head_attention_forward, scaled_dot_product_attention

INF = np.inf
set_mesh = getattr(jax, "set_mesh", None) or jax.sharding.use_mesh  # the name from jax 0.8 on


def normal(rng, *shape):
    return rng.standard_normal(shape)


def boolean(rng, *shape):
    """Return a mask that is True and False about equally often, and True somewhere in every row."""
    mask = rng.random(shape) < 0.5
    mask[..., :1] |= ~mask.any(-1, keepdims=True)
    return mask


def tensor(x):
    return None if x is None else torch.from_numpy(np.array(x))


def torch_run(function, arrays, options, cotangents=None):
    """Return torch's outputs and, for cotangents, its gradients at the float arrays, at the dtype of the arrays."""
    tensors = {name: tensor(x) for name, x in arrays.items()}
    floats = {name: x.requires_grad_() for name, x in tensors.items() if x.is_floating_point()}
    outputs = function(**(options | tensors))
    outputs = [x for x in (outputs if isinstance(outputs, tuple) else (outputs,)) if x is not None]
    if cotangents is None:
        return [x.detach().numpy() for x in outputs], {}
    gradients = torch.autograd.grad(outputs, list(floats.values()), [tensor(c) for c in cotangents], allow_unused=True)
    gradients = [torch.zeros_like(x) if g is None else g for x, g in zip(floats.values(), gradients, strict=True)]
    return [x.detach().numpy() for x in outputs], dict(zip(floats, (g.numpy() for g in gradients), strict=True))


def jax_run(function, arrays, options, cotangents):
    """Return jaxact's outputs and its gradients at the float arrays, compiled as one."""
    others = {name: x for name, x in arrays.items() if x.dtype == bool}

    def outputs(floats):
        y = function(**options, **floats, **others)
        return [x for x in (y if isinstance(y, tuple) else (y,)) if x is not None]

    @jax.jit
    def run(floats, cotangents):
        y, vjp = jax.vjp(outputs, floats)
        return y, vjp(cotangents)[0]

    return run({name: x for name, x in arrays.items() if x.dtype != bool}, cotangents)


def assert_close(ours, exact, tolerance):
    """Compare within a tolerance for the largest number, as the sums cancel, and half an ULP of narrow types."""
    assert ours.shape == exact.shape
    half_ulp = ml_dtypes.finfo(ours.dtype).eps / 2 if ours.dtype.itemsize == 2 else 0
    atol = tolerance * np.nanmax(np.abs(exact), initial=1)
    np.testing.assert_allclose(np.asarray(ours, np.float64), exact, rtol=half_ulp, atol=atol)


def assert_like_torch(ours, theirs, case, name, dtype):
    """Compare values and gradients at dtype with torch's in float64 at the same inputs, rounded to dtype."""
    arrays, options = case(name)
    arrays = {k: x if x.dtype == bool else x.astype(dtype) for k, x in arrays.items()}
    doubles = {k: x if x.dtype == bool else x.astype(np.float64) for k, x in arrays.items()}
    rng = np.random.default_rng(7)
    cotangents = [normal(rng, *x.shape).astype(dtype) for x in torch_run(theirs, doubles, options)[0]]
    exact, exact_gradients = torch_run(theirs, doubles, options, [c.astype(np.float64) for c in cotangents])
    outputs, gradients = jax_run(ours, arrays, options, cotangents)
    of_value, of_gradient = TOLERANCES.get(dtype, TOLERANCES[np.float32])
    for y, true in zip(outputs, exact, strict=True):
        assert y.dtype == dtype
        assert_close(y, true, of_value)
    assert gradients.keys() == exact_gradients.keys()
    for argument, dx in gradients.items():
        assert dx.dtype == dtype
        assert_close(dx, exact_gradients[argument], of_gradient)


# The largest errors over all cases, of values and of gradients, relative to the largest number or 1. Measured with
# torch 2.13.0 and jax 0.10.2: 2.5e-7 and 1.0e-6 in float32, 8.7e-16 and 2.1e-15 in float64. The sums are over
# at most 100 terms. float16 and bfloat16 have those of float32 before the last rounding, half an ULP.
TOLERANCES = {np.float32: (5e-7, 2e-6), np.float64: (2e-15, 5e-15)}


# id: shapes of query, key and value, the mask, the options
SDPA = {
    "no batch": ((3, 8), (5, 8), (5, 4), None, {}),
    "broadcast batch": ((5, 1, 2, 3), (1, 6, 4, 3), (6, 4, 5), None, {}),
    "broadcast ranks": ((2, 3), (4, 3), (7, 4, 5), None, {}),
    "long": ((1, 2, 64, 16), (1, 2, 96, 16), (1, 2, 96, 16), None, {}),
    "scale": ((2, 3, 8), (2, 5, 8), (2, 5, 4), None, {"scale": 0.7}),
    "negative scale": ((2, 3, 8), (2, 5, 8), (2, 5, 4), None, {"scale": -0.4}),
    "causal, scale": ((2, 5, 8), (2, 5, 8), (2, 5, 4), None, {"is_causal": True, "scale": 2}),
    "causal, more keys": ((2, 3, 4, 8), (2, 3, 6, 8), (2, 3, 6, 8), None, {"is_causal": True}),
    "causal, more queries": ((2, 3, 6, 8), (2, 3, 4, 8), (2, 3, 4, 8), None, {"is_causal": True}),
    "mask": ((2, 3, 4, 8), (2, 3, 5, 8), (2, 3, 5, 8), ("bool", 4, 5), {}),
    "mask of queries": ((2, 3, 4, 8), (2, 3, 5, 8), (2, 3, 5, 8), ("some rows", 2, 1, 4, 1), {}),
    "0-d mask": ((2, 3, 8), (2, 5, 8), (2, 5, 4), ("float",), {}),
    "masked rows": ((2, 3, 8), (2, 5, 8), (2, 5, 4), ("some rows", 3, 5), {}),
    "additive": ((2, 3, 4, 8), (2, 3, 5, 8), (2, 3, 5, 8), ("float", 4, 5), {}),
    "additive, masked rows": ((2, 3, 8), (2, 5, 8), (2, 5, 4), ("-inf rows", 3, 5), {}),
    "grouped": ((2, 6, 4, 8), (2, 2, 5, 8), (2, 2, 5, 8), None, {"enable_gqa": True}),
    "grouped unequally": ((2, 6, 4, 8), (2, 2, 5, 8), (2, 3, 5, 8), None, {"enable_gqa": True}),
    "grouped, broadcast": ((3, 4, 5, 8), (2, 6, 8), (1, 2, 6, 4), None, {"enable_gqa": True}),
    "grouped, causal": ((2, 6, 4, 8), (2, 3, 4, 8), (2, 3, 4, 8), None, {"enable_gqa": True, "is_causal": True}),
    "no keys": ((2, 3, 8), (2, 0, 8), (2, 0, 4), None, {}),
    "no features": ((2, 3, 0), (2, 5, 0), (2, 5, 4), None, {}),
    "empty batch": ((0, 3, 8), (0, 5, 8), (0, 5, 4), None, {}),
}  # fmt: skip


def sdpa_case(name):
    """Return the arrays and the options of a case."""
    query, key, value, mask, options = SDPA[name]
    rng = np.random.default_rng(len(name))
    arrays = {"query": normal(rng, *query), "key": normal(rng, *key), "value": normal(rng, *value)}
    if mask is not None:
        kind, *shape = mask
        arrays["attn_mask"] = boolean(rng, *shape) if kind in ("bool", "some rows") else normal(rng, *shape)
        if kind.endswith("rows"):
            arrays["attn_mask"][..., 1, :] = False if kind == "some rows" else -INF
    return arrays, options


def mha_arguments(
    rng,
    L=3,
    S=4,
    N=2,
    E=8,
    H=2,
    Eout=None,
    Ek=None,
    Ev=None,
    batched=True,
    bias=True,
    bias_kv=False,
    static=(),
    static_length=4,
    **options,
):
    """Return the arrays and the options of a call of multi_head_attention_forward."""
    batch = (N,) if batched else ()
    heads = H * (N if batched else 1)
    arrays = {
        "query": normal(rng, L, *batch, E),
        "key": normal(rng, S, *batch, Ek or E),
        "value": normal(rng, S, *batch, Ev or E),
        "out_proj_weight": normal(rng, Eout or E, E) / 3,
    }
    if Ek or Ev:
        arrays |= {"q_proj_weight": normal(rng, E, E) / 3, "k_proj_weight": normal(rng, E, Ek or E) / 3}
        arrays |= {"v_proj_weight": normal(rng, E, Ev or E) / 3}
    else:
        arrays["in_proj_weight"] = normal(rng, 3 * E, E) / 3
    if bias:
        arrays |= {"in_proj_bias": normal(rng, 3 * E), "out_proj_bias": normal(rng, Eout or E)}
    if bias_kv:
        arrays |= {"bias_k": normal(rng, 1, 1, E), "bias_v": normal(rng, 1, 1, E)}
    for side in static:
        arrays[f"static_{side}"] = normal(rng, heads, static_length, E // H)
    masks = {"attn_mask": ((L, S), (heads, L, S)), "key_padding_mask": ((*batch, S),) * 2}
    for argument, shapes in masks.items():
        if kind := options.pop(argument, None):
            shape = shapes["3-D" in kind]
            arrays[argument] = rng.random(shape) < 0.5 if kind.startswith("bool") else normal(rng, *shape)
            if kind.startswith("bool"):
                arrays[argument][..., :1] = False  # so that no row is masked altogether
    none = {x: None for x in ("in_proj_weight", "in_proj_bias", "bias_k", "bias_v", "out_proj_bias") if x not in arrays}
    options = {"add_zero_attn": False, "dropout_p": 0.0, "use_separate_proj_weight": bool(Ek or Ev)} | options
    return arrays, none | {"embed_dim_to_check": E, "num_heads": H} | options


# id: what differs from a batched call with packed weights, biases and average weights
MHA = {
    "packed": {},
    "no biases, without weights": {"bias": False, "need_weights": False},
    "no batch, masks, weights per head": {
        "batched": False, "attn_mask": "bool 3-D", "key_padding_mask": "bool", "average_attn_weights": False
    },
    "separate, outputs of another number": {"Ek": 5, "Ev": 6, "Eout": 5},
    "separate, no biases, without weights": {"Ek": 5, "bias": False, "need_weights": False},
    "boolean mask, weights per head": {"attn_mask": "bool", "average_attn_weights": False},
    "additive mask per head, without weights": {"attn_mask": "float 3-D", "need_weights": False},
    "extra keys": {"bias_kv": True, "add_zero_attn": True, "need_weights": False},
    "extra keys, masks": {"bias_kv": True, "add_zero_attn": True, "attn_mask": "bool", "key_padding_mask": "bool"},
    "extra bias, additive masks": {"bias_kv": True, "attn_mask": "float", "key_padding_mask": "float"},
    "static of another length, zero key": {"static": "kv", "static_length": 6, "add_zero_attn": True},
    "static keys, one head, without weights": {"static": "k", "H": 1, "need_weights": False},
    "causal": {"is_causal": True, "attn_mask": "bool", "need_weights": False, "add_zero_attn": True},
    "causal, but weights": {"is_causal": True, "attn_mask": "float", "dropout_p": 0.5, "training": False},
    "causal, but padding": {
        "is_causal": True, "attn_mask": "bool", "key_padding_mask": "bool", "need_weights": False
    },
    "no keys": {"S": 0, "L": 2},
}  # fmt: skip


def mha_case(name):
    return mha_arguments(np.random.default_rng(len(name)), **MHA[name])


CASES = [pytest.param("sdpa", name, id=f"sdpa, {name}") for name in SDPA] + [
    pytest.param("mha", name, id=f"mha, {name}") for name in MHA
]
FUNCTIONS = {
    "sdpa": (scaled_dot_product_attention, F.scaled_dot_product_attention, sdpa_case),
    "mha": (multi_head_attention_forward, F.multi_head_attention_forward, mha_case),
}
# Every kind of branch once, for what need not be run over all cases.
SOME = [
    pytest.param("sdpa", "masked rows", id="sdpa, masked rows"),
    pytest.param("sdpa", "additive", id="sdpa, additive"),
    pytest.param("sdpa", "grouped, causal", id="sdpa, grouped, causal"),
    pytest.param("mha", "extra keys, masks", id="mha, extra keys, masks"),
]


# torch deprecated masks of two dtypes, but takes them
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


class TestTransforms:
    RNG = np.random.default_rng(11)
    Q = normal(RNG, 4, 3, 5, 6).astype(np.float32)
    K, V = normal(RNG, 2, 4, 3, 7, 6).astype(np.float32)
    MASK = boolean(RNG, 4, 3, 5, 7)

    def test_jit(self):
        y = jax.jit(scaled_dot_product_attention)(self.Q, self.K, self.V, self.MASK)
        np.testing.assert_array_equal(y, scaled_dot_product_attention(self.Q, self.K, self.V, self.MASK))

    def test_vmap_over_batch_and_masks(self):
        whole = scaled_dot_product_attention(self.Q, self.K, self.V, self.MASK)
        y = jax.vmap(jax.vmap(scaled_dot_product_attention))(self.Q, self.K, self.V, self.MASK)
        np.testing.assert_allclose(y, whole, rtol=0, atol=1e-6)

    def test_vmap_over_masks_alone(self):
        q, k, v = self.Q[0, 0], self.K[0, 0], self.V[0, 0]
        y = jax.vmap(lambda mask: scaled_dot_product_attention(q, k, v, mask))(self.MASK[0])
        one = jnp.stack([scaled_dot_product_attention(q, k, v, mask) for mask in self.MASK[0]])
        np.testing.assert_allclose(y, one, rtol=0, atol=1e-6)

    def test_jvp_is_the_transpose_of_vjp(self):
        attend = functools.partial(scaled_dot_product_attention, attn_mask=self.MASK)
        arrays = self.Q, self.K, self.V
        directions = [normal(self.RNG, *x.shape).astype(np.float32) for x in arrays]
        y, dy = jax.jvp(attend, arrays, tuple(directions))
        cotangent = normal(self.RNG, *y.shape).astype(np.float32)
        gradients = jax.vjp(attend, *arrays)[1](cotangent)
        ahead = np.vdot(cotangent, dy)
        back = sum(np.vdot(g, d) for g, d in zip(gradients, directions, strict=True))
        np.testing.assert_allclose(ahead, back, rtol=1e-4)  # sums of 360 terms that cancel

    def test_grad_under_vmap_checkpoint_and_scan(self):
        def loss(q, k, v, mask):
            return jnp.sum(scaled_dot_product_attention(q, k, v, mask) ** 2)

        direct = jax.grad(loss)(jnp.asarray(self.Q), self.K, self.V, self.MASK)
        gradient = jax.jit(jax.grad(jax.checkpoint(loss)))
        _, scanned = lax.scan(lambda c, x: (c, gradient(*x)), 0, (self.Q, self.K, self.V, self.MASK))
        for y in (jax.vmap(gradient)(self.Q, self.K, self.V, self.MASK), scanned):
            np.testing.assert_allclose(y, direct, rtol=0, atol=2e-6)

    @pytest.mark.parametrize("mask", [None, np.array([[False, False, False], [True, True, False]])], ids=["", "masked"])
    def test_hessian(self, mask, x64):
        rng = np.random.default_rng(0)
        q, k, v = normal(rng, 2, 2), normal(rng, 3, 2), normal(rng, 3, 2)

        def loss(attend, mask, *arrays):
            return (attend(*arrays, mask) ** 3).sum()

        ours = jax.jit(jax.hessian(functools.partial(loss, scaled_dot_product_attention, mask), argnums=(0, 1, 2)))(
            q, k, v
        )
        theirs = torch.autograd.functional.hessian(
            functools.partial(loss, F.scaled_dot_product_attention, tensor(mask)), tuple(map(tensor, (q, k, v)))
        )
        for row, their_row in zip(ours, theirs, strict=True):
            for block, their_block in zip(row, their_row, strict=True):
                np.testing.assert_allclose(block, their_block.numpy(), rtol=0, atol=1e-14)

    def test_learned_scale(self, x64):
        rng = np.random.default_rng(0)
        q, k, v = normal(rng, 2, 3), normal(rng, 4, 3), normal(rng, 4, 3)
        loss = jax.jit(lambda s: jnp.sum(scaled_dot_product_attention(q, k, v, scale=s) ** 2))
        slope = (loss(0.5 + 1e-6) - loss(0.5 - 1e-6)) / 2e-6
        np.testing.assert_allclose(jax.jit(jax.grad(loss))(0.5), slope, rtol=1e-8)

    def test_mha_under_vmap_and_checkpoint(self):
        arrays, options = mha_arguments(np.random.default_rng(0), batched=False, attn_mask="bool")
        arrays = {name: jnp.asarray(x if x.dtype == bool else x.astype(np.float32)) for name, x in arrays.items()}
        query = arrays.pop("query")
        queries = jnp.stack([query, 2 * query])

        @jax.checkpoint
        def loss(query):
            output, weights = multi_head_attention_forward(query, **arrays, **options)
            return jnp.sum(output**2) + jnp.sum(weights**2)

        gradient = jax.jit(jax.grad(loss))
        stacked = jnp.stack([gradient(query) for query in queries])
        np.testing.assert_allclose(jax.vmap(gradient)(queries), stacked, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("kernel", ["_scaled_dot_product_attention", "_multi_head_attention"])
    def test_no_retracing(self, kernel, monkeypatch):
        traces = []
        monkeypatch.setattr(attention, "_scores", counting(attention._scores, traces))
        for seed in (0, 1):
            rng, key = np.random.default_rng(seed), jax.random.key(seed, impl="rbg")
            if kernel == "_multi_head_attention":
                arrays, options = mha_arguments(rng, L=9, H=4, attn_mask="bool", dropout_p=0.1 * (seed + 1))
                arrays = {name: x if x.dtype == bool else x.astype(np.float32) for name, x in arrays.items()}
                multi_head_attention_forward(**arrays, **options, dropout_key=key)
            else:
                scaled_dot_product_attention(
                    self.Q, self.K, self.V, self.MASK, 0.1 * (seed + 1), scale=0.5 + seed, dropout_key=key
                )
        assert len(traces) == 1

    def test_no_leaked_tracers(self):
        with jax.checking_leaks():
            jax.jit(jax.grad(lambda q: jnp.sum(scaled_dot_product_attention(q, q, q, is_causal=True))))(self.Q)


def with_gradients(function, options):
    """Return a function of arrays: the outputs, and the gradients of their sum of squares at the float arrays."""

    def run(arrays):
        others = {name: x for name, x in arrays.items() if x.dtype == bool}

        def loss(floats):
            y = function(**options, **floats, **others)
            y = [x for x in (y if isinstance(y, tuple) else (y,)) if x is not None]
            return sum(jnp.sum(x**2) for x in y), y

        gradients, y = jax.grad(loss, has_aux=True)({name: x for name, x in arrays.items() if x.dtype != bool})
        return y, gradients

    return run


def float32_case(function, name, **sizes):
    """Return the arrays of a case, those of numbers in float32, and its options."""
    if function == "mha":
        arrays, options = mha_arguments(np.random.default_rng(0), **(sizes | MHA[name]))
    else:
        arrays, options = sdpa_case(name)
    return {argument: x if x.dtype == bool else x.astype(np.float32) for argument, x in arrays.items()}, options


# What the sizes of cases of multi-head attention are called, each of which is a size of one thing only.
SIZES = {"N": 7, "L": 3, "S": 9, "static_length": 9}
SYMBOLS = {7: "n", 14: "2*n", 3: "l", 9: "s", 6: "t", 8: "2*e", 24: "6*e", 4: "e", 5: "k"}


class TestContexts:
    """Every branch in the contexts of test_contexts: exported, spread over devices, under checkers."""

    @pytest.mark.parametrize(("function", "name"), CASES)
    def test_symbolic_sizes(self, function, name):
        """Of everything but the numbers of grouped heads, one of which must divide the other."""
        arrays, options = float32_case(function, name, **SIZES)
        sizes = {n for x in arrays.values() for n in x.shape}
        symbols = SYMBOLS if function == "mha" else {n: f"n{n}" for n in sizes if n > 1}
        scope = export.SymbolicScope()

        def spec(x):
            fixed = x.ndim - 3 if "enable_gqa" in options else None
            shape = [str(n) if axis == fixed else symbols.get(n, str(n)) for axis, n in enumerate(x.shape)]
            return jax.ShapeDtypeStruct(export.symbolic_shape(", ".join(shape), scope=scope), x.dtype)

        specs = {argument: spec(x) for argument, x in arrays.items()}
        expected = jax.jit(with_gradients(FUNCTIONS[function][0], options))(arrays)
        if function == "mha":
            options["embed_dim_to_check"] = specs["query"].shape[-1]  # as a program takes it from a shape
        exported = export.export(jax.jit(with_gradients(FUNCTIONS[function][0], options)))(specs)
        self.assert_close(exported.call(arrays), expected)

    @pytest.mark.parametrize(
        ("name", "axis"),
        [
            *(
                (name, 0)
                for name in ("masked rows", "mask of queries", "additive", "causal, more keys", "grouped, causal")
            ),
            *[("grouped", 0), ("grouped", 1), ("long", 1)],
        ],
    )
    def test_sharded_sdpa(self, name, axis):
        arrays, options = float32_case("sdpa", name)
        self.assert_sharded("sdpa", arrays, options, {argument: axis for argument, x in arrays.items() if x.ndim > 2})

    @pytest.mark.parametrize(
        "name",
        [
            "extra keys, masks",
            "causal, but padding",
            "static of another length, zero key",
            "additive mask per head, without weights",
        ],
    )
    def test_sharded_mha(self, name):
        arrays, options = float32_case("mha", name)
        batch = {"query": 1, "key": 1, "value": 1, "key_padding_mask": 0, "static_k": 0, "static_v": 0, "attn_mask": 0}
        if arrays.get("attn_mask", np.empty(0)).ndim == 2:
            del batch["attn_mask"]
        self.assert_sharded("mha", arrays, options, batch)

    def assert_sharded(self, function, arrays, options, axes):
        """Compare with the axes of the arrays spread over two devices, on a mesh whose axes are explicit."""
        run = jax.jit(with_gradients(FUNCTIONS[function][0], options))
        mesh = jax.make_mesh((2,), ("spread",), axis_types=(AxisType.Explicit,))
        expected = run(arrays)

        def placed(argument, x):
            spec = ["spread" if axis == axes.get(argument) else None for axis in range(x.ndim)]
            return jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec)))

        with set_mesh(mesh):
            placed_arrays = {argument: placed(argument, x) for argument, x in arrays.items()}
            outputs, gradients = run(placed_arrays)
        self.assert_close((outputs, gradients), expected)
        assert outputs[0].sharding.spec[axes["query"]] == "spread"
        assert gradients["key"].sharding == placed_arrays["key"].sharding

    @pytest.mark.parametrize(
        ("function", "name"),
        [
            *(("sdpa", name) for name in ("masked rows", "additive, masked rows", "causal, more keys")),
            ("mha", "extra keys, masks"),
        ],
    )
    def test_no_nan_on_the_way(self, function, name):
        arrays, options = float32_case(function, name)
        run = with_gradients(FUNCTIONS[function][0], options)
        error, _ = jax.jit(checkify.checkify(run, errors=checkify.nan_checks))(arrays)
        error.throw()
        with jax.disable_jit(), jax.debug_nans(True):
            run({argument: jnp.asarray(x) for argument, x in arrays.items()})

    @staticmethod
    def assert_close(ours, expected):
        """Compare within what fusing and contracting in another way does to sums that cancel."""
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-5), ours, expected)


# id: what a program makes its queries and keys by, and what of, for them to be of the magnitude of x
PRODUCERS = {
    "product": (lambda x, w: x * 0.7, lambda x: x),
    "quotient": (lambda x, w: x / 0.7, lambda x: x),
    "traced product": (lambda x, w: x * w[0, 0], lambda x: x),
    "square": (lambda x, w: x * x, lambda x: np.sqrt(np.abs(x))),
    "exponential": (lambda x, w: 2.0**x * 0.7, lambda x: np.log2(np.abs(x))),
    "matrix product": (lambda x, w: x @ w * 0.7, lambda x: x),
}
MAGNITUDES = [1e2, 1e4, 1e6, 1e8, 1e10]  # of the scores


@pytest.mark.parametrize("producer", PRODUCERS)
class TestInsidePrograms:
    """After what a compiler computes twice, rounded and not: a score must be one number wherever it is used."""

    @pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
    @pytest.mark.parametrize("mask", [None, "bool", "float"])
    def test_equal_keys_share_the_weight(self, producer, mask, dtype):
        """Scores of one feature, so far apart that rounding them changes nothing, or equal because keys are."""
        produce, source = PRODUCERS[producer]
        rng = np.random.default_rng(0)
        value, w, cotangent = (x.astype(dtype) for x in (normal(rng, 5, 3), np.array([[1.3]]), normal(rng, 4, 3)))
        kept = np.ones((4, 5), bool)
        kept[1] = kept[2, 3] = kept[3, 2:] = False
        mask = {None: None, "bool": kept, "float": np.where(kept, 0, -INF)}[mask]

        @jax.jit
        def run(query, key, w):
            attend = functools.partial(scaled_dot_product_attention, attn_mask=mask)
            y, vjp = jax.vjp(attend, produce(query, w), produce(key, w), value)
            return y, *vjp(cotangent)

        for magnitude in MAGNITUDES:
            query = source(magnitude**0.5 * np.array([[1.1], [-1.3], [0.7], [1.9]])).astype(dtype)
            key = source(magnitude**0.5 * np.array([[1.7], [1.1], [0.3], [1.7], [1.1]])).astype(dtype)
            arrays = {
                "query": produce(np.float64(query), np.float64(w)),
                "key": produce(np.float64(key), np.float64(w)),
            }
            arrays |= {"value": np.float64(value)} | ({} if mask is None else {"attn_mask": mask})
            (exact,), gradients = torch_run(F.scaled_dot_product_attention, arrays, {}, [np.float64(cotangent)])
            exact = [exact, *(gradients[side] for side in ("query", "key", "value"))]
            sizes = [1, magnitude**0.5, magnitude**0.5, 1]  # of the terms, whose sums may cancel
            relative = 1e-5 if dtype == np.float32 else 2**-6
            for y, true, size in zip(run(query, key, w), exact, sizes, strict=True):
                atol = relative * max(size, np.abs(true).max())
                np.testing.assert_allclose(np.asarray(y, np.float64), true, rtol=0, atol=atol)

    @pytest.mark.parametrize("features", [1, 2, 8])
    def test_weights_sum_to_one(self, producer, features):
        """So that values of 1 give 1, and no gradient; also where the program makes the mask too."""
        produce, source = PRODUCERS[producer]
        rng = np.random.default_rng(0)
        w, ones = rng.integers(1, 4, (features, features)).astype(np.float32), np.ones((17, 1), np.float32)

        @jax.jit
        def run(query, key, mask, w):
            y, vjp = jax.vjp(scaled_dot_product_attention, produce(query, w), produce(key, w), ones, mask * 0.7)
            return y, vjp(jnp.ones_like(y))

        for magnitude in MAGNITUDES:
            query, key = (source(magnitude**0.5 * normal(rng, n, features)).astype(np.float32) for n in (9, 17))
            y, gradients = run(query, key, (magnitude * normal(rng, 9, 17)).astype(np.float32), w)
            np.testing.assert_allclose(y, 1, rtol=4e-7)
            for dx in gradients[:2]:
                np.testing.assert_allclose(dx, 0, atol=1e-5 * magnitude**0.5)


def counting(function, calls):
    """Return the function, noting every call."""

    def counted(*args):
        calls.append(None)
        return function(*args)

    return counted


class TestAccelerators:
    HALF = jax.ShapeDtypeStruct((2, 4, 128, 64), jnp.bfloat16)  # what cuDNN takes

    @pytest.mark.parametrize("platform", ["cpu", "cuda", "rocm", "tpu"])
    @pytest.mark.parametrize("is_causal", [False, True])
    def test_export(self, platform, is_causal):
        def loss(q, k, v):
            return jnp.sum(scaled_dot_product_attention(q, k, v, is_causal=is_causal).astype(np.float32))

        exported = export.export(jax.jit(jax.value_and_grad(loss)), platforms=[platform])(*[self.HALF] * 3)
        assert exported.platforms == (platform,)

    @pytest.mark.parametrize(("dtype", "default", "precise"), [
        (np.float32, None, True), (np.float32, "tensorfloat32", False), (jnp.bfloat16, None, False)
    ])  # fmt: skip
    def test_precision(self, dtype, default, precise):
        """Float32 products are in full float32 unless the user asked for something else."""
        x = jax.ShapeDtypeStruct((3, 8), dtype)
        with jax.default_matmul_precision(default):
            text = str(jax.make_jaxpr(scaled_dot_product_attention)(x, x, x))
        assert ("HIGHEST" in text) == precise

    @pytest.fixture
    def fused(self, monkeypatch):
        """Pretend that cuDNN is there; the CPU takes the other branch of the platform's choice."""
        monkeypatch.setattr(attention, "_cudnn_takes", lambda *_: True)
        monkeypatch.setattr(attention, "_cudnn_attention", lambda q, k, v, is_causal: jnp.full_like(q, np.nan))
        jax.clear_caches()
        yield
        jax.clear_caches()

    def test_fused_attention_is_taken_without_mask_scale_and_dropout(self, fused):
        def taken(**options):
            attend = functools.partial(scaled_dot_product_attention, **options)
            return "platform_index" in str(jax.make_jaxpr(attend)(self.HALF, self.HALF, self.HALF))

        assert taken()
        assert taken(is_causal=True)
        assert not taken(scale=0.5)
        assert not taken(attn_mask=np.ones((128, 128), bool))
        assert not taken(dropout_p=0.5, dropout_key=jax.random.key(0))

    def test_fused_attention_has_the_derivatives_of_the_formula(self, fused):
        x = jax.random.normal(jax.random.key(0, impl="rbg"), (1, 2, 4, 8), jnp.bfloat16)

        def derivatives(attend):
            attend = functools.partial(attend, is_causal=True)
            both = jax.jit(lambda *x: (jax.jvp(attend, x, x)[1], *jax.vjp(attend, *x)[1](x[0])))
            return [np.asarray(dx, np.float32) for dx in both(x, x, x)]

        pairs = zip(derivatives(scaled_dot_product_attention), derivatives(attention._half_formula), strict=True)
        for ours, formulas in pairs:
            np.testing.assert_allclose(ours, formulas, rtol=2**-7)  # an ULP: two roundings of one number

    @pytest.mark.parametrize(
        ("query", "key", "options"),
        [
            ((2, 4, 16, 64), (2, 2, 16, 64), {}),  # heads would have to broadcast
            ((2, 4, 16, 64), (1, 4, 16, 64), {}),
            ((2, 4, 16, 64), (2, 4, 8, 64), {"is_causal": True}),
            ((2, 4, 16, 64), (2, 4, 0, 64), {}),
            ((4, 16, 64), (4, 16, 64), {}),
        ],
    )
    def test_cudnn_is_not_asked_for_what_it_does_otherwise(self, query, key, options, monkeypatch):
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
        monkeypatch.setattr(attention, "_cudnn_attention", lambda *_, **__: pytest.fail("asked"))
        arrays = [jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in (query, key, key)]
        options = {"is_causal": False, "enable_gqa": False} | options
        assert not attention._cudnn_takes(tuple(arrays), **options)

    def test_a_process_without_cudnn(self, monkeypatch):
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
        assert not attention._cudnn_takes((self.HALF,) * 3, is_causal=False, enable_gqa=False)


X = np.ones((2, 3, 4), np.float32)


class TestErrors:
    """What torch rejects is a TypeError or a ValueError here, with a message that says what came."""

    @pytest.mark.parametrize(
        ("arrays", "options", "message"),
        [
            ((X[0, 0],) * 3, {}, "at least 2 axes"),
            ((X[0],) * 3, {"enable_gqa": True}, "at least 3 axes"),
            ((X, X[..., :3], X), {}, r"last axes of query and key.*\(2, 3, 4\), key \(2, 3, 3\)"),
            ((X, X, X[:, :2]), {}, "axes -2 of key and value"),
            ((X, np.ones((3, 3, 4), np.float32), X), {"enable_gqa": True}, "numbers of heads"),
            ((X, np.ones((3, 3, 4), np.float32), X), {}, "leading axes.*enable_gqa"),
            ((X,) * 3, {"attn_mask": np.ones((3, 3), bool), "is_causal": True}, "exclude each other"),
            ((X,) * 3, {"attn_mask": np.ones((3, 4), bool)}, r"broadcast to.*\(2, 3, 3\), got shape \(3, 4\)"),
            ((X[0],) * 3, {"attn_mask": np.ones((2, 3, 3), bool)}, "broadcast to"),
            ((X,) * 3, {"dropout_p": 0.5}, "needs dropout_key"),
            ((X,) * 3, {"dropout_p": 1.5}, r"in \[0, 1\], got 1.5"),
            ((X,) * 3, {"dropout_p": -0.1}, "in .0, 1., got -0.1"),
            ((X,) * 3, {"dropout_p": np.nan}, "in .0, 1., got nan"),
            ((X,) * 3, {"scale": np.ones(2)}, "scale must be a number"),
        ],
    )
    def test_sdpa_wrong_value(self, arrays, options, message):
        with pytest.raises(ValueError, match=f"^scaled_dot_product_attention: .*{message}"):
            scaled_dot_product_attention(*arrays, **options)

    @pytest.mark.parametrize(
        ("arrays", "options", "message"),
        [
            ((X.astype(int),) * 3, {}, "query of dtype int32 is not accepted"),
            ((X.astype(bool),) * 3, {}, "query of dtype bool"),
            ((X.astype(complex),) * 3, {}, "query of dtype complex64"),
            ((X, X.astype(np.float16), X), {}, "key must be of the dtype of query, float32, got float16"),
            ((X, X, X.tolist()), {}, "value must be a JAX or NumPy array.*got list"),
            ((X, tensor(X), X), {}, "key must be .*to_jax"),
            ((X,) * 3, {"attn_mask": np.ones((3, 3), int)}, "attn_mask must be boolean, float32"),
            ((X,) * 3, {"attn_mask": np.ones((3, 3), np.float16)}, "attn_mask must be boolean, float32"),
            ((X,) * 3, {"is_causal": 1}, "is_causal must be True or False.*got 1"),
            ((X,) * 3, {"dropout_p": "0.1"}, "dropout_p must be a number"),
            ((X,) * 3, {"dropout_p": 0.1, "dropout_key": 0}, "dropout_key must be a JAX PRNG key.*got 0"),
            ((X,) * 3, {"dropout_p": 0.1, "dropout_key": X}, "dropout_key must be a JAX PRNG key"),
            ((X,) * 3, {"scale": 1j}, "scale must be a real number"),
            ((X,) * 3, {"scale": "a"}, "scale must be a JAX or NumPy array or a number"),
        ],
    )
    def test_sdpa_wrong_type(self, arrays, options, message):
        with pytest.raises(TypeError, match=f"^scaled_dot_product_attention: .*{message}"):
            scaled_dot_product_attention(*arrays, **options)

    @pytest.mark.parametrize("true", [np.True_, np.array(True), jnp.array(True)], ids=repr)
    def test_flags_that_are_no_python_values(self, true):
        y = scaled_dot_product_attention(X, X, X, is_causal=true)
        np.testing.assert_array_equal(y, scaled_dot_product_attention(X, X, X, is_causal=True))
        np.testing.assert_array_equal(
            *(multi_head_attention_forward(**mha_changed({"add_zero_attn": t}))[0] for t in (true, True))
        )

    def test_traced_flags_and_probabilities(self):
        for argument, value in {"is_causal": True, "enable_gqa": False, "dropout_p": 0.1}.items():
            with pytest.raises(TypeError, match=f"{argument} must be"):
                jax.jit(lambda x, argument=argument: scaled_dot_product_attention(X, X, X, **{argument: x}))(value)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"query": (8,)}, "must all be"),
            ({"key": (4, 8), "value": (4, 8)}, "must all be"),
            ({"key": (4, 3, 8), "value": (4, 3, 8)}, "batch size N"),
            ({"value": (5, 2, 8)}, "one length S"),
            ({"embed_dim_to_check": 7}, "embed_dim_to_check=7 features"),
            ({"num_heads": 3}, "num_heads must divide.*8, got 3"),
            ({"num_heads": 0}, "num_heads must divide"),
            ({"num_heads": -2}, "num_heads must divide"),
            ({"key": (4, 2, 6), "value": (4, 2, 6)}, "use_separate_proj_weight=True"),
            ({"in_proj_weight": None}, "needs in_proj_weight"),
            ({"use_separate_proj_weight": True}, "needs q_proj_weight"),
            (
                {"use_separate_proj_weight": True, "q_proj_weight": (8, 8), "k_proj_weight": (8, 5),
                 "v_proj_weight": (8, 8)},
                r"k_proj_weight must be of shape \(8, 8\), got \(8, 5\)",
            ),
            ({"in_proj_weight": (16, 8)}, r"in_proj_weight must be of shape \(24, 8\)"),
            ({"in_proj_bias": (23,)}, "in_proj_bias must be"),
            ({"out_proj_weight": (8, 7)}, "out_proj_weight must be"),
            ({"out_proj_bias": (7,)}, "out_proj_bias must be"),
            ({"bias_k": (1, 1, 8)}, "come together, got only bias_k"),
            ({"bias_k": (1, 1, 8), "bias_v": (1, 2, 8)}, "bias_v must be"),
            ({"bias_k": (1, 1, 8), "bias_v": (1, 1, 8), "static_k": (4, 4, 4)}, "cannot be added to static_k"),
            ({"static_k": (3, 4, 4)}, r"static_k must be of shape \(4, 4, 4\)"),
            ({"static_k": (4, 4, 5)}, "static_k must be"),
            ({"static_k": (4, 6, 4)}, r"of one length S, got \(6,\) and \(4,\)"),
            ({"attn_mask": (3, 5)}, r"attn_mask must be of shape \(3, 4\) or \(4, 3, 4\), got \(3, 5\)"),
            ({"attn_mask": (1, 3, 4)}, "attn_mask must be"),
            ({"attn_mask": (2, 2, 3, 4)}, "attn_mask must be"),
            ({"key_padding_mask": (4,)}, r"key_padding_mask must be of shape \(2, 4\)"),
            ({"key_padding_mask": (2, 5)}, "key_padding_mask must be"),
            ({"is_causal": True}, "is_causal=True is a hint"),
            ({"dropout_p": 0.5}, "needs dropout_key"),
            ({"dropout_p": 2.0}, "in .0, 1., got 2.0"),
        ],
        ids=str,
    )  # fmt: skip
    def test_mha_wrong_value(self, changes, message):
        with pytest.raises(ValueError, match=f"^multi_head_attention_forward: .*({message})"):
            multi_head_attention_forward(**mha_changed(changes))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"query": np.ones((3, 2, 8), int)}, "query of dtype int32 is not accepted"),
            ({"in_proj_bias": np.ones(24, np.float16)}, "in_proj_bias must be of the dtype of query"),
            ({"out_proj_weight": None}, "out_proj_weight must be a JAX or NumPy array"),
            ({"attn_mask": np.ones((3, 4), np.uint8)}, "attn_mask must be boolean, float32"),
            ({"key_padding_mask": np.ones((2, 4), int)}, "key_padding_mask must be boolean"),
            ({"num_heads": 2.0}, "num_heads must be an int.*got 2.0"),
            ({"num_heads": True}, "num_heads must be an int.*got True"),
            ({"embed_dim_to_check": "8"}, "embed_dim_to_check must be an int"),
            ({"training": None}, "training must be True or False"),
            ({"need_weights": np.ones(2)}, "need_weights must be True or False"),
        ],
        ids=str,
    )
    def test_mha_wrong_type(self, changes, message):
        with pytest.raises(TypeError, match=f"^multi_head_attention_forward: .*{message}"):
            multi_head_attention_forward(**mha_changed(changes))


def mha_changed(changes):
    """Return arguments of a good call with some changed; a shape stands for an array of it."""
    arrays, options = mha_arguments(np.random.default_rng(0))
    good = {name: x.astype(np.float32) for name, x in arrays.items()}
    changed = {name: np.ones(x, np.float32) if isinstance(x, tuple) else x for name, x in changes.items()}
    return options | good | changed


@pytest.mark.parametrize("length", [4, 256])
def test_nan_stays_in_its_row(length):
    """Also in long rows, where the maximum by which XLA computes passes no NaN on."""
    query = np.random.default_rng(0).normal(size=(2, length, 64)).astype(np.float32)
    query[0, 1, 3] = np.nan
    key = value = np.ones((2, length, 64), np.float32)
    nan = np.isnan(scaled_dot_product_attention(query, key, value))
    assert nan[0, 1].all()
    assert nan.sum() == 64

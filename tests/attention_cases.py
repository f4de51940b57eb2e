"""Cases of the two attention functions, run in torch and in JAX, for the tests of attention."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from jaxact.attention import multi_head_attention_forward, scaled_dot_product_attention

INF = np.inf


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

"""Attention at symbolic sizes, on meshes, under checkers, and inside programs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch.nn.functional as F
from jax import export
from jax.experimental import checkify
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from attention_cases import CASES, FUNCTIONS, INF, float32_case, normal, torch_run, with_gradients
from jaxact.attention import scaled_dot_product_attention

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

        with jax.set_mesh(mesh):
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

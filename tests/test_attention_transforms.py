"""Attention under JAX's transforms, without retracing, and where a GPU has a kernel of its own."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from jax import export, lax

from attention_cases import boolean, mha_arguments, normal, tensor
from jaxact._kernels import dot_product, fused_attention
from jaxact.attention import multi_head_attention_forward, scaled_dot_product_attention


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
        monkeypatch.setattr(dot_product, "_scores", counting(dot_product._scores, traces))
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


def counting(function, calls):
    """Return the function, noting every call."""

    def counted(*args):
        calls.append(None)
        return function(*args)

    return counted


class TestAccelerators:
    HALF = jax.ShapeDtypeStruct((2, 4, 128, 64), jnp.bfloat16)  # what cuDNN takes

    @pytest.mark.parametrize("is_causal", [False, True])
    def test_export(self, is_causal):
        def loss(q, k, v):
            return jnp.sum(scaled_dot_product_attention(q, k, v, is_causal=is_causal).astype(np.float32))

        platforms = ("cpu", "cuda", "rocm", "tpu")
        exported = export.export(jax.jit(jax.value_and_grad(loss)), platforms=platforms)(*[self.HALF] * 3)
        assert exported.platforms == platforms

    @pytest.mark.parametrize(("dtype", "default", "precise"), [
        (np.float32, None, True), (np.float32, "tensorfloat32", False), (jnp.bfloat16, None, False)
    ])  # fmt: skip
    def test_precision(self, dtype, default, precise):
        """Float32 products are in full float32 unless the user asked for something else."""
        x = jax.ShapeDtypeStruct((3, 8), dtype)
        with jax.default_matmul_precision(default):
            text = str(jax.make_jaxpr(scaled_dot_product_attention)(x, x, x))
        assert ("HIGHEST" in text) == precise

    def plan(self, **options):
        return dot_product.Plan(np.dtype(jnp.bfloat16), None, **options)

    @pytest.fixture
    def fused_alone(self, monkeypatch):
        monkeypatch.setattr(fused_attention, "_cudnn_attention", lambda q, k, v, is_causal: q)

    @pytest.fixture
    def fused(self, monkeypatch):
        """Pretend that cuDNN is there; the CPU takes the other branch of the platform's choice."""
        monkeypatch.setattr(fused_attention, "_cudnn_takes", lambda *_: True)
        monkeypatch.setattr(fused_attention, "_cudnn_attention", lambda q, k, v, is_causal: jnp.full_like(q, np.nan))
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

        pairs = zip(derivatives(scaled_dot_product_attention), derivatives(fused_attention._half_formula), strict=True)
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
        monkeypatch.setattr(jax, "local_devices", lambda **_: pytest.fail("asked"))
        arrays = [jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in (query, key, key)]
        assert not fused_attention._cudnn_takes(tuple(arrays), self.plan(**options))

    def test_a_process_with_a_gpu_but_without_cudnn(self, monkeypatch):
        monkeypatch.setattr(jax, "local_devices", lambda **_: [SimpleNamespace(compute_capability="9.0")])
        assert not fused_attention._cudnn_takes((self.HALF,) * 3, self.plan())

    @pytest.mark.parametrize(("capability", "taken"), [("7.5", False), ("8.0", True), ("9.0", True)])
    def test_a_gpu_has_to_be_new_enough(self, capability, taken, fused_alone, monkeypatch):
        monkeypatch.setattr(jax, "local_devices", lambda **_: [SimpleNamespace(compute_capability=capability)])
        assert fused_attention._cudnn_takes((self.HALF,) * 3, self.plan()) == taken

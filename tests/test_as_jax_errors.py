"""as_jax: what it refuses, and what the error says."""

import jax
import jax.numpy as jnp
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from as_jax_cases import x
from jaxact.interop import as_jax


class TestErrors:
    def test_not_callable(self):
        with pytest.raises(TypeError, match="torch function or module, got int"):
            as_jax(3)

    def test_an_unknown_vmap_method(self):
        with pytest.raises(ValueError, match="'sequential' or 'batched', got 'expand_dims'"):
            as_jax(torch.sin, vmap_method="expand_dims")

    def test_a_shape_that_is_none(self):
        with pytest.raises(TypeError, match=r"must be a tree of jax.ShapeDtypeStruct.*got 2 in it"):
            as_jax(torch.sin, result_shape_dtypes=(2, 3))

    def test_a_derivative_that_torch_has_not(self):
        loss = as_jax(lambda x, w: F.nll_loss(x, torch.tensor([0, 2]), weight=w))
        with pytest.raises(jax.errors.JaxRuntimeError, match="not differentiable with respect to argument 'weight'"):
            jax.block_until_ready(jax.grad(loss, 1)(x, jnp.ones(3)))

    def test_a_torch_tensor(self):
        with pytest.raises(TypeError, match="to_jax"):
            as_jax(torch.sin)(torch.ones(1))

    def test_an_argument_that_is_neither_array_nor_hashable(self):
        with pytest.raises(TypeError, match="a set is no array"):
            as_jax(lambda x, s: x)(x, {1})

    def test_a_result_that_is_no_tensor(self):
        with pytest.raises(TypeError, match=r"must return torch tensors.*got a float"):
            as_jax(lambda x: 1.0)(x)

    @pytest.mark.parametrize(
        ("fn", "message"),
        [
            (nn.Dropout(), r"draws random numbers.*module.eval\(\)"),
            (nn.RReLU(), "draws random numbers"),
            (lambda x: x + torch.randn(3), "draws random numbers"),
            (nn.BatchNorm1d(3), r"updates its buffers.*module.eval\(\)"),
        ],
        ids=["dropout", "rrelu", "randn", "batch norm"],
    )
    def test_what_is_not_pure(self, fn, message):
        with pytest.raises(ValueError, match=message):
            as_jax(fn)(x)

    @pytest.mark.parametrize("fn", [lambda x: x[x > 0], lambda x: x if x.sum() > 0 else -x], ids=["mask", "branch"])
    def test_a_shape_that_depends_on_values(self, fn):
        with pytest.raises(ValueError, match="result_shape_dtypes"):
            as_jax(fn)(x)

    def test_a_branch_with_the_shape_given(self):
        fn = as_jax(lambda x: x if x.sum() > 0 else -x, result_shape_dtypes=jax.ShapeDtypeStruct((), jnp.float32))
        assert jax.vmap(jax.grad(fn))(jnp.array([2.0, -3.0])).tolist() == [1, -1]

    def test_the_wrong_shape_given(self):
        with pytest.raises(jax.errors.JaxRuntimeError, match=r"shape \(2, 3\) where \(4,\) was expected"):
            jax.block_until_ready(as_jax(torch.sin, result_shape_dtypes=jnp.ones(4))(x))

    def test_torchs_own_error_with_a_note(self):
        with pytest.raises(RuntimeError, match=r"shape|size") as caught:
            as_jax(torch.matmul)(x, x)
        assert "result_shape_dtypes" in "".join(caught.value.__notes__)

    def test_an_error_at_run_time_says_what_torch_says(self):
        with pytest.raises(jax.errors.JaxRuntimeError, match="positive-definite"):
            jax.block_until_ready(as_jax(torch.linalg.cholesky)(-jnp.eye(2)))

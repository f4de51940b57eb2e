"""Transforms: every function under every JAX transform, alone and nested, without retracing or leaks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax
from oracle import ROWS, spread

X = spread(np.random.default_rng(0), (4, 6), high=3)
C = np.random.default_rng(1).standard_normal((4, 6)).astype(np.float32)


def applied(row):
    """Return the function at the row's parameters, and a scalar loss of it."""

    def f(x):
        return row.function(x, **row.parameters)

    return f, lambda x: jnp.sum(f(x) * C)


@pytest.mark.parametrize("row", ROWS)
class TestTransforms:
    def test_jit(self, row):
        f, _ = applied(row)
        np.testing.assert_array_equal(jax.jit(f)(X), f(X))

    def test_vmap_is_the_stack_of_the_rows(self, row):
        f, _ = applied(row)
        np.testing.assert_array_equal(jax.vmap(f)(X), jnp.stack([f(x) for x in X]))
        np.testing.assert_array_equal(jax.vmap(f, in_axes=1, out_axes=1)(X.T).T, f(X.T).T)

    def test_grad_under_jit_vmap_checkpoint_and_scan(self, row, debug_nans):
        f, loss = applied(row)
        expected = jax.grad(loss)(X)
        close = {"rtol": 2e-6, "atol": 1e-9}  # the compiler fuses and contracts each program in its own way
        np.testing.assert_allclose(jax.jit(jax.grad(loss))(X), expected, **close)
        np.testing.assert_allclose(jax.grad(jax.checkpoint(loss))(X), expected, **close)
        row_loss = jax.grad(lambda x, c: jnp.sum(f(x) * c))
        np.testing.assert_allclose(jax.vmap(row_loss)(X, C), expected, **close)
        _, scanned = lax.scan(lambda carry, xc: (carry, row_loss(*xc)), None, (X, C))
        np.testing.assert_allclose(scanned, expected, **close)

    def test_jacobians_agree(self, row):
        f, _ = applied(row)
        forward, reverse = jax.jacfwd(f)(X[0]), jax.jacrev(f)(X[0])
        np.testing.assert_allclose(forward, reverse, rtol=2e-6, atol=1e-9)
        np.testing.assert_allclose(C[0] @ np.asarray(forward), jax.vjp(f, X[0])[1](jnp.asarray(C[0]))[0], rtol=1e-5, atol=1e-7)

    def test_hessian_is_symmetric_and_the_derivative_of_the_gradient(self, row, x64):
        f, _ = applied(row)
        x, c = X[0].astype(np.float64), C[0].astype(np.float64)
        gradient = jax.grad(lambda x: jnp.sum(f(x) * c))
        hessian = np.asarray(jax.hessian(lambda x: jnp.sum(f(x) * c))(x))
        step = 1e-6
        differences = [(gradient(x + step * e) - gradient(x - step * e)) / (2 * step) for e in np.eye(x.size)]
        np.testing.assert_allclose(hessian, hessian.T, atol=1e-12)
        np.testing.assert_allclose(hessian, np.stack(differences), atol=1e-7)

    def test_jvp_of_grad_and_grad_of_jvp(self, row):
        _, loss = applied(row)
        _, hvp = jax.jvp(jax.grad(loss), (X,), (C,))
        reverse = jax.grad(lambda x: jax.jvp(loss, (x,), (C,))[1])(X)
        np.testing.assert_allclose(hvp, reverse, rtol=1e-4, atol=1e-6)

    def test_no_retracing(self, row):
        traces = []

        @jax.jit
        def f(x):
            traces.append(None)
            return row.function(x, **row.parameters)

        row.function(X, **row.parameters)
        with jax.log_compiles(), _counted_compilations() as compilations:
            row.function(X + 1, **row.parameters)
            f(X), f(X + 1)
        assert len(traces) == 1
        assert [name for name in compilations if row.name in name] == []

    def test_no_leaked_tracers(self, row):
        _, loss = applied(row)
        with jax.checking_leaks():
            jax.jit(jax.grad(loss))(X)

    @pytest.mark.parametrize("platform", ["cpu", "cuda", "rocm", "tpu"])
    def test_export(self, row, platform):
        _, loss = applied(row)
        exported = export.export(jax.jit(jax.value_and_grad(loss)), platforms=[platform])(
            jax.ShapeDtypeStruct(X.shape, np.float32)
        )
        assert exported.platforms == (platform,)


def _counted_compilations():
    """Collect the names of the functions that JAX compiles in the block."""
    import contextlib
    import logging

    @contextlib.contextmanager
    def collect():
        names = []
        handler = logging.Handler()
        handler.emit = lambda record: names.append(record.getMessage())
        logger = logging.getLogger("jax")
        logger.addHandler(handler)
        propagate, logger.propagate = logger.propagate, False
        try:
            yield names
        finally:
            logger.removeHandler(handler)
            logger.propagate = propagate

    return collect()


def test_the_count_of_compilations_can_fail():
    with jax.log_compiles(), _counted_compilations() as compilations:
        jax.jit(lambda x: x + 3)(jnp.ones(17))
    assert compilations


def test_vmap_over_a_parameter():
    import jaxact

    slopes = jnp.array([0.0, 0.1, 0.5])
    batched = jax.vmap(jaxact.leaky_relu, in_axes=(None, 0))(X, slopes)
    np.testing.assert_array_equal(batched, jnp.stack([jaxact.leaky_relu(X, s) for s in slopes]))

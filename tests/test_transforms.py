"""Transforms: every function under every JAX transform, alone and nested, without retracing."""

import contextlib
import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax

import jaxact
from oracle import ROWS, spread

# Each row of the batch is an image of 2 channels, so that every function takes it.
X = spread(np.random.default_rng(0), (3, 2, 1, 4), high=3)
COTANGENT = np.random.default_rng(1).standard_normal((3, 2, 1, 4)).astype(np.float32)


# The compiler fuses and contracts each program in its own way, which moves a result by an ULP or two.
CLOSE = {"rtol": 2e-6, "atol": 1e-7}


def applied(row):
    """Return the function at the row's parameters, and a scalar loss of it and a cotangent."""
    f = functools.partial(row.function, **row.parameters)
    return f, lambda x, c=COTANGENT: jnp.sum((y := f(x)) * c[..., : y.shape[-1]])


@pytest.mark.parametrize("row", ROWS)
class TestTransforms:
    def test_vmap_is_the_stack_of_the_rows(self, row):
        f, _ = applied(row)
        np.testing.assert_allclose(jax.vmap(f)(X), jnp.stack([f(x) for x in X]), **CLOSE)
        moved = jnp.moveaxis(X, 0, 2)
        np.testing.assert_allclose(jnp.moveaxis(jax.vmap(f, 2, 2)(moved), 2, 0), f(X), **CLOSE)

    def test_grad_under_jit_vmap_checkpoint_and_scan(self, row, debug_nans):
        _, loss = applied(row)
        expected = jax.grad(loss)(X)
        np.testing.assert_allclose(jax.jit(jax.grad(loss))(X), expected, **CLOSE)
        np.testing.assert_allclose(jax.grad(jax.checkpoint(loss))(X), expected, **CLOSE)
        np.testing.assert_allclose(jax.vmap(jax.grad(loss))(X, COTANGENT), expected, **CLOSE)
        _, scanned = lax.scan(lambda carry, xc: (carry, jax.grad(loss)(*xc)), None, (X, COTANGENT))
        np.testing.assert_allclose(scanned, expected, **CLOSE)

    def test_jacobians_agree(self, row):
        f, loss = applied(row)
        x, c = X[0], COTANGENT[0]
        forward, reverse = jax.jacfwd(f)(x), jax.jacrev(f)(x)
        np.testing.assert_allclose(forward, reverse, **CLOSE)
        product = np.tensordot(c[..., : forward.shape[2]], forward, 3)
        np.testing.assert_allclose(product, jax.grad(loss)(x, c), rtol=1e-5, atol=1e-6)

    def test_hessian_is_symmetric_and_the_derivative_of_the_gradient(self, row, x64):
        _, loss = applied(row)
        x, c = X[0].astype(np.float64), COTANGENT[0].astype(np.float64)
        hessian = np.asarray(jax.hessian(loss)(x, c)).reshape(x.size, x.size)
        gradient = jax.jit(jax.grad(lambda flat: loss(flat.reshape(x.shape), c)))
        flat, step = x.reshape(-1), 1e-6
        differences = [(gradient(flat + step * e) - gradient(flat - step * e)) / (2 * step) for e in np.eye(x.size)]
        np.testing.assert_allclose(hessian, hessian.T, atol=1e-12)
        np.testing.assert_allclose(hessian, np.stack(differences), atol=1e-7)

    def test_jvp_of_grad_and_grad_of_jvp(self, row):
        _, loss = applied(row)
        _, hvp = jax.jvp(jax.grad(loss), (X,), (COTANGENT,))
        reverse = jax.grad(lambda x: jax.jvp(loss, (x,), (COTANGENT,))[1])(X)
        np.testing.assert_allclose(hvp, reverse, rtol=1e-4, atol=1e-6)

    def test_no_retracing(self, row):
        traces = []

        @jax.jit
        def f(x):
            traces.append(None)
            return row.function(x, **row.parameters)

        weak = jnp.full(X.shape, 1.5)
        for x in (X, weak):
            row.function(x, **row.parameters)
        with counted_compilations() as compilations:
            for x in (X, weak):
                row.function(x + 1, **row.parameters)
                row.function(x + 2, **row.parameters)
            f(X), f(X + 1)
        assert len(traces) == 1
        assert [name for name in compilations if row.name in name] == []

    def test_export(self, row):
        """For all platforms at once."""
        _, loss = applied(row)
        platforms = ("cpu", "cuda", "rocm", "tpu")
        f = jax.jit(jax.value_and_grad(loss))
        exported = export.export(f, platforms=platforms)(jax.ShapeDtypeStruct(X.shape, np.float32))
        assert exported.platforms == platforms
        for ours, expected in zip(exported.call(X), f(X), strict=True):
            np.testing.assert_allclose(ours, expected, **CLOSE)


@contextlib.contextmanager
def counted_compilations():
    """Collect what JAX logs of its compilations in the block."""
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger("jax")
    logger.addHandler(handler)
    propagate, logger.propagate = logger.propagate, False
    try:
        with jax.log_compiles():
            yield messages
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


def test_the_count_of_compilations_can_fail():
    with counted_compilations() as compilations:
        jax.jit(lambda x: x + 3)(jnp.ones(17))
    assert compilations


def test_vmap_over_a_parameter():
    slopes = jnp.array([0.0, 0.1, 0.5])
    batched = jax.vmap(jaxact.leaky_relu, in_axes=(None, 0))(X, slopes)
    np.testing.assert_array_equal(batched, jnp.stack([jaxact.leaky_relu(X, s) for s in slopes]))


@pytest.mark.parametrize("special", [0.0, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", ROWS)
def test_what_follows_in_the_program_changes_nothing(row, special):
    """XLA fuses sums and matrix products with what comes before, and computes that by other code than alone.

    The matrix is no constant: of one of equal elements, XLA makes NaN out of any quotient (jaxlib 0.10.2).
    """
    f, _ = applied(row)
    x = np.random.default_rng(2).normal(size=(2, 16, 1024)).astype(np.float32)
    x[1, 5, 7] = special
    y = f(x)
    ones = jnp.ones((y.shape[-1], 8))
    for follow in (lambda y, _: jnp.sum(y, axis=-1), jnp.matmul, lambda y, ones: y * y @ ones):
        expected = follow(y, ones)
        scale = jnp.sum(jnp.where(jnp.isfinite(y), jnp.abs(y), 0), axis=-1).max()
        fused = jax.jit(lambda x, ones, follow=follow: follow(f(x), ones))(x, ones)
        np.testing.assert_allclose(fused, expected, rtol=1e-5, atol=float(1e-5 * scale))

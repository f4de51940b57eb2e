"""Overhead: an eager call is one compiled kernel, at most twice a jitted x + 1 on 1,024 elements."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from oracle import ROWS

X = jnp.asarray(np.random.default_rng(0).standard_normal(1024), jnp.float32)


def fastest_ratio(f, g, rounds=40, calls=100):
    """Return the time of f over that of g, each the fastest of its rounds, which take turns."""
    times = {f: [], g: []}
    for _ in range(rounds):
        for h, seconds in times.items():
            start = time.perf_counter()
            for _ in range(calls):
                y = h()
            y.block_until_ready()
            seconds.append(time.perf_counter() - start)
    return min(times[f]) / min(times[g])


@pytest.mark.parametrize("row", ROWS)
def test_an_eager_call_costs_at_most_two_jitted_additions(row):
    add = jax.jit(lambda x: x + 1)
    x = X.reshape(2, 16, 32) if row.name == "softmax2d" else X
    assert fastest_ratio(lambda: row.function(x, **row.parameters), lambda: add(x)) <= 2


def test_the_bound_can_be_exceeded():
    add = jax.jit(lambda x: x + 1)
    assert fastest_ratio(lambda: jnp.where(X > 0, X, 0.1 * X) + 1, lambda: add(X), rounds=5) > 2

"""as_jax: called from several threads at once, and on one core."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

from as_jax_cases import x
from jaxact.interop import as_jax


class Slow(nn.Linear):
    def forward(self, x):
        time.sleep(0.005)  # another thread has its turn
        return super().forward(x)


def test_one_module_in_several_threads():
    nets = [jax.tree.map(lambda p, n=n: jnp.full_like(p, n), as_jax(Slow(3, 3))) for n in range(4)]
    gradient = jax.jit(jax.value_and_grad(lambda net: (net(x) ** 2).sum()))
    expected = [gradient(net) for net in nets]
    with ThreadPoolExecutor(4) as threads:
        actual = list(threads.map(lambda i: gradient(nets[i % 4]), range(40)))
    for i, result in enumerate(actual):
        jax.tree.map(np.testing.assert_array_equal, result, expected[i % 4])


def test_calls_from_eight_threads():
    gradient = jax.jit(jax.grad(lambda x: as_jax(torch.sin)(as_jax(torch.exp)(x) @ x).sum()))
    values = jnp.linspace(0, 1, 10_000).reshape(100, 100) / 100
    expected, wrong = gradient(values), []

    def work():
        for _ in range(10):
            if not jnp.array_equal(gradient(values), expected):
                wrong.append(True)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux to take all but one core away")
def test_one_core_and_large_arrays_do_not_hang():
    """The case in which a callback that waits for JAX hangs (with jax.pure_callback it does)."""
    code = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import jax, jax.numpy as jnp, torch
from jaxact.interop import as_jax
f = as_jax(torch.nn.functional.silu)
g = jax.jit(jax.grad(lambda x: f(f(x) + x[:, ::-1]).sum()))
x = jnp.ones((2000, 2000))
jax.block_until_ready([g(x) for _ in range(3)] + [f(f(x) + 1) for _ in range(3)])
print("done")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
    assert done.stdout.strip() == "done", done.stderr

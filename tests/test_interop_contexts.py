"""Conversions inside torch.compile, in the modes that torch can be in, and in a process that was forked."""

import subprocess
import sys

import jax
import numpy as np
import pytest
import torch

from jaxact.interop import to_jax, to_numpy, to_torch
from layouts import FRAMEWORKS, make, pointer, read

TO = {"jax": to_jax, "torch": to_torch, "numpy": to_numpy}
TYPE = {"jax": jax.Array, "torch": torch.Tensor, "numpy": np.ndarray}


class TestCompile:
    @pytest.fixture(autouse=True)
    def _compile_anew(self):
        torch.compiler.reset()

    @pytest.mark.parametrize(
        ("wrap", "options"), [(lambda x: x, {}), (lambda x: {"a": [x, 1.0]}, {"copy": True})], ids=["array", "tree"]
    )
    @pytest.mark.parametrize("target", FRAMEWORKS)
    def test_a_conversion_is_a_graph_break(self, target, wrap, options):
        graphs = []

        def backend(graph, _inputs):
            graphs.append(graph)
            return graph

        def function(x):
            y = TO[target](wrap(x + 1), **options)
            return y, x * 2

        y, doubled = torch.compile(function, backend=backend)(torch.ones(3))
        leaf = jax.tree.leaves(y)[0]
        assert isinstance(leaf, TYPE[target])
        assert leaf.tolist() == doubled.tolist() == [2, 2, 2]
        assert len(graphs) == 2

    @pytest.mark.parametrize("source", ["jax", "numpy"])
    @pytest.mark.parametrize("target", FRAMEWORKS)
    def test_of_what_is_no_tensor(self, target, source):
        x, expected = make(source, "float32")
        assert read(torch.compile(lambda x: TO[target](x), backend="eager")(x)) == expected

    def test_a_step_through_jax_and_back(self):
        step = torch.compile(lambda x: to_torch(to_jax(x * 2)) + 1, backend="eager")
        for value in (0.0, 1.0):
            assert step(torch.full((3,), value)).tolist() == [2 * value + 1] * 3

    def test_a_whole_graph_is_refused_with_the_reason(self):
        with pytest.raises(RuntimeError, match="it is JAX that works here, which no graph of torch can hold"):
            torch.compile(lambda x: to_jax(x), backend="eager", fullgraph=True)(torch.ones(3))


MODES = {
    "inference mode": torch.inference_mode,
    "no grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "device meta": lambda: torch.device("meta"),
    "64-bit mode": lambda: jax.enable_x64(True),
}


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize(
    ("layout", "dtype"), [("contiguous", "float32"), ("strided", "float32"), ("transposed", "bfloat16")]
)
@pytest.mark.parametrize("source", FRAMEWORKS)
@pytest.mark.parametrize("target", FRAMEWORKS)
def test_the_mode_changes_nothing(target, source, layout, dtype, mode):
    x, expected = make(source, dtype, layout)
    outside = TO[target](x)
    with mode():
        inside, copy = TO[target](x), TO[target](x, copy=True)
    for y in (inside, copy):
        assert (read(y), y.dtype, y.shape) == (expected, outside.dtype, outside.shape)
    assert (pointer(inside) == pointer(x)) == (pointer(outside) == pointer(x))


FORK = """
import os, signal, warnings
import jax, jax.numpy as jnp, numpy as np, torch
from jaxact.interop import to_jax, to_numpy, to_torch
warnings.simplefilter("ignore")  # JAX warns of forks
arrays = [torch.ones(64), torch.ones(8, dtype=torch.bfloat16), torch.ones(64, dtype=torch.int64)[::2],
          np.ones(64, "float32"), np.ones(64)[::-2], {"a": torch.ones(3), "b": [np.ones(3), 1.0]}]
x = jax.jit(lambda x: x * 2)(jnp.ones(2**20)).block_until_ready()  # now JAX has threads, which a fork does not copy
to_torch(to_jax(arrays))
child = os.fork()
if not child:
    signal.alarm(60)  # JAX does not compute here, but waits for ever
    for copy in (None, True):
        for converted in (to_jax(arrays, copy=copy), to_torch([arrays, x], copy=copy), to_numpy(x, copy=copy)):
            for leaf in jax.tree.leaves(to_numpy(converted)):
                assert type(leaf) is float or set(np.asarray(leaf, "float32").tolist()) <= {1, 2}
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print(*to_numpy(to_jax(torch.ones(2))))
"""


def test_after_a_fork_both_processes_convert():
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True)
    assert done.stdout == "1.0 1.0\n", done.stderr

"""as_jax: what is known to be equal is one function, and copies and pickles of one are it."""

import copy
import gc
import pickle
import subprocess
import sys
import time
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from as_jax_cases import TRANSFORMS, close, in_torch, made, network, setting, x
from jaxact.interop import as_jax


def shifted(amount):
    """Return a hook that is another function for each amount."""
    return lambda module, args, result: result + amount


class Named(nn.Linear):
    """A linear layer that holds something besides."""

    def __init__(self, held):
        super().__init__(3, 3)
        self.held = held


class Tied(nn.Module):
    def __init__(self, tie):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        if tie:
            self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x))


def of_one_class(n):
    class Scaled(nn.Linear):
        def forward(self, x):
            return n * super().forward(x)

    return Scaled(3, 3)


# Pairs of modules, equal but for the values of trainable parameters.
EQUAL = {
    "linear": lambda: nn.Linear(3, 3),
    "network": network,
    "attention": lambda: nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True).eval(),
    "tied": lambda: Tied(True),
    "settings": lambda: Named({"a": (1, 2.0, None, "x", {"b"}), "f": F.relu, "d": torch.float32}),
    "buffer": lambda: made(nn.Linear(3, 3), lambda m: m.register_buffer("b", torch.ones(3))),
    "frozen": lambda: made(nn.Linear(3, 3), lambda m: m.bias.requires_grad_(False).zero_()),
    "recurrent": lambda: nn.LSTM(3, 3, batch_first=True),
}


# And pairs that are not, or of which that is not known.
UNEQUAL = {
    "class": [lambda: nn.ReLU(), lambda: nn.ReLU6()],
    "classes of one name": [lambda: of_one_class(1), lambda: of_one_class(2)],
    "setting": [lambda: nn.LeakyReLU(0.1), lambda: nn.LeakyReLU(0.2)],
    "zeros": [lambda: nn.LeakyReLU(0.0), lambda: nn.LeakyReLU(-0.0)],
    "one and true": [lambda: Named(1), lambda: Named(True)],
    "training": [lambda: nn.Linear(3, 3), lambda: nn.Linear(3, 3).eval()],
    "buffer": [
        lambda n=n: made(nn.Linear(3, 3), lambda m: m.register_buffer("b", torch.full((3,), n))) for n in (0.0, -0.0)
    ],
    "frozen": [lambda n=n: made(nn.Linear(3, 3), lambda m: m.requires_grad_(False).bias.fill_(n)) for n in (1.0, 2.0)],
    "frozen or not": [lambda n=n: made(nn.Linear(3, 3), lambda m: m.bias.requires_grad_(n)) for n in (True, False)],
    "hook": [lambda n=n: made(nn.Linear(3, 3), lambda m: m.register_forward_hook(shifted(n))) for n in (1, 2)],
    "method": [lambda n=n: made(nn.ReLU(), lambda m: setattr(m, "forward", lambda x: n * x)) for n in (1, 2)],
    "tied": [lambda: Tied(True), lambda: Tied(False)],
    "order": [lambda: Named({"a": 1, "b": 2}), lambda: Named({"b": 2, "a": 1})],
    "unknown": [lambda: Named(object()), lambda: Named(object())],
}


class TestEqualBridges:
    @pytest.mark.parametrize("make", EQUAL.values(), ids=EQUAL)
    def test_what_was_compiled_for_one_serves_the_next(self, make):
        first, second = as_jax(make()), as_jax(make())
        assert first.func is second.func
        assert jax.tree.structure(first) == jax.tree.structure(second)

    @pytest.mark.parametrize("makes", UNEQUAL.values(), ids=UNEQUAL)
    def test_what_is_not_known_to_be_equal_is_apart(self, makes):
        first, second = (as_jax(make()) for make in makes)
        assert first.func is not second.func

    def test_functions(self):
        assert as_jax(torch.sin) is as_jax(torch.sin)
        assert as_jax(torch.sin) is not as_jax(torch.sin, vmap_method="batched")
        assert as_jax(torch.sin) is not as_jax(torch.sin, result_shape_dtypes=x)
        assert as_jax(torch.sin) is not as_jax(torch.cos)
        assert as_jax(shifted(1)) is not as_jax(shifted(1))
        with setting(torch.set_default_dtype, torch.float64, torch.get_default_dtype):
            in_double = as_jax(torch.sin)
        assert as_jax(torch.sin) is not in_double

    def test_one_is_traced_once(self):
        traces = []

        @jax.jit
        def run(net, x):
            traces.append(True)
            return net(x)

        for _ in range(3):
            module = nn.Linear(3, 2)
            close(run(as_jax(module), x), module(torch.tensor(np.asarray(x))).detach())
        assert len(traces) == 1

    @pytest.mark.parametrize("transform", ["call", "jit", "vmap", "grad", "hessian"])
    def test_nothing_is_kept_of_one_that_nobody_has(self, transform):
        class Function:
            def __call__(self, x):
                return x.sin().sum()

        function = Function()
        gone, bridge = weakref.ref(function), as_jax(function)
        jax.block_until_ready(TRANSFORMS[transform](bridge)(x))
        del function, bridge
        if transform in ("grad", "hessian"):
            jax.clear_caches()  # some releases of JAX (0.8.0 and 0.10.0) keep what they have differentiated
        for _ in range(100):  # what one collection frees lets go of more, and the runtime of its own in its time
            gc.collect()
            if gone() is None:
                break
            time.sleep(0.05)
        assert gone() is None


class TestCopies:
    @pytest.mark.parametrize("fn", [torch.sin, F.softplus, in_torch], ids=["builtin", "functional", "function"])
    def test_pickle_a_function(self, fn):
        arguments = (x,) if fn is not in_torch else (x, x)
        again = pickle.loads(pickle.dumps(as_jax(fn)))
        assert again is as_jax(fn)
        jax.tree.map(close, again(*arguments), as_jax(fn)(*arguments))

    @pytest.mark.parametrize("make", EQUAL.values(), ids=EQUAL)
    def test_pickle_a_module(self, make):
        net = as_jax(make())
        again = pickle.loads(pickle.dumps(net))
        assert jax.tree.structure(again) == jax.tree.structure(net)
        assert jax.tree.all(jax.tree.map(jnp.array_equal, again, net))

    def test_load_in_another_process(self, tmp_path):
        net = as_jax(nn.Sequential(nn.Linear(3, 2), nn.Tanh()), vmap_method="batched")
        (tmp_path / "net").write_bytes(pickle.dumps((net, x, jax.vmap(net)(x))))
        code = f"""
import pickle, jax
net, x, expected = pickle.load(open({str(tmp_path / "net")!r}, "rb"))
assert abs(jax.vmap(net)(x) - expected).max() < 1e-6
assert "vmap" in str(jax.make_jaxpr(jax.vmap(net))(x))
print(jax.grad(lambda net: net(x).sum())(net).args[0].keys() == net.args[0].keys())
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.stdout.strip() == "True", done.stderr

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy], ids=["copy", "deepcopy"])
    def test_copy(self, copied):
        net = as_jax(nn.Linear(3, 2))
        assert copied(net).func is net.func
        assert copied(as_jax(torch.sin)) is as_jax(torch.sin)

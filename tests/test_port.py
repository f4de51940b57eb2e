"""port: every activation module of torch as a native JAX function, against the module itself in float64."""

import copy
import inspect
import pickle
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

from jaxact.interop import PrecisionWarning, port
from port_cases import ADAPTIVE, ATTENTION, CLASSES, SETTINGS, assert_like_torch, cases, of


@pytest.mark.parametrize("name", CLASSES)
class TestEveryClass:
    def test_values_and_gradients_are_torchs(self, name):
        for module, inputs, options in cases(name).values():
            assert_like_torch(module, inputs, options)

    def test_equal_modules_have_equal_structure_and_weights_alone_are_leaves(self, name):
        for module, _, _ in cases(name).values():
            net, again = port(module), port(copy.deepcopy(module))
            assert jax.tree.structure(net) == jax.tree.structure(again)
            assert hash(jax.tree.structure(net)) == hash(jax.tree.structure(again))
            names = dict(module.named_parameters()).keys()
            assert net.args[0].keys() == names
            assert len(jax.tree.leaves(net)) == len(names)

    def test_the_cases_set_all_that_torch_lets_one_set(self, name):
        settings = {
            "MultiheadAttention": {"embed_dim", "num_heads"}.union(*(case[0] for case in ATTENTION.values())),
            "AdaptiveLogSoftmaxWithLoss": ADAPTIVE,
        } | SETTINGS
        without_meaning = {"inplace", "device", "dtype", "min_value", "max_value", "args", "kwargs"}
        assert set(settings[name]) == inspect.signature(getattr(nn, name)).parameters.keys() - without_meaning


def test_different_modules_have_different_structure():
    assert len({jax.tree.structure(port(of(name))) for name in CLASSES}) == len(CLASSES)


@pytest.mark.parametrize("name", ["PReLU", "RReLU", "Softplus", "MultiheadAttention", "AdaptiveLogSoftmaxWithLoss"])
def test_float64(name, x64):
    assert_like_torch(*next(iter(cases(name).values())), np.float64)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_keep_their_dtype(dtype):
    net = port(nn.PReLU(init=0.3).to(dtype))
    weight = net.args[0]["weight"]
    assert str(weight.dtype) == str(dtype).removeprefix("torch.")
    assert net(-jnp.ones(2, weight.dtype)).tolist() == [-weight[0]] * 2


def test_float64_weights_without_64_bit_mode_are_narrowed_as_to_jax_does():
    with pytest.warns(PrecisionWarning, match="rounded to float32") as caught:
        net = port(nn.PReLU(init=0.1, dtype=torch.float64))
    assert caught[0].filename == __file__
    assert net(jnp.float32(-1)) == -jnp.float32(0.1)


class TestSequential:
    @staticmethod
    def nested():
        inner = nn.Sequential(nn.Identity(), nn.PReLU(4, init=0.2), nn.Sequential(nn.LeakyReLU(0.3), nn.Softplus()))
        return nn.Sequential(nn.PReLU(), inner, nn.Tanhshrink()).eval()

    inputs = (np.random.default_rng(0).standard_normal((5, 4)),)

    def test_values_and_gradients(self):
        assert_like_torch(self.nested(), self.inputs, {})

    @pytest.mark.parametrize("module", [nn.Identity(), nn.Sequential(), nn.Sequential(nn.Identity())], ids=str)
    def test_identity(self, module):
        x = jnp.array([1.0, -0.0])
        assert jnp.array_equal(1 / port(module)(x), 1 / x)
        assert isinstance(port(module)(np.float32([1, 2])), jax.Array)
        with pytest.raises(TypeError, match=r"torch\.Tensor; convert it with jaxact\.interop\.to_jax"):
            port(module)(torch.ones(1))

    def test_a_module_that_occurs_twice_has_its_weights_once(self):
        shared = nn.PReLU(4, init=0.3)
        module = nn.Sequential(shared, nn.Tanhshrink(), shared)
        assert port(module).args[0].keys() == {"0.weight"}
        assert_like_torch(module, self.inputs, {})

    def test_weights_that_are_tied(self):
        module = nn.Sequential(nn.PReLU(), nn.Softsign(), nn.PReLU())
        module[2].weight = module[0].weight
        assert_like_torch(module, self.inputs, {})

    def test_names(self):
        module = nn.Sequential()
        module.add_module("static", nn.Sequential(nn.PReLU(), nn.PReLU(4)))
        assert port(module).args[0].keys() == dict(module.named_parameters()).keys()


def test_inplace_is_ignored():
    x = jnp.array([-1.0, 2.0])
    assert port(nn.ReLU(inplace=True))(x).tolist() == [0, 2]
    assert x.tolist() == [-1, 2]
    assert jax.tree.structure(port(nn.ReLU(inplace=True))) == jax.tree.structure(port(nn.ReLU()))


def test_bounds_that_were_set_on_a_relu6():
    module = nn.ReLU6()
    module.max_val = 3.0
    assert port(module)(jnp.array([-1.0, 2.0, 5.0])).tolist() == module(torch.tensor([-1.0, 2.0, 5.0])).tolist()


def test_the_arguments_of_attention_are_torchs():
    _, *theirs = inspect.signature(nn.MultiheadAttention.forward).parameters.values()
    ours = inspect.signature(port(of("MultiheadAttention")).func.function).parameters.values()
    positional = [p for p in ours if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert [(p.name, p.default) for p in positional] == [(p.name, p.default) for p in theirs]


def test_parameters_that_require_no_grad_are_leaves_too():
    assert port(nn.PReLU().requires_grad_(False)).args[0].keys() == {"weight"}


def test_later_changes_of_the_module_do_not_show():
    for name in ("PReLU", "MultiheadAttention", "AdaptiveLogSoftmaxWithLoss"):
        module = of(name)
        net = port(module)
        before = jax.tree.map(np.array, net)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.zero_()
        jax.tree.map(np.testing.assert_array_equal, net, before)
    module = nn.RReLU().eval()
    net = port(module)
    module.train()
    module.lower = 0.3
    assert net(jnp.array(-48.0)) == -11


WITHOUT_TORCH = """
import pickle, sys
sys.modules["torch"] = None  # from now on it cannot be imported
net, attention = pickle.load(sys.stdin.buffer)
import jax, jax.numpy as jnp
x = jnp.array([[-1.0, 2.0]])
gradient = jax.jit(jax.grad(lambda net, x: net(x).sum()))(net, x)
print(net(x), gradient.args[0]["0.weight"], attention(x, x, x)[1])
"""


class TestWithoutTorch:
    @pytest.fixture
    def nets(self):
        return port(nn.Sequential(nn.PReLU(), nn.ReLU6())), port(nn.MultiheadAttention(2, 1, batch_first=True))

    def test_a_pickled_one_is_loaded_and_called_where_there_is_no_torch(self, nets):
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_TORCH], input=pickle.dumps(nets), capture_output=True, check=False
        )
        assert done.stdout.decode() == "[[0. 2.]] [0.] [[1.]]\n", done.stderr.decode()

    def test_a_pickled_one_has_the_structure_of_the_original(self, nets):
        again = pickle.loads(pickle.dumps(nets))
        assert jax.tree.structure(again) == jax.tree.structure(nets)

    def test_a_call_runs_no_torch(self, nets):
        x, calls = jnp.ones((1, 2)), []

        class Record(torch.overrides.TorchFunctionMode):
            def __torch_function__(self, func, types, args=(), kwargs=None):
                calls.append(func)
                return func(*args, **(kwargs or {}))

        with Record():
            nets[0](x)
            nets[1](x, x, x)
            assert not calls
            port(nn.PReLU())
        assert calls  # the check can fail


def test_the_examples_of_the_docs():
    docs = (Path(__file__).parents[1] / "docs" / "interop.md").read_text()
    found = {}
    exec("\n".join(re.findall(r"```python\n(.*?)```", docs, re.S)), found)
    x = torch.ones(4, 8)
    np.testing.assert_allclose(found["log_prob"], found["module"].log_prob(x).detach(), rtol=1e-5)
    assert found["predict"].tolist() == found["module"].predict(x).tolist()

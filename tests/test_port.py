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

import jaxact
from jaxact.interop import PrecisionWarning, port, to_jax, to_torch

# The classes of torch's two chapters; one that torch adds fails every test that walks them.
CLASSES = [*nn.modules.activation.__all__, *nn.modules.adaptive.__all__]

SHAPE = (2, 4, 3, 6)

# Every setting of the classes of one input, at a value that is not its default.
SETTINGS = {
    "CELU": {"alpha": 2.0},
    "ELU": {"alpha": 1.5},
    "GELU": {"approximate": "tanh"},
    "GLU": {"dim": 1},
    "Hardshrink": {"lambd": 0.25},
    "Hardsigmoid": {},
    "Hardswish": {},
    "Hardtanh": {"min_val": -0.5, "max_val": 2.0},
    "LeakyReLU": {"negative_slope": 0.3},
    "LogSigmoid": {},
    "LogSoftmax": {"dim": 1},
    "Mish": {},
    "PReLU": {"num_parameters": 4, "init": 0.1},
    "ReLU": {},
    "ReLU6": {},
    "RReLU": {"lower": 0.1, "upper": 0.4},
    "SELU": {},
    "SiLU": {},
    "Sigmoid": {},
    "Softmax": {"dim": 1},
    "Softmax2d": {},
    "Softmin": {"dim": -2},
    "Softplus": {"beta": 2.0, "threshold": 3.0},
    "Softshrink": {"lambd": 0.25},
    "Softsign": {},
    "Tanh": {},
    "Tanhshrink": {},
    "Threshold": {"threshold": 0.1, "value": 20.0},
}

# id: settings of the module, shapes of query and of key (and value), arguments of the call
ATTENTION = {
    "plain": ({}, (3, 2, 8), (5, 2, 8), {}),
    "batch first": ({"batch_first": True}, (2, 3, 8), (2, 5, 8), {"need_weights": False}),
    "batch first, no batch": ({"batch_first": True}, (3, 8), (5, 8), {"average_attn_weights": False}),
    "separate projections": ({"kdim": 5, "vdim": 5, "bias": False}, (3, 2, 8), (4, 2, 5), {}),
    "extra keys": ({"add_bias_kv": True, "add_zero_attn": True}, (3, 2, 8), (5, 2, 8), {"need_weights": False}),
    "masks": ({"dropout": 0.5, "batch_first": True}, (2, 3, 8), (2, 5, 8), {
        "attn_mask": np.triu(np.ones((3, 5), bool), 2), "key_padding_mask": np.arange(10).reshape(2, 5) == 6,
    }),
    "causal": ({}, (4, 2, 8), (4, 2, 8), {
        "attn_mask": np.triu(np.ones((4, 4), bool), 1), "is_causal": True, "need_weights": False,
    }),
}  # fmt: skip

ADAPTIVE = {"in_features": 8, "n_classes": 20, "cutoffs": [5, 9], "div_value": 2.0, "head_bias": True}


def cases(name):
    """Return for a class, by id, modules in eval mode with random weights, inputs and arguments of the call."""
    rng = np.random.default_rng(len(name))
    if name == "MultiheadAttention":
        found = {}
        for case, (settings, query, key, options) in ATTENTION.items():
            inputs = [rng.standard_normal(shape) for shape in (query, key, key)]
            found[case] = (nn.MultiheadAttention(8, 2, **settings), inputs, options)
    elif name == "AdaptiveLogSoftmaxWithLoss":
        found = {
            "rows": (nn.AdaptiveLogSoftmaxWithLoss(**ADAPTIVE), [rng.standard_normal((7, 8)), np.arange(7) * 3], {}),
            "a row, no bias": (
                nn.AdaptiveLogSoftmaxWithLoss(8, 20, [5]), [rng.standard_normal(8), np.array(11)], {}
            ),
        }  # fmt: skip
    else:
        found = {"settings": (getattr(nn, name)(**SETTINGS[name]), [3 * rng.standard_normal(SHAPE)], {})}
    for module, _, _ in found.values():
        module.eval()
        for parameter in module.parameters():
            parameter.data = torch.from_numpy(rng.standard_normal(parameter.shape).astype(np.float32) / 2)
    return found


def of(name):
    """Return the module of the first case of a class."""
    return next(iter(cases(name).values()))[0]


# The largest error of an array in units of the dtype's epsilon, relative to its largest number or 1: about twice the
# measured 1.6, and 6.7 of attention.
TOLERANCE, TOLERANCE_OF_ATTENTION = 3, 12


def assert_like_torch(module, inputs, options, dtype=np.float32):
    """Compare outputs, and gradients of the inputs and of the weights, with torch's in float64."""
    inputs = [x.astype(dtype) if x.dtype.kind == "f" else x for x in inputs]
    module = module.to(getattr(torch, np.dtype(dtype).name))
    floats = [i for i, x in enumerate(inputs) if x.dtype.kind == "f"]

    exact = copy.deepcopy(module).double()
    tensors = [torch.from_numpy(x.astype(np.float64)).requires_grad_() if i in floats else torch.from_numpy(x)
               for i, x in enumerate(inputs)]  # fmt: skip
    masks = {name: torch.from_numpy(x) if isinstance(x, np.ndarray) else x for name, x in options.items()}
    expected = present(exact(*tensors, **masks))
    rng = np.random.default_rng(0)
    cotangents = [rng.standard_normal(y.shape).astype(dtype) for y in expected]
    parameters = dict(exact.named_parameters())
    expected_gradients = torch.autograd.grad(
        expected,
        [*parameters.values(), *(tensors[i] for i in floats)],
        [torch.from_numpy(c.astype(np.float64)) for c in cotangents],
        materialize_grads=True,
    )

    @jax.jit
    def run(net, arrays, cotangents):
        def outputs(net, arrays):
            return present(net(*[arrays.get(i, x) for i, x in enumerate(inputs)], **options))

        y, vjp = jax.vjp(outputs, net, arrays)
        return y, vjp(cotangents)

    y, (dnet, dx) = run(port(module), {i: inputs[i] for i in floats}, [jnp.asarray(c) for c in cotangents])
    assert dnet.args[0].keys() == parameters.keys()
    tolerance = TOLERANCE_OF_ATTENTION if isinstance(module, nn.MultiheadAttention) else TOLERANCE
    gradients = [*(dnet.args[0][name] for name in parameters), *(dx[i] for i in floats)]
    for ours, theirs in zip([*y, *gradients], [*expected, *expected_gradients], strict=True):
        theirs = theirs.detach().numpy()
        assert ours.dtype == dtype
        assert ours.shape == theirs.shape
        atol = tolerance * np.finfo(dtype).eps * np.max(np.abs(theirs), initial=1)
        np.testing.assert_allclose(np.asarray(ours, np.float64), theirs, rtol=0, atol=atol)


def present(outputs):
    """Return the outputs of a module as a list, without None."""
    return [y for y in (outputs if isinstance(outputs, tuple) else (outputs,)) if y is not None]


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


class TestTransforms:
    x = jnp.linspace(-2, 2, 12).reshape(3, 4)

    @staticmethod
    def net(seed=0):
        rng = np.random.default_rng(seed)
        module = nn.Sequential(nn.PReLU(4), nn.ELU(1.5), nn.PReLU())
        for parameter in module.parameters():
            parameter.data = torch.from_numpy(rng.uniform(0.1, 0.9, parameter.shape).astype(np.float32))
        return port(module)

    def test_jit_traces_equal_modules_once(self):
        traced = []

        @jax.jit
        def call(net, x):
            traced.append(net)
            return net(x)

        for slope in (0.25, 0.5):
            call(port(nn.Sequential(nn.PReLU(init=slope), nn.ELU(2.0))), self.x)
        assert len(traced) == 1
        call(port(nn.Sequential(nn.PReLU(init=slope), nn.ELU(3.0))), self.x)
        assert len(traced) == 2

    @pytest.mark.parametrize(("first", "second"), [(0.0, -0.0), (-0.0, 0.0), (1, True)])
    def test_settings_that_are_equal_but_not_the_same_are_told_apart(self, first, second):
        call = jax.jit(lambda net, x: net(x))
        for slope in (first, second):
            ours = call(port(nn.LeakyReLU(slope)), jnp.array(-1.0))
            assert np.signbit(ours) == (not np.signbit(float(slope)))
        assert len({jax.tree.structure(port(nn.LeakyReLU(slope))) for slope in (first, second)}) == 2

    def test_a_setting_that_is_nan_is_equal_to_itself(self):
        assert len({jax.tree.structure(port(nn.Threshold(0.1, float("nan")))) for _ in range(2)}) == 1

    def test_vmap_over_inputs(self):
        net = port(nn.PReLU(4))
        assert jnp.array_equal(jax.vmap(net)(self.x), net(self.x))

    def test_vmap_over_weights_is_an_ensemble(self):
        nets = [self.net(seed) for seed in range(3)]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *nets)
        result = jax.vmap(lambda net, x: net(x), in_axes=(0, None))(stacked, self.x)
        np.testing.assert_allclose(result, jnp.stack([net(self.x) for net in nets]), rtol=1e-6)

    def test_scan(self):
        net = self.net()
        carried, rows = jax.lax.scan(lambda net, x: (net, net(x[None])[0]), net, self.x)
        assert jax.tree.structure(carried) == jax.tree.structure(net)
        np.testing.assert_allclose(rows, net(self.x), rtol=1e-6)

    def test_forward_mode(self):
        net = self.net()
        tangent = jax.tree.map(jnp.ones_like, net)
        _, dy = jax.jvp(lambda net: net(self.x).sum(), (net,), (tangent,))
        gradient = jax.grad(lambda net: net(self.x).sum())(net)
        np.testing.assert_allclose(dy, sum(leaf.sum() for leaf in jax.tree.leaves(gradient)), rtol=1e-6)

    def test_func_and_parameters_apart(self):
        net = self.net()
        zero = jax.tree.map(jnp.zeros_like, net.args[0])
        assert jnp.array_equal(net.func(zero, self.x), jnp.maximum(self.x, 0))

    def test_training_is_torchs_and_the_weights_come_back(self):
        torch.manual_seed(0)
        module = nn.MultiheadAttention(8, 2, batch_first=True, add_bias_kv=True)
        net, x = port(module), torch.randn(3, 5, 8)

        @jax.jit
        def step(net, x):
            loss, gradient = jax.value_and_grad(lambda net: jnp.mean((net(x, x, x)[0] - x) ** 2))(net)
            return jax.tree.map(lambda p, g: p - 0.5 * g, net, gradient), loss

        trained, optimizer, losses = copy.deepcopy(module), torch.optim.SGD(module.parameters(), lr=0.5), []
        for _ in range(20):
            net, ours = step(net, to_jax(x))
            optimizer.zero_grad()
            theirs = ((module(x, x, x)[0] - x) ** 2).mean()
            theirs.backward()
            optimizer.step()
            losses.append((ours, theirs.item()))
        assert losses[-1][1] < 0.8 * losses[0][1]  # it does learn
        np.testing.assert_allclose(*np.transpose(losses), rtol=1e-5)
        trained.load_state_dict(to_torch(net.args[0]))
        torch.testing.assert_close(trained(x, x, x), module(x, x, x), rtol=1e-4, atol=1e-5)


class TestRandomness:
    x = -jnp.ones((3, 4))
    key = jax.random.key(0)

    def test_rrelu(self):
        net = port(nn.RReLU(0.1, 0.4))
        assert jnp.array_equal(net(self.x, key=self.key), jaxact.rrelu(self.x, 0.1, 0.4, training=True, key=self.key))
        with pytest.raises(ValueError, match=r"rrelu: training=True .* needs key="):
            net(self.x)

    def test_rrelu_in_a_sequential(self):
        net = port(nn.Sequential(nn.RReLU(), nn.Sequential(nn.Tanh(), nn.RReLU())))
        first, second = (jax.random.fold_in(self.key, i) for i in (0, 2))
        expected = jnp.tanh(jaxact.rrelu(self.x, training=True, key=first))
        expected = jaxact.rrelu(expected, training=True, key=second)
        np.testing.assert_allclose(jax.jit(lambda net, x, key: net(x, key=key))(net, self.x, self.key), expected, 1e-6)
        with pytest.raises(ValueError, match=r"rrelu: training=True .* needs key="):
            net(self.x)

    def test_the_mode_is_that_of_each_module(self):
        module = nn.Sequential(nn.RReLU(), nn.RReLU()).train()
        module[0].eval()
        expected = jaxact.rrelu(jaxact.rrelu(self.x), training=True, key=jax.random.fold_in(self.key, 1))
        assert jnp.array_equal(port(module)(self.x, key=self.key), expected)
        assert jnp.array_equal(port(module.eval())(self.x), jaxact.rrelu(jaxact.rrelu(self.x)))

    def test_dropout(self):
        module = nn.MultiheadAttention(4, 2, dropout=0.5)
        net = port(module)
        with pytest.raises(ValueError, match=r"dropout_p=0.5 needs dropout_key"):
            net(self.x, self.x, self.x)
        one, same, other = (
            net(self.x, self.x, self.x, dropout_key=jax.random.key(seed), average_attn_weights=False)[1]
            for seed in (0, 0, 1)
        )
        assert jnp.array_equal(one, same)
        assert not jnp.array_equal(one, other)
        assert 0 < (one == 0).mean() < 1
        assert (port(module.eval())(self.x, self.x, self.x)[1] > 0).all()

    def test_what_draws_nothing_takes_no_key(self):
        with pytest.raises(TypeError, match="unexpected keyword argument 'key'"):
            port(nn.Tanh())(self.x, key=self.key)


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


class Doubled(nn.ReLU):
    def forward(self, input):
        return 2 * super().forward(input)


def changed(module, change):
    change(module)
    return module


def with_forward(module):
    module.forward = torch.sin


def with_computed_projection(module):
    nn.utils.parametrizations.weight_norm(module.out_proj)


UNKNOWN = r"none of torch's activation modules.*jaxact\.interop\.as_jax takes any module"


@pytest.mark.parametrize(
    ("module", "error", "message"),
    [
        (3, TypeError, r"port: module must be a torch\.nn\.Module, got int"),
        (nn.ReLU, TypeError, r"got type"),
        (torch.sin, TypeError, r"got builtin_function_or_method; .* same names in jaxact"),
        (nn.Linear(2, 3), TypeError, f"port: Linear is {UNKNOWN}"),
        (nn.Dropout(), TypeError, f"port: Dropout is {UNKNOWN}"),
        (nn.Sequential(nn.Tanh(), nn.Sequential(nn.Tanh(), nn.Linear(2, 3))), TypeError, f"Linear at 1.1 is {UNKNOWN}"),
        (Doubled(), TypeError, "Doubled is a subclass of ReLU, which may compute something else; .*as_jax"),
        (type("Chained", (nn.Sequential,), {})(), TypeError, "Chained is a subclass of Sequential"),
        (nn.Sequential(nn.MultiheadAttention(4, 2)), TypeError, "Sequential passes one input, and MultiheadAttention"),
        (
            nn.Sequential(nn.Tanh(), nn.Sequential(nn.Softmax())),
            ValueError,
            r"Softmax at 1.0 has dim=None.*set its dim first",
        ),
        (nn.ELU(torch.tensor(2.0)), TypeError, "ELU holds a Tensor where one of its parameters or a number should be"),
        (changed(nn.Tanh(), with_forward), ValueError, "Tanh has a forward method of its own"),
        (
            changed(nn.PReLU(), lambda m: m.register_parameter("other", nn.Parameter(torch.ones(1)))),
            ValueError,
            "torch's modules have no parameters other, .*as_jax",
        ),
        (changed(nn.PReLU(), nn.utils.parametrizations.weight_norm), TypeError, "ParametrizedPReLU is a subclass of"),
        (
            changed(nn.MultiheadAttention(4, 2), with_computed_projection),
            TypeError,
            "ParametrizedNonDynamicallyQuantizableLinear at out_proj is a subclass",
        ),
        (
            changed(nn.AdaptiveLogSoftmaxWithLoss(8, 9, [4]), lambda m: m.tail[0].append(nn.ReLU())),
            TypeError,
            f"ReLU at tail.0.2 is {UNKNOWN}",
        ),
        (
            changed(nn.AdaptiveLogSoftmaxWithLoss(8, 9, [4]), lambda m: m.tail[0].append(nn.Linear(5, 5, bias=False))),
            ValueError,
            "no parameters tail.0.2.weight",
        ),
    ],
    ids=lambda value: None if isinstance(value, (str, type)) else type(value).__name__,
)
def test_errors(module, error, message):
    with pytest.raises(error, match=message):
        port(module)


@pytest.mark.parametrize(
    "register",
    [
        lambda m: m.register_forward_hook(lambda m, x, y: 2 * y),
        lambda m: m.register_forward_pre_hook(lambda m, x: None),
        lambda m: m.register_full_backward_hook(lambda m, dx, dy: None),
        lambda m: m.register_full_backward_pre_hook(lambda m, dy: None),
    ],
    ids=["forward", "forward pre", "backward", "backward pre"],
)
def test_hooks_are_refused(register):
    module = nn.Sequential(nn.Tanh(), nn.Sequential(nn.Tanh()))
    for part, where in ((module, "Sequential"), (module[1], "Sequential at 1"), (module[1][0], "Tanh at 1.0")):
        handle = register(part)
        with pytest.raises(ValueError, match=f"port: {where} has hooks, .*as_jax"):
            port(module)
        handle.remove()
    port(module)


def test_the_examples_of_the_docs():
    docs = (Path(__file__).parents[1] / "docs" / "interop.md").read_text()
    found = {}
    exec("\n".join(re.findall(r"```python\n(.*?)```", docs, re.S)), found)
    x = torch.ones(4, 8)
    np.testing.assert_allclose(found["log_prob"], found["module"].log_prob(x).detach(), rtol=1e-5)
    assert found["predict"].tolist() == found["module"].predict(x).tolist()

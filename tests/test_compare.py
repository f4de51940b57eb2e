"""compare: right ports pass with no tolerance given, and wrong ones are named with their module and line."""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from ports import PORTS, defaults
from torch import nn

from jaxact.interop import assert_parity, compare, to_jax
from jaxact.interop.crosscheck.program import Program

# One of each kind of mistake, in models of every library: the whole corpus is `make crosscheck`.
MISTAKES = {
    "transformer-jax": ["eps@0", "merge@0", "bfloat16@5", "float16", "ddof@6"],
    "transformer-nnx": ["mask@3"],
    "transformer-eqx": ["tanh-gelu@10"],
    "transformer-scan": ["tanh-gelu"],
    "convnet-jax": ["pool-zeros", "flatten"],
    "convnet-linen": ["slope", "nhwc"],
    "mlp-jax": ["half@4", "half-weights@6", "nan", "kink", "untransposed@10+no-bias@20"],
    "lstm-jax": ["gates@1"],
    "llama-jax": ["rope-pairs@3", "tiled@2", "scaled"],
    "unet-jax": ["bilinear"],
    "vit-eqx": ["token-last", "scale@0+dropout@2"],
    "t5-jax": ["gelu@1", "scaled-scores"],
}
RANDOM = np.random.default_rng(1)
# Where the module is right, and the line is one that computes with what is wrong, or the one before what is left out.
OTHER_LINE = {"no-bias@20", "gates@1", "rope-pairs@3", "nhwc"}
X = np.random.default_rng(0).standard_normal((8, 16)).astype(np.float32)
STRUCT = jax.ShapeDtypeStruct((8, 16), "float32")


@pytest.fixture(autouse=True)
def promotion_as_users_have_it():
    with defaults():
        yield


@pytest.mark.parametrize("name", PORTS)
def test_a_right_port_passes(name):
    jax_fn, module, inputs = PORTS[name].build(0)
    report = assert_parity(jax_fn, module, *inputs)
    assert not report.divergences


@pytest.mark.parametrize(("name", "mistake"), [(name, mistake) for name in MISTAKES for mistake in MISTAKES[name]])
def test_a_wrong_port_is_named(name, mistake):
    port = PORTS[name]
    jax_fn, module, inputs = port.build(0, mistake)
    report = compare(jax_fn, module, *inputs)
    assert not report.passed
    for part in mistake.split("+"):
        assert {d.module for d in report.divergences} & set(port.mistakes[part]), report
        lines = {f"{Path(path).name}:{line}" for group in port.lines_of(part) for path, line in group}
        assert part in OTHER_LINE or lines & {line for d in report.divergences for line in (d.source, *d.calls)}, report
    assert report.divergence.module in {name for part in mistake.split("+") for name in port.mistakes[part]}
    assert all(len(line) <= 100 for line in str(report).splitlines())
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False)) == report.to_dict()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(
    ("jax_fn", "torch_fn"),
    [
        (functools.partial(jax.nn.gelu, approximate=False), nn.functional.gelu),
        (lambda x: 0.5 * x * (1 + jax.lax.erf(x / np.sqrt(2).astype(x.dtype))), nn.functional.gelu),
        (jax.jit(jax.nn.mish), nn.Mish()),
        (jax.nn.softmax, functools.partial(torch.softmax, dim=-1)),
    ],
)
def test_the_way_a_function_is_computed_does_not_matter(jax_fn, torch_fn, dtype):
    assert_parity(jax_fn, torch_fn, (3 * X).astype(dtype))


def test_a_huge_element_hides_no_other():
    x = np.concatenate([X.ravel(), np.float32([1e7])])
    report = compare(jax.nn.gelu, nn.functional.gelu, x)
    assert [row.passed for row in report.rows] == [False, False]
    assert report.rows[0].ratio < 1  # by the array's rule alone it would pass
    assert_parity(functools.partial(jax.nn.gelu, approximate=False), nn.functional.gelu, x)


@pytest.mark.parametrize(
    ("jax_fn", "torch_fn", "said"),
    [
        (jax.nn.gelu, nn.GELU(), "the port computes gelu(approximate='tanh')"),
        (lambda x: jax.nn.leaky_relu(x, 0.1), nn.LeakyReLU(), "the port computes leaky_relu(negative_slope=0.1)"),
        (lambda x: jax.nn.softmax(x, 0), nn.Softmax(-1), "the port computes softmax(dim=-2)"),
        (lambda x: 2 * jnp.tanh(x), torch.tanh, "a constant factor: the port's values are 2 times torch's"),
        (lambda x: jnp.tanh(x) + 1, torch.tanh, "a constant offset: the port's values are torch's +1"),
        (lambda x: jnp.tanh(x)[:, ::-1], torch.tanh, "axis 1 is reversed"),
        (lambda x: jnp.tanh(x.reshape(16, 8).T), lambda x: torch.tanh(x), "the values are torch's in another order"),
        (lambda x: jnp.tanh(x).T, torch.tanh, "the values are right, in shape (16, 8) for (8, 16)"),
        (lambda x: jnp.sqrt(x) * jnp.sqrt(x), lambda x: x * 1, "elements are NaN, and none of torch's"),
        (lambda x: jnp.tanh(x).astype("bfloat16").astype("float32"), torch.tanh, "rounded to bfloat16"),
    ],
)
def test_a_hint_names_the_cause(jax_fn, torch_fn, said):
    assert said in str(compare(jax_fn, torch_fn, X, gradient=False))


def test_a_gradient_at_a_kink_is_named():
    x = np.where(np.abs(X) < 0.3, 0, X)
    report = compare(lambda x: jnp.where(x >= 0, x, 0), torch.relu, x)
    assert [row.passed for row in report.rows] == [True, False]
    assert "the gradients differ where the input is 0 alone" in str(report)


@pytest.mark.parametrize(
    ("jax_fn", "verdict"),
    [
        (lambda x: x[:3], "shape: torch has (8, 16)"),
        (lambda x: x.astype("float16"), "dtype: torch has float32"),
        (lambda x: (x, x), "2 outputs, torch has 1"),
    ],
)
def test_another_structure_is_a_row_of_its_own(jax_fn, verdict):
    report = compare(jax_fn, lambda x: x * 1, X)
    assert not report.passed
    assert verdict in {row.verdict for row in report.rows}


def never_ends(x):
    return jax.lax.while_loop(lambda x: x.sum() < 1e3, lambda x: x + 1, x)


@pytest.mark.parametrize(
    ("jax_fn", "torch_fn", "said"),
    [
        (lambda x: x, nn.Dropout(), "call .eval() on it first"),
        (lambda x: x, nn.BatchNorm1d(16), "updates its running statistics: call .eval() on it first"),
        (lambda x: x, nn.LSTM(16, 4, 2, dropout=0.5), "draws at random: call .eval() on it first"),
        (lambda x: x, lambda x: x + torch.randn(x.shape), "the torch function is not deterministic"),
        (lambda x: x + RANDOM.standard_normal(x.shape, np.float32), lambda x: x * 1, "jax_fn is not deterministic"),
        (never_ends, lambda x: x + torch.ceil((1e3 - x.sum()) / x.numel()), "compared with gradient=False"),
    ],
)
def test_what_cannot_be_compared_is_said_with_the_way_out(jax_fn, torch_fn, said):
    report = compare(jax_fn, torch_fn, X)
    assert not report.passed
    assert said in " ".join(report.refusals)
    assert said.split()[-1] in str(report)


def test_the_module_is_afterwards_as_it_was():
    module = nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Dropout(), nn.GELU()).eval()
    module[0].weight.requires_grad_(False)
    before = {name: x.clone() for name, x in module.state_dict().items()}
    state, threads, default = torch.random.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype()
    compare(jnp.tanh, module, X, parameters=None)
    compare(jnp.tanh, module.train(), X)
    assert module.training
    assert module.state_dict().keys() == before.keys()
    assert all(torch.equal(x, before[name]) for name, x in module.state_dict().items())
    assert [p.requires_grad for p in module.parameters()] == [False, True, True, True]
    assert all(p.grad is None and p.dtype == torch.float32 for p in module.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (torch.get_num_threads(), torch.get_default_dtype()) == (threads, default)


@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_of_parameters(frozen):
    module = nn.Linear(16, 3)
    module.requires_grad_(not frozen)
    w = to_jax({name: x.detach() for name, x in module.named_parameters()}, copy=True)
    parameters = {"0.0.weight": ("weight", (1, 0)), "0.0.bias": "bias"}
    w = {"weight": w["weight"].T, "bias": w["bias"]}

    def port(stopped, w, x):
        return x @ w["weight"] + (jax.lax.stop_gradient(w["bias"]) if stopped else w["bias"])

    right, wrong = (jax.tree_util.Partial(functools.partial(port, stopped), w) for stopped in (False, True))
    report = assert_parity(right, module, X, parameters=parameters)
    assert [row.kind for row in report.rows] == ["output", "gradient", *["parameter gradient"] * 2]
    report = compare(wrong, module, X, parameters=parameters)
    assert [row.passed for row in report.rows] == [True, True, True, False]
    assert module.weight.requires_grad is not frozen


def test_wrong_parameters_are_refused():
    module = nn.Linear(16, 3)
    port = jax.tree_util.Partial(lambda w, x: x @ w.T, to_jax(module.weight.detach(), copy=True))
    with pytest.raises(ValueError, match=r"compare: jax_fn has no parameter 'w'; it has 0\.0"):
        compare(port, module, X, parameters={"w": "weight"})
    with pytest.raises(ValueError, match=r"compare: torch has no parameter 'w'; it has weight, bias"):
        compare(port, module, X, parameters={"0.0": "w"})
    with pytest.raises(
        ValueError, match=r"compare: the axes of 'weight' must be a permutation of \(0, 1\), got \(1, 2\)"
    ):
        compare(port, module, X, parameters={"0.0": ("weight", (1, 2))})
    with pytest.raises(TypeError, match="compare: torch_fn must be a function or a module, got str"):
        compare(port, "module", X)


@pytest.mark.filterwarnings("error")
def test_what_users_do_that_is_out_of_the_ordinary():
    assert_parity(jax.jit(lambda x: x * 2, donate_argnums=0), lambda x: x * 2, X)
    assert_parity(jax.nn.relu, nn.functional.relu_, X)
    z = (X + 1j * X[::-1]).astype(np.complex64)
    assert_parity(lambda z: z * z, lambda z: z * z, z)
    assert not compare(lambda z: z * z.conj(), lambda z: z * z, z).passed
    assert_parity(lambda x: jnp.exp(1j * x), lambda x: torch.exp(1j * x), X)
    assert_parity(lambda x: {"b": x, "a": x * 2}, lambda x: {"a": x * 2, "b": x * 1, "none": None}, X)
    assert_parity(lambda i: jnp.take(jnp.arange(9.0), i), lambda i: torch.arange(9.0)[i], np.arange(5))
    assert_parity(jnp.sin, torch.sin, STRUCT)
    key = jax.random.key(0)
    assert_parity(lambda x, key: x + 0 * jax.random.normal(key), lambda x: x * 1, X, key)
    assert_parity(jax.nn.gelu, nn.functional.gelu, X, max_ulp=float("inf"))
    assert "float64 were taken as float32" in str(assert_parity(jnp.sin, torch.sin, X.astype(np.float64)))


def test_float64_is_compared_as_such_where_64_bits_are_on_for_a_while():
    x = X.astype(np.float64)
    with jax.enable_x64(True):
        report = assert_parity(jnp.sin, torch.sin, x)
        assert not compare(lambda x: jnp.sin(x.astype("float32")).astype("float64"), torch.sin, x).passed
    assert {row.dtype for row in report.rows} == {"float64"}
    assert not report.notes


def test_a_cast_in_the_code_does_not_blunt_the_reference():
    norm = lambda x: (x.float() * torch.rsqrt(x.to(torch.float32).pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)  # noqa: E731
    port = lambda x: x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6)  # noqa: E731
    assert_parity(port, norm, X)
    report = compare(lambda x: port(x) * (1 + 2e-6), norm, X)
    assert not report.passed


@pytest.mark.parametrize("for_one_operation", [False, True])
def test_what_is_put_in_the_place_of_a_value_stays_there(for_one_operation):
    program = Program(lambda _, xs: [jnp.sin(xs[0]) * 2 + xs[0]], [jnp.asarray(X)], [])
    (sine,) = program.operations[0].results
    key = (program.consumers[sine][0], sine) if for_one_operation else sine
    program.replace(key, jnp.zeros_like(X))
    np.testing.assert_array_equal(program.value(program.outputs[0]), X)
    program.replace(program.operations[0].operands[0], jnp.ones_like(X))
    np.testing.assert_array_equal(program.value(program.outputs[0]), np.ones_like(X))


def test_a_scan_a_cond_and_a_checkpoint_are_looked_into():
    class Steps(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.GELU()

        def forward(self, x):
            for _ in range(3):
                x = self.act(x) * 1.5
            return x + x.sin()

    def port(x, approximate):
        step = lambda x, _: (jax.checkpoint(lambda x: jax.nn.gelu(x, approximate))(x) * 1.5, None)  # noqa: E731
        x, _ = jax.lax.scan(step, x, None, length=3)
        return jax.lax.cond(x.sum() > -1e9, lambda x: x + jnp.sin(x), lambda x: x, x)

    assert_parity(jax.jit(lambda x: port(x, False)), Steps(), X)
    report = compare(jax.jit(lambda x: port(x, True)), Steps(), X)
    assert report.divergence.module == "act"
    assert report.divergence.source.startswith("test_compare.py:")
    assert report.divergence.sure

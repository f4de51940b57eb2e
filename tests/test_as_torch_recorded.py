"""as_torch and conversions where a call is not just run: recorded by tracers, exported, pickled, guarded."""

import copy
import io
import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from jaxact.interop import _as_torch, as_torch, to_jax, to_numpy, to_torch

pytestmark = [
    # Forward mode and linearize load torch code that torch itself has deprecated,
    pytest.mark.filterwarnings("ignore:`torch.jit.(script|trace)` is (deprecated|not supported)"),
    # and linearize says this of torch's own functions too.
    pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node with no underlying reference"),
]

X = torch.tensor([0.5, -1.0, 2.0])
sine = as_torch(jnp.sin)
scaled = as_torch(lambda x, scale: x * scale)


@as_torch
def square(x):
    return x * x


torch.fx.wrap("square")


class Net(torch.nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.linear = torch.nn.Linear(3, 3)
        self.activation = activation

    def forward(self, x):
        return self.activation(self.linear(x))


# Recorded

RECORDED = {
    "value": (lambda x: sine(x) * 2, lambda x: torch.sin(x) * 2),
    "gradient": (lambda x: torch.func.grad(lambda x: sine(x).sum())(x), torch.cos),
    "batch": (torch.func.vmap(sine), torch.sin),
    "a float": (lambda x: scaled(x, 3.0), lambda x: x * 3.0),
    "an array": (lambda x: scaled(x, jnp.array([1.0, 2.0, 3.0])), lambda x: x * torch.tensor([1.0, 2.0, 3.0])),
}


@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
@pytest.mark.parametrize(("ours", "theirs"), RECORDED.values(), ids=RECORDED)
def test_a_graph_computes_with_what_it_is_given(ours, theirs, mode):
    graph = make_fx(ours, tracing_mode=mode)(X)
    torch.testing.assert_close(graph(X + 1), theirs(X + 1), rtol=1e-6, atol=0)


def test_linearize():
    value, tangent = torch.func.linearize(lambda x: sine(x) * x, X)
    torch.testing.assert_close(value, torch.sin(X) * X, rtol=1e-6, atol=0)
    for t in (torch.ones(3), X):
        torch.testing.assert_close(tangent(t), t * (torch.cos(X) * X + torch.sin(X)), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("to", [to_jax, to_numpy])
@pytest.mark.parametrize("options", [{}, {"copy": True}, {"dtype": "float16"}], ids=str)
@pytest.mark.parametrize(
    "record", [make_fx, lambda f: lambda x: torch.func.linearize(f, x)], ids=["make_fx", "linearize"]
)
def test_a_conversion_cannot_be_recorded(to, options, record):
    def through(x):
        return x * to_torch(to(x.detach(), **options)).to(x.dtype)

    with pytest.raises(TypeError, match=f"{to.__name__}: got a tensor while make_fx .* records, .*interop.as_torch"):
        record(through)(torch.ones(3))


def test_a_recorded_tensor_stays_what_it_is():
    graph = make_fx(lambda x: to_torch(x, dtype="float64") * to_torch(x))(torch.ones(3))
    torch.testing.assert_close(graph(torch.full((3,), 2.0)), torch.full((3,), 4.0, dtype=torch.float64))


def test_what_cannot_record_is_refused():
    with pytest.raises(TypeError, match=r"torch\.jit\.trace cannot hold a JAX function"):
        torch.jit.trace(sine, (X,))
    with pytest.raises(TypeError, match=r"symbolic_trace cannot look into a JAX function"):
        torch.fx.symbolic_trace(lambda x: sine(x))


def test_wrapped_as_the_refusal_says():
    graph = torch.fx.symbolic_trace(lambda x: square(x) + 1)
    assert torch.equal(graph(X), X * X + 1)


def test_a_graph_of_another_process_is_refused():
    (recorded,) = [node for node in make_fx(sine)(X).graph.nodes if node.op == "call_function" and node.args[1:]][:1]
    name, _ = recorded.args
    process, _, number = name.partition("/")
    assert number.isdigit()
    with pytest.raises(RuntimeError, match="recorded in another process"):
        torch.ops.jaxact.recorded(f"{process[::-1]}x/{number}", [X])


# Exported

LOADED = """
import sys, torch, jax.numpy as jnp
from jaxact.interop import as_torch
other = as_torch(jnp.cos)  # what comes first here is another function
assert torch.equal(torch.compile(lambda x: other(x), backend="aot_eager")(torch.zeros(1)), torch.ones(1))
net = torch.export.load(sys.argv[1]).module()
torch.save(net(torch.ones(2, 3)), sys.argv[2])
"""


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_an_exported_program_takes_the_function_along(dtype, tmp_path):
    net = Net(as_torch(lambda x: jnp.tanh(x) * jnp.arange(3, dtype=x.dtype)[None]))
    x = torch.ones(2, 3, dtype=dtype)
    program = torch.export.export(net.to(dtype), (x,), strict=False)
    torch.testing.assert_close(program.module()(x), net(x), rtol=0, atol=0)
    torch.export.save(program, tmp_path / "net.pt2")
    code = LOADED.replace("torch.ones(2, 3)", f"torch.ones(2, 3, dtype={dtype})")
    run = subprocess.run([sys.executable, "-c", code, tmp_path / "net.pt2", tmp_path / "y.pt"], capture_output=True)
    assert run.returncode == 0, run.stderr.decode()[-2000:]
    torch.testing.assert_close(torch.load(tmp_path / "y.pt"), net(x), rtol=0, atol=0)


def test_what_cannot_be_exported_is_refused(monkeypatch):
    net, x = Net(sine), torch.ones(2, 3)
    # Before torch 2.13 it is refused in torch's own words.
    with pytest.raises(Exception, match="strict=False" if _as_torch._EXPORT_IS_KNOWN else "TreeSpec|activation"):
        torch.export.export(net, (x,), strict=True)
    with pytest.raises(Exception, match="dynamic"):
        torch.export.export(net, (x,), dynamic_shapes={"x": {0: torch.export.Dim("batch")}}, strict=False)
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    for module in [name for name in sys.modules if name.endswith("export.serialization")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(ModuleNotFoundError, match="pip install flatbuffers"):
        torch.export.export(net, (x,), strict=False)


# Unused


UNUSED = {
    "plain": lambda x, w: x * 2,
    "jitted": jax.jit(lambda x, w: x * 2),
    "checkpointed": jax.checkpoint(jax.jit(lambda x, w: jnp.sin(x))),
    "used on the way": lambda x, w: (x * 2, jnp.sum(w))[0],
}


@pytest.mark.parametrize("fn", UNUSED.values(), ids=UNUSED)
def test_an_unused_argument_has_no_gradient(fn):
    x, w = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    as_torch(fn)(x, w).sum().backward()
    assert x.grad is not None
    assert w.grad is None
    with pytest.raises(RuntimeError, match="to not have been used"):
        torch.autograd.grad(as_torch(fn)(x, w).sum(), w)


def test_a_zero_gradient_of_a_used_argument_is_zero():
    x, w = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    as_torch(jax.jit(lambda x, w: x + 0 * w))(x, w).sum().backward()
    assert torch.equal(w.grad, torch.zeros(3))


@jax.custom_vjp
def passing(x, w):
    return x


passing.defvjp(lambda x, w: (x, None), lambda _, dy: (dy, 3 * dy))


@pytest.mark.parametrize("fn", [passing, jax.jit(passing)], ids=["plain", "jitted"])
def test_a_gradient_that_only_a_rule_gives(fn):
    x, w = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    as_torch(fn)(x, w).sum().backward()
    assert torch.equal(w.grad, torch.full((3,), 3.0))


def test_decay_leaves_unused_weights_alone():
    x, w = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    optimizer = torch.optim.AdamW([x, w], weight_decay=0.5)
    as_torch(lambda x, w: x**2)(x, w).sum().backward()
    optimizer.step()
    assert torch.equal(w.detach(), torch.ones(3))
    assert (x < 1).all()


# Pickled and copied


@pytest.mark.parametrize("activation", [as_torch(jnp.tanh), square], ids=["by what it is made of", "by name"])
def test_a_module_is_saved_with_its_function(activation):
    net, file = Net(activation), io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert torch.equal(loaded(X), net(X))
    assert (loaded.activation is square) == (activation is square)


def raised(x, power):
    return x**power


def test_what_was_declared_static_is_pickled_too():
    cube = pickle.loads(pickle.dumps(as_torch(raised, static_argnames="power")))
    assert torch.equal(cube(X, power=3.0), X**3)
    assert len({type(leaf) for leaf in [cube(X, 2.0)]}) == 1


def test_it_is_copied_and_bound_as_a_function_is():
    assert copy.deepcopy(sine) is sine

    class Scale:
        by = 3.0

        @as_torch
        def __call__(self, x):
            return x * self.by

        plain = staticmethod(sine)

    assert torch.equal(Scale()(X), X * 3)
    assert torch.equal(Scale().plain(X), sine(X))


# Guarded, and not compiled


@pytest.mark.parametrize("level", ["disallow", "disallow_explicit"])
def test_under_a_transfer_guard(level):
    fresh = as_torch(lambda x, scale: jnp.sin(x) * scale)
    x = X.clone().requires_grad_()
    with jax.transfer_guard(level):
        fresh(x, 2.0).sum().backward()
    torch.testing.assert_close(x.grad, 2 * torch.cos(X), rtol=1e-6, atol=0)


def test_a_constant_on_another_device():
    device = jax.devices()[1]
    for dtype in (torch.int64, torch.int32, torch.float32):
        x = torch.arange(3, dtype=dtype)
        constant = jax.device_put(to_jax(x), device)
        assert scaled(x, constant).tolist() == [0, 1, 4]


@pytest.mark.parametrize(
    "fn",
    [lambda x: x, lambda x: (x, x), lambda x: x[:2], lambda x: x.T, lambda x: CONSTANT],
    ids=["itself", "twice", "a part", "turned", "a constant"],
)
def test_results_share_nothing_where_nothing_is_compiled(fn):
    x = torch.ones(3)
    with jax.disable_jit():
        results = as_torch(fn)(x)
    first, *others = results if isinstance(results, tuple) else (results,)
    first += 1
    assert torch.equal(x, torch.ones(3))
    assert all(torch.equal(other, torch.ones(3)) for other in others)
    assert CONSTANT.tolist() == [1.0, 1.0, 1.0]


CONSTANT = jnp.ones(3)

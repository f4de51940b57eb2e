"""as_jax: torch functions and modules in JAX, against JAX's own and under all that JAX does to a function."""

import functools
import os
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from jaxact.interop import as_jax, to_jax

# The same formula in both libraries, and the distance of their results: exp of either is within 1e-7, and the
# sums below add a few of them (measured: 3e-7).
close = functools.partial(np.testing.assert_allclose, rtol=2e-6, atol=1e-6)


def in_torch(x, y):
    return {"a": torch.sin(x) * y, "b": (torch.exp(-x).sum(), None)}


def in_jax(x, y):
    return {"a": jnp.sin(x) * y, "b": (jnp.exp(-x).sum(), None)}


def scalar(fn):
    """Return ``fn`` as a function of one array to a number."""

    def of_one(x):
        tree = fn(x, x + 2)
        return tree["a"].sum() + tree["b"][0] ** 2

    return of_one


x = jnp.linspace(-1, 1, 6).reshape(2, 3)

TRANSFORMS = {
    "call": lambda f: f,
    "jit": jax.jit,
    "grad": jax.grad,
    "grad of grad": lambda f: jax.grad(lambda x: jax.grad(f)(x).sum()),
    "jacrev of jacrev": lambda f: jax.jacrev(jax.jacrev(f)),
    "third derivative": lambda f: jax.grad(lambda x: jax.grad(lambda x: jax.grad(f)(x).sum())(x).sum()),
    "vmap": jax.vmap,
    "vmap of grad": lambda f: jax.vmap(jax.grad(f), in_axes=1),
    "grad of vmap": lambda f: jax.grad(lambda x: jax.vmap(f)(x).sum()),
    "checkpoint": lambda f: jax.grad(jax.checkpoint(f)),
    "scan": lambda f: lambda x: jax.lax.scan(lambda c, row: (c + f(row + c), c), jnp.float32(0), x),
    "grad of scan": lambda f: jax.grad(
        lambda x: jax.lax.scan(lambda c, row: (0.1 * f(row + c), None), jnp.float32(0), x)[0]
    ),
    "while and cond": lambda f: (
        lambda x: jax.lax.fori_loop(
            0, 3, lambda i, c: jax.lax.cond(i == 1, lambda c: c, lambda c: c + 0.1 * f(c), c), x
        )
    ),
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_transforms(transform):
    actual, expected = transform(scalar(as_jax(in_torch)))(x), transform(scalar(in_jax))(x)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), actual, expected)


@pytest.mark.parametrize("fn", [in_torch, jax.tree_util.Partial(in_torch)], ids=["function", "partial"])
def test_trees_come_back(fn):
    result = as_jax(fn)(x, y=x)
    assert jax.tree.structure(result) == jax.tree.structure(in_jax(x, x))
    jax.tree.map(close, result, in_jax(x, x))


def test_the_callback_of_other_platforms(monkeypatch):
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *args, default, **_: default(*args))
    fn, one = as_jax(torch.sin), jnp.ones(())
    close(jax.jit(jax.grad(jax.grad(fn)))(one), -jnp.sin(one))
    assert "pure_callback" in str(jax.make_jaxpr(fn)(one))


def test_forward_mode_is_refused():
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(as_jax(torch.sin), (x,), (x,))


def test_a_second_call_does_not_look_for_shapes_again():
    runs = []

    def fn(x):
        runs.append(type(x) is torch.Tensor)
        return x * 2

    call = as_jax(fn)
    for _ in range(3):
        jax.block_until_ready(call(x))
    assert runs.count(False) == 1
    assert runs.count(True) == 3


class TestArguments:
    @pytest.mark.parametrize("slope", [0.2, 1, True], ids=str)
    def test_numbers_reach_torch_as_they_are(self, slope):
        close(as_jax(F.leaky_relu)(x, slope), F.leaky_relu(torch.tensor(np.asarray(x)), slope).numpy())

    def test_static_values_of_one_hash_are_told_apart(self):
        call = as_jax(lambda x, n: x + (1 if n is True else 2))
        assert call(jnp.zeros(()), True) == 1
        assert call(jnp.zeros(()), 1) == 2

    def test_zeros_of_two_signs_are_told_apart(self):
        call = as_jax(F.leaky_relu)
        assert jnp.signbit(call(-jnp.ones(()), 0.0))
        assert not jnp.signbit(call(-jnp.ones(()), -0.0))

    def test_numpy(self):
        close(as_jax(torch.sin)(np.asarray(x)), jnp.sin(x))

    @pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int32", "float16", "bfloat16", "float32", "complex64"])
    def test_dtypes(self, dtype):
        values = jnp.array([0, 1, 1]).astype(dtype)
        result = jax.jit(as_jax(lambda x: torch.cat([x, x])))(values)
        assert result.dtype == values.dtype
        assert jnp.array_equal(result, jnp.concatenate([values, values]))

    def test_integers_have_no_gradient(self):
        fn = as_jax(lambda x, index: (x[index.long()], index))
        gradient = jax.grad(lambda x: fn(x, jnp.array([2, 0]))[0].sum())(jnp.ones(3))
        assert gradient.tolist() == [1, 0, 1]

    def test_a_result_without_gradient_has_gradient_zero(self):
        assert jax.grad(as_jax(lambda x: x.detach().sum()))(jnp.ones(3)).tolist() == [0, 0, 0]

    def test_complex_gradients_are_jaxs(self):
        z = jnp.array([1 + 2j, 3 - 1j], jnp.complex64)
        actual = jax.grad(as_jax(lambda z: (z * z * z.conj()).abs().sum()))(z)
        close(actual, jax.grad(lambda z: jnp.abs(z * z * jnp.conj(z)).sum())(z), rtol=1e-5)

    def test_wide_integers_are_narrowed(self):
        largest, where = as_jax(lambda x: tuple(x.max(-1)))(x)
        assert where.dtype == jnp.int32
        assert jnp.array_equal(largest, x.max(-1))

    @pytest.mark.parametrize(
        "fn",
        [lambda x: torch.tensor(2**40), lambda x: torch.tensor([1e300], dtype=torch.float64)],
        ids=["int", "float"],
    )
    def test_a_result_out_of_range_is_an_error(self, fn):
        with pytest.raises(jax.errors.JaxRuntimeError, match="cannot hold"):
            jax.block_until_ready(as_jax(fn)(x))

    def test_float64(self, x64):
        third = jnp.array(1 / 3)
        assert as_jax(torch.square)(third) == (1 / 3) ** 2
        assert jax.grad(as_jax(torch.square))(third) == 2 / 3


def test_writing_into_an_argument_changes_no_jax_array():
    value = jnp.arange(16.0)
    fn = as_jax(lambda x: x.mul_(2).sum())
    assert fn(value) == 240
    assert jnp.array_equal(jax.grad(fn)(value), jnp.full(16, 2.0))
    assert jnp.array_equal(value, jnp.arange(16.0))


def test_a_function_that_uses_autograd_itself():
    def force(x):
        x = x.detach().requires_grad_()
        return torch.autograd.grad(x.pow(3).sum(), x)[0]

    close(as_jax(force, result_shape_dtypes=x)(x), 3 * x**2)


class TestModules:
    @staticmethod
    def network():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Linear(3, 8), nn.ReLU(inplace=True), nn.BatchNorm1d(8), nn.Dropout(), nn.PReLU(), nn.Linear(8, 1)
        ).eval()

    def test_parameters_are_leaves(self):
        module = self.network()
        net = as_jax(module)
        expected = {name: tuple(p.shape) for name, p in module.named_parameters()}
        assert {name: leaf.shape for name, leaf in net.args[0].items()} == expected
        assert len(jax.tree.leaves(net)) == len(expected)

    def test_gradients_are_torchs(self):
        module, values = self.network(), torch.randn(5, 3)
        module(values).square().sum().backward()
        gradient = jax.jit(jax.grad(lambda net, x: (net(x) ** 2).sum()))(as_jax(module), to_jax(values))
        assert gradient.args[0].keys() == dict(module.named_parameters()).keys()
        for name, parameter in module.named_parameters():
            close(gradient.args[0][name], parameter.grad, err_msg=name)

    def test_func_and_parameters_apart(self):
        net = as_jax(nn.Linear(3, 2))
        zero = jax.tree.map(jnp.zeros_like, net.args[0])
        assert not net.func(zero, x).any()

    def test_an_ensemble_by_vmap(self):
        nets = [as_jax(nn.Linear(3, 2)).args[0] for _ in range(3)]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *nets)
        func = as_jax(nn.Linear(3, 2)).func
        result = jax.vmap(func, in_axes=(0, None))(stacked, x)
        close(result, jnp.stack([func(net, x) for net in nets]))

    def test_frozen_parameters_are_constants(self):
        module = nn.Linear(3, 2)
        module.bias.requires_grad_(False)
        assert as_jax(module).args[0].keys() == {"weight"}

    def test_later_changes_of_the_module_do_not_show(self):
        module = self.network()
        net = as_jax(module)
        before = net(x)
        with torch.no_grad():
            for tensor in (*module.parameters(), *(b for b in module.buffers() if b.is_floating_point())):
                tensor.fill_(1.0)
        module.train()
        assert jnp.array_equal(net(x), before)
        assert jnp.array_equal(as_jax(self.network())(x), before)

    def test_attention(self):
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True).eval()
        values = torch.randn(2, 3, 8)
        layer(values).square().sum().backward()
        gradient = jax.grad(lambda net, x: (net(x) ** 2).sum())(as_jax(layer), to_jax(values))
        for name, parameter in layer.named_parameters():
            close(gradient.args[0][name], parameter.grad, rtol=1e-4, atol=1e-5, err_msg=name)

    def test_fifty_steps_of_training(self):
        module = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
        generator = torch.Generator().manual_seed(0)
        values = torch.randn(64, 4, generator=generator)
        targets = torch.sin(values.sum(1, keepdim=True))
        net, inputs, outputs = as_jax(module), to_jax(values), to_jax(targets)

        @jax.jit
        def step(net):
            loss, gradient = jax.value_and_grad(lambda net: jnp.mean((net(inputs) - outputs) ** 2))(net)
            return jax.tree.map(lambda p, g: p - 0.1 * g, net, gradient), loss

        losses, expected = [], []
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        for _ in range(50):
            net, loss = step(net)
            losses.append(loss)
            optimizer.zero_grad()
            loss = F.mse_loss(module(values), targets)
            loss.backward()
            optimizer.step()
            expected.append(loss.item())
        assert expected[-1] < 0.8 * expected[0]  # it does learn
        # The bound of the specification.
        np.testing.assert_allclose(losses, expected, rtol=1e-4)


class TestErrors:
    def test_not_callable(self):
        with pytest.raises(TypeError, match="torch function or module, got int"):
            as_jax(3)

    def test_a_torch_tensor(self):
        with pytest.raises(TypeError, match="to_jax"):
            as_jax(torch.sin)(torch.ones(1))

    def test_an_argument_that_is_neither_array_nor_hashable(self):
        with pytest.raises(TypeError, match="a set is no array"):
            as_jax(lambda x, s: x)(x, {1})

    def test_a_result_that_is_no_tensor(self):
        with pytest.raises(TypeError, match=r"must return torch tensors.*got a float"):
            as_jax(lambda x: 1.0)(x)

    @pytest.mark.parametrize(
        ("fn", "message"),
        [
            (nn.Dropout(), r"draws random numbers.*module.eval\(\)"),
            (nn.RReLU(), "draws random numbers"),
            (lambda x: x + torch.randn(3), "draws random numbers"),
            (nn.BatchNorm1d(3), r"updates its buffers.*module.eval\(\)"),
        ],
        ids=["dropout", "rrelu", "randn", "batch norm"],
    )
    def test_what_is_not_pure(self, fn, message):
        with pytest.raises(ValueError, match=message):
            as_jax(fn)(x)

    @pytest.mark.parametrize("fn", [lambda x: x[x > 0], lambda x: x if x.sum() > 0 else -x], ids=["mask", "branch"])
    def test_a_shape_that_depends_on_values(self, fn):
        with pytest.raises(ValueError, match="result_shape_dtypes"):
            as_jax(fn)(x)

    def test_a_branch_with_the_shape_given(self):
        fn = as_jax(lambda x: x if x.sum() > 0 else -x, result_shape_dtypes=jax.ShapeDtypeStruct((), jnp.float32))
        assert jax.vmap(jax.grad(fn))(jnp.array([2.0, -3.0])).tolist() == [1, -1]

    def test_the_wrong_shape_given(self):
        with pytest.raises(jax.errors.JaxRuntimeError, match=r"shape \(2, 3\) where \(4,\) was expected"):
            jax.block_until_ready(as_jax(torch.sin, result_shape_dtypes=jnp.ones(4))(x))

    def test_torchs_own_error_with_a_note(self):
        with pytest.raises(RuntimeError, match=r"shape|size") as caught:
            as_jax(torch.matmul)(x, x)
        assert "result_shape_dtypes" in "".join(caught.value.__notes__)

    def test_an_error_at_run_time_says_what_torch_says(self):
        with pytest.raises(jax.errors.JaxRuntimeError, match="positive-definite"):
            jax.block_until_ready(as_jax(torch.linalg.cholesky)(-jnp.eye(2)))


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

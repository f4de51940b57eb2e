"""as_jax: modules, their parameters, gradients and training, against torch's own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from as_jax_cases import TRANSFORMS, as_jax_by, close, network, x
from jaxact.interop import as_jax, as_torch, to_jax


class WithBridge(nn.Module):
    """A module with a function of JAX in it, of an argument and of a constant."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.activation = as_torch(jnp.tanh)
        self.multiply = as_torch(jnp.multiply)

    def forward(self, x):
        return self.activation(self.multiply(self.linear(x), np.float32(2.0))).sum()


@pytest.mark.parametrize("bridge", as_jax_by, ids=["sequential", "batched"])
@pytest.mark.parametrize("transform", ["call", "jit", "grad", "hessian", "vmap of grad"])
def test_a_module_that_contains_an_as_torch_function(transform, bridge):
    module = WithBridge()
    weight, bias = (to_jax(value, copy=True) for value in module.linear.parameters())

    def expected(x):
        return jnp.tanh(2 * (weight @ x + bias)).sum()

    actual = TRANSFORMS[transform](bridge(module))
    value = x.T if "vmap" in transform else x[0]
    close(actual(value), TRANSFORMS[transform](expected)(value), rtol=1e-5)


def test_an_as_torch_function_of_tensors_that_fn_holds():
    held, trained = torch.arange(3.0), torch.arange(3.0, requires_grad=True)
    tanh = as_torch(jnp.tanh)
    for of in (held, trained):
        close(as_jax(lambda x, of=of: x * tanh(of))(jnp.ones(3)), jnp.tanh(jnp.arange(3.0)))


class TestModules:
    def test_parameters_are_leaves(self):
        module = network()
        net = as_jax(module)
        expected = {name: tuple(p.shape) for name, p in module.named_parameters()}
        assert {name: leaf.shape for name, leaf in net.args[0].items()} == expected
        assert len(jax.tree.leaves(net)) == len(expected)

    def test_gradients_are_torchs(self):
        module, values = network(), torch.randn(5, 3)
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
        module = network()
        net = as_jax(module)
        before = net(x)
        with torch.no_grad():
            for tensor in (*module.parameters(), *(b for b in module.buffers() if b.is_floating_point())):
                tensor.fill_(1.0)
        module.train()
        assert jnp.array_equal(net(x), before)
        assert jnp.array_equal(as_jax(network())(x), before)

    def test_attention(self):
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True).eval()
        values = torch.randn(2, 3, 8)
        layer(values).square().sum().backward()
        gradient = jax.grad(lambda net, x: (net(x) ** 2).sum())(as_jax(layer), to_jax(values))
        for name, parameter in layer.named_parameters():
            close(gradient.args[0][name], parameter.grad, rtol=1e-4, atol=1e-5, err_msg=name)

    @pytest.mark.parametrize("order", ["first", "second"])
    def test_a_backward_pass_that_calls_the_module_again(self, order):
        """A checkpoint does; the parameters are others than those the module was made with."""

        class Layers(nn.Sequential):
            def forward(self, x):
                return checkpoint(super().forward, x, use_reentrant=False)

        layers = (nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3), nn.Sigmoid())
        nets = [jax.tree.map(lambda p: 2 * p, as_jax(make(*layers))) for make in (Layers, nn.Sequential)]
        gradient = jax.grad(lambda net, x: net(x).sum())
        if order == "second":
            gradient = jax.grad(lambda net, x, once=gradient: sum((p**2).sum() for p in jax.tree.leaves(once(net, x))))
        jax.tree.map(functools.partial(close, rtol=1e-5), *(gradient(net, x).args[0] for net in nets))

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

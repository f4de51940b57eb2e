"""port: ported modules under the transforms of JAX, in training, and with random numbers."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

import jaxact
from jaxact.interop import port, to_jax, to_torch


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

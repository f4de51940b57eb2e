"""as_jax: torch functions in JAX, against JAX's own and under all that JAX does to a function."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from as_jax_cases import TRANSFORMS, as_jax_by, close, in_jax, in_torch, scalar, x
from jaxact.interop import _torch_program, as_jax


@pytest.mark.parametrize("bridge", as_jax_by, ids=["sequential", "batched"])
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_transforms(transform, bridge):
    actual, expected = transform(scalar(bridge(in_torch)))(x), transform(scalar(in_jax))(x)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-5), actual, expected)


def test_transforms_without_jit():
    gradient = jax.vmap(jax.grad(scalar(as_jax(in_torch))))
    with jax.disable_jit():
        close(gradient(x), jax.vmap(jax.grad(scalar(in_jax)))(x), rtol=1e-5)


@pytest.mark.parametrize("bridge", as_jax_by, ids=["sequential", "batched"])
@pytest.mark.parametrize("argnums", [0, (0, 1)], ids=str)
@pytest.mark.parametrize("in_axes", [(0, None), (None, 1)], ids=str)
@pytest.mark.parametrize("derivative", [jax.grad, jax.hessian, lambda f, n: f], ids=["grad", "hessian", "value"])
def test_a_batch_of_some_arguments(derivative, in_axes, argnums, bridge):
    def value(fn):
        return lambda x, y: fn(x, y)["a"].sum() + fn(y, x)["b"][0]

    y = jnp.sin(3 * x)
    x_, y_ = (
        z if axis is None else jnp.stack([z, z + 1, z - 1], axis) for z, axis in zip((x, y), in_axes, strict=True)
    )
    actual, expected = (jax.vmap(derivative(value(fn), argnums), in_axes)(x_, y_) for fn in (bridge(in_torch), in_jax))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-5), actual, expected)


def test_a_batch_is_one_call():
    rows = []

    def fn(x):
        rows.append(x.shape)
        return x * 2

    for method, calls in (("sequential", 5), ("batched", 1)):
        f = jax.vmap(as_jax(fn, vmap_method=method, result_shape_dtypes=x[0]))
        rows.clear()
        jax.block_until_ready(f(jnp.ones((5, 3))))
        assert len(rows) == calls


@pytest.mark.parametrize("bridge", as_jax_by, ids=["sequential", "batched"])
@pytest.mark.parametrize("derivative", [lambda f: f, jax.grad], ids=["value", "grad"])
def test_an_empty_batch(derivative, bridge):
    assert jax.vmap(derivative(bridge(lambda x: x.sin().sum())))(jnp.ones((0, 3))).shape[0] == 0


def over_shards(f, x):
    mesh = jax.make_mesh((2,), ("a",), axis_types=(AxisType.Auto,))
    return jax.shard_map(f, mesh=mesh, in_specs=PartitionSpec("a"), out_specs=PartitionSpec("a"))(x)


def on_a_mesh(axis_type):
    def use(f, x):
        mesh = jax.make_mesh((2,), ("a",), axis_types=(axis_type,))
        with jax.set_mesh(mesh):
            return jax.jit(f)(jax.device_put(x, NamedSharding(mesh, PartitionSpec("a"))))

    return use


@pytest.mark.parametrize("derivative", [lambda f: f, lambda f: jax.grad(lambda x: f(x).sum())], ids=["value", "grad"])
@pytest.mark.parametrize(
    "use", [on_a_mesh(AxisType.Auto), on_a_mesh(AxisType.Explicit), over_shards], ids=["auto", "explicit", "shard_map"]
)
def test_two_devices(use, derivative):
    values = jnp.linspace(-1, 1, 8).reshape(4, 2)
    close(use(derivative(as_jax(torch.sin)), values), derivative(jnp.sin)(values))


def test_forward_mode_of_complex_functions():
    z, t = jnp.array([1 + 2j, 3 - 1j]), jnp.array([0.5 - 1j, 2 + 0.5j])
    actual = jax.jvp(as_jax(lambda z: (z * z.conj() * z).exp().imag), (z,), (t,))
    expected = jax.jvp(lambda z: jnp.exp(z * jnp.conj(z) * z).imag, (z,), (t,))
    jax.tree.map(functools.partial(close, rtol=1e-5), actual, expected)


def test_a_call_breaks_the_graph_of_torch_compile():
    fn, arrays = as_jax(torch.sin), []

    @torch.compiler.disable  # older releases of Dynamo warn of what they know not of list.append
    def keep(array):
        arrays.append(array)

    def work(t):
        keep(fn(x))
        return t * 2

    assert torch.compile(work, backend="eager")(torch.ones(())) == 2
    close(arrays[0], jnp.sin(x))
    with pytest.raises(torch._dynamo.exc.Unsupported, match="it is JAX that works here"):
        torch.compile(lambda t: (fn(x), t)[1], backend="eager", fullgraph=True)(torch.ones(()))


@pytest.mark.parametrize("transform", [lambda f: f, lambda f: jax.vmap(jax.grad(f))], ids=["value", "gradients"])
def test_the_callback_of_other_platforms(transform):
    jaxpr = jax.make_jaxpr(transform(as_jax(torch.sin)))(jnp.ones(3))
    programs = [eqn.params["program"] for eqn in _equations(jaxpr.jaxpr) if eqn.primitive.name == "torch_call"]
    assert programs
    for program in programs:
        arrays = [jnp.linspace(0.5, 1, 3)] * (1 if program.derivation is None else 2)
        through_copies = jax.jit(functools.partial(_torch_program._through_copies, program=program))
        assert "pure_callback" in str(jax.make_jaxpr(through_copies)(*arrays))
        jax.tree.map(np.testing.assert_array_equal, through_copies(*arrays), program(*arrays))


def _equations(jaxpr):
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in jax.tree.leaves(eqn.params, is_leaf=lambda leaf: hasattr(leaf, "jaxpr")):
            if hasattr(inner, "jaxpr"):
                yield from _equations(inner.jaxpr)


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


def test_a_method():
    class Scaled:
        scale = 2

        @as_jax
        def times(self, x):
            return self.scale * x

    close(Scaled().times(x), 2 * x)


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

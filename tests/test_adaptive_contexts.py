"""The adaptive log-softmax under transforms, exported, on meshes, under checkers, inside programs; its memory."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax
from jax.experimental import checkify
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxact
from adaptive_cases import MODULES, Case
from jaxact.adaptive import adaptive_log_softmax_log_prob, adaptive_log_softmax_with_loss

# torch says so of the weights of a cluster without hidden features
pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element tensors is a no-op:UserWarning")


@functools.cache
def scalar(function, dtype=np.float32):
    """Return a case, a scalar function of its input and weights, and the compiled gradient of that."""
    case = Case("two clusters and a bias", dtype=dtype)
    f = case.loss
    if function == "log_prob":

        def f(x, weights):
            return jnp.sum(case.log_prob(x, weights) * case.log_prob_cotangent)

    return case, f, jax.jit(jax.grad(f, argnums=(0, 1)))


def assert_trees_close(ours, expected):
    """Assert that arrays agree to the rounding of sums, whose terms may be as large as the largest of them."""
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=4 * np.finfo(np.float32).eps * np.abs(b).max())


@pytest.mark.parametrize("function", ["loss", "log_prob"])
class TestTransforms:
    def test_gradient_under_checkpoint_and_scan(self, function, debug_nans):
        case, f, gradient = scalar(function)

        @jax.jit
        def run(x, weights):
            remade = jax.grad(jax.checkpoint(f), argnums=(0, 1))
            return lax.scan(lambda carry, x: (carry, remade(x, weights)), None, x[None])[1]

        scanned = jax.tree.map(lambda g: g[0], run(case.x, case.weights))
        assert_trees_close(scanned, gradient(case.x, case.weights))

    def test_vmap_over_input_and_weights(self, function):
        case, _, gradient = scalar(function)
        batch = jax.tree.map(lambda a: np.stack([a, -a, a / 2]), (case.x, case.weights))
        alone = [gradient(*jax.tree.map(lambda a, i=i: a[i], batch)) for i in range(3)]
        assert_trees_close(jax.jit(jax.vmap(gradient))(*batch), jax.tree.map(lambda *rows: np.stack(rows), *alone))

    def test_second_derivative(self, function, x64):
        case, _, gradient = scalar(function, np.float64)
        arguments = case.x, case.weights
        direction = jax.tree.map(lambda a: np.cos(np.arange(a.size)).reshape(a.shape), arguments)
        _, ours = jax.jit(lambda *a: jax.jvp(gradient, a, direction))(*arguments)
        step = 1e-6
        ahead = gradient(*jax.tree.map(lambda a, d: a + step * d, arguments, direction))
        behind = gradient(*jax.tree.map(lambda a, d: a - step * d, arguments, direction))
        differences = jax.tree.map(lambda a, b: (a - b) / (2 * step), ahead, behind)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-6), ours, differences)

    def test_jvp_equals_vjp(self, function):
        case, f, gradient = scalar(function)
        arguments = case.x, case.weights
        direction = jax.tree.map(lambda a: np.cos(np.arange(a.size, dtype=a.dtype)).reshape(a.shape), arguments)
        _, forward = jax.jit(lambda *a: jax.jvp(f, a, direction))(*arguments)
        leaves = zip(*map(jax.tree.leaves, (gradient(*arguments), direction)), strict=True)
        np.testing.assert_allclose(forward, sum(np.vdot(g, d) for g, d in leaves), rtol=1e-5)

    def test_export(self, function):
        case, _, gradient = scalar(function)
        specs = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), (case.x, case.weights))
        platforms = ("cpu", "cuda", "rocm", "tpu")
        assert export.export(gradient, platforms=platforms)(*specs).platforms == platforms

    def test_no_leaked_tracers(self, function):
        case, f, _ = scalar(function)
        with jax.checking_leaks():
            jax.make_jaxpr(jax.grad(f))(case.x, case.weights)


def both(x, target, weights):
    """Return a number that depends on all that the two functions give."""
    cutoffs = MODULES["two clusters and a bias"][2]
    output, loss = adaptive_log_softmax_with_loss(x, target, **weights, cutoffs=cutoffs)
    log_prob = adaptive_log_softmax_log_prob(x, **weights, cutoffs=cutoffs)
    return jnp.sum(output**2) + loss + jnp.mean(log_prob**2), output


class TestContexts:
    """Two clusters in the contexts of test_contexts, in which that has one."""

    GRADIENT = staticmethod(jax.jit(jax.value_and_grad(both, argnums=(0, 2), has_aux=True)))

    def test_symbolic_sizes(self):
        """Of rows, features and hidden features; the numbers of classes are those of the cutoffs."""
        case, scope = Case("two clusters and a bias"), export.SymbolicScope()

        def spec(shape, dtype=np.float32):
            return jax.ShapeDtypeStruct(export.symbolic_shape(shape, scope=scope), dtype)

        tails = [(spec("h, f"), spec("4, h")), (spec("k, f"), spec("11, k"))]
        weights = {"head_weight": spec("7, f"), "tail_weights": tails, "head_bias": spec("7")}
        exported = export.export(self.GRADIENT)(spec("n, f"), spec("n", np.int32), weights)
        arguments = case.x, case.target.astype(np.int32), case.weights
        assert_trees_close(exported.call(*arguments), self.GRADIENT(*arguments))

    @pytest.mark.parametrize("spread", [("x", "target"), ("x",), ("target",)])
    def test_sharded_rows(self, spread):
        """Over two devices, on a mesh whose axis is explicit."""
        case = Case("two clusters and a bias", 8)
        arguments = {"x": case.x, "target": case.target.astype(np.int32)}
        expected = self.GRADIENT(*arguments.values(), case.weights)
        mesh = jax.make_mesh((2,), ("rows",), axis_types=(AxisType.Explicit,))
        with jax.set_mesh(mesh):
            for name in spread:
                arguments[name] = jax.device_put(arguments[name], NamedSharding(mesh, PartitionSpec("rows")))
            if jax.__version_info__ <= (
                0,
                10,
                0,
            ):  # JAX cannot differentiate a product of sharded rows yet
                rows = jax.device_put(case.x, NamedSharding(mesh, PartitionSpec("rows")))
                with pytest.raises(Exception, match="it is ambiguous how the output should be sharded"):
                    jax.grad(lambda matrix: jnp.sum(rows @ matrix))(case.x.T)
                return
            ours = self.GRADIENT(*arguments.values(), case.weights)
        assert_trees_close(ours, expected)
        (_, output), _ = ours
        assert output.sharding.spec == PartitionSpec("rows")

    def test_no_nan_on_the_way(self):
        """Where a cluster that is not that of a row would overflow for it."""
        case = Case("two clusters and a bias", 3)
        case.x[0], case.target = 1e10, np.array([0, 6, 12], np.int32)
        case.weights["tail_weights"][0][1][0] = 1e30
        loss = functools.partial(adaptive_log_softmax_with_loss, **case.weights, cutoffs=case.cutoffs)
        gradient = jax.value_and_grad(lambda x: loss(x, case.target).loss)
        error, _ = jax.jit(checkify.checkify(gradient, errors=checkify.nan_checks))(case.x)
        error.throw()
        with jax.disable_jit(), jax.debug_nans(True):
            gradient(jnp.asarray(case.x))


@pytest.mark.parametrize("producer", [lambda x: x, lambda x: x * 0.7, lambda x: x / 0.7], ids=["x", "x * c", "x / c"])
def test_logits_are_one_number_each(producer):
    """Though a compiler may compute them twice, as exact products and rounded: the class by far the best has 0."""
    weights = {"head_weight": jnp.zeros((2, 1)), "tail_weights": [(jnp.array([[1.3]]), jnp.array([[0.7], [0.1], [0]]))]}

    @jax.jit
    def run(x, target):
        x = producer(x)
        output, pull_back = jax.vjp(
            lambda x: adaptive_log_softmax_with_loss(x, target, **weights, cutoffs=[1]).output, x
        )
        return output, adaptive_log_softmax_log_prob(x, **weights, cutoffs=[1])[:, 1], *pull_back(jnp.ones_like(output))

    x = np.geomspace(100, 1e10, 50, dtype=np.float32)[:, None]
    output, log_prob, dx = run(x, np.ones(50, int))
    np.testing.assert_allclose(output, -np.log(2), rtol=1e-7)
    np.testing.assert_allclose(log_prob, -np.log(2), rtol=1e-7)
    np.testing.assert_allclose(dx, 0, atol=1e-7)


def test_vmap_over_targets():
    case = Case("two clusters and a bias")
    expected = case.with_loss(case.x, case.weights)
    output, loss = jax.vmap(
        lambda x, target: adaptive_log_softmax_with_loss(x, target, **case.weights, cutoffs=case.cutoffs)
    )(case.x, case.target)
    np.testing.assert_allclose(output, expected.output, rtol=1e-6)
    np.testing.assert_array_equal(loss, -output)


def test_a_call_is_one_kernel():
    """Both functions, once compiled, run no operation outside their kernel."""
    case = Case("two clusters and a bias")
    for function in (case.with_loss, case.log_prob):
        primitives = [equation.primitive.name for equation in jax.make_jaxpr(function)(case.x, case.weights).eqns]
        assert len(primitives) == 1


def test_memory_is_that_of_one_log_softmax_over_the_classes():
    """Temporary memory is that of log_softmax itself, two numbers at most for each class and row, some for a row."""
    rows, features, cutoffs = 64, 8, (50, 1000, 4000, 10000)
    tails = [(jnp.ones((4, features)), jnp.ones((stop - start, 4))) for start, stop in itertools.pairwise(cutoffs)]

    def loss(x, tails, target):
        return adaptive_log_softmax_with_loss(x, target, jnp.ones((53, features)), tails, cutoffs).loss

    def memory(f, *arrays):
        return jax.jit(jax.grad(f)).lower(*arrays).compile().memory_analysis().temp_size_in_bytes

    logits = jnp.ones((rows, cutoffs[-1]))
    alone = memory(lambda logits: jnp.sum(jaxact.log_softmax(logits, 1)[:, 0]), logits)
    each_row = 32 * rows * logits.itemsize
    total = memory(loss, jnp.ones((rows, features)), tails, jnp.zeros(rows, int))
    assert total < alone + 2 * logits.nbytes + each_row

"""The adaptive log-softmax: values, gradients, dtypes, transforms and errors, against live torch's module."""

import functools
import inspect
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax import export, lax
from jax.experimental import checkify
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxact
from jaxact.adaptive import adaptive_log_softmax_log_prob, adaptive_log_softmax_with_loss

# id: features, classes, cutoffs, options of torch's module
MODULES = {
    "one cluster": (4, 6, [2], {}),
    "two clusters and a bias": (8, 20, [5, 9], {"div_value": 2.0, "head_bias": True}),
    "clusters of one class": (6, 3, [1, 2], {"div_value": 1.0}),
    "no hidden features": (2, 9, [3, 7], {"head_bias": True}),
    "many classes": (16, 300, [10, 100], {"div_value": 2.0}),
}
# Numbers of rows, None for a single one without an axis.
CASES = [*((name, 7) for name in MODULES), *(("two clusters and a bias", rows) for rows in (None, 0, 1))]
HALVES = [np.float16, jnp.bfloat16]
set_mesh = getattr(jax, "set_mesh", None) or jax.sharding.use_mesh  # the name from jax 0.8 on

# The largest error in units of the dtype's epsilon, relative to the largest number of each array: about twice the
# measured 6.1 of float32 and 3.7 of float64, whose sums cancel; 0.45 of the halves, which are rounded once.
TOLERANCES = {np.dtype(np.float32): 12, np.dtype(np.float64): 8} | {np.dtype(half): 0.6 for half in HALVES}

# torch says so of the weights of a cluster without hidden features
pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element tensors is a no-op:UserWarning")


class Case:
    """Inputs rounded to a dtype, and torch's module in float64 at the same numbers."""

    def __init__(self, name, rows=7, dtype=np.float32):
        features, self.classes, self.cutoffs, options = MODULES[name]
        self.module = torch.nn.AdaptiveLogSoftmaxWithLoss(features, self.classes, self.cutoffs, **options).double()
        rng = np.random.default_rng(len(name))
        batch = () if rows is None else (rows,)
        for parameter in self.module.parameters():
            parameter.data = torch.from_numpy(rng.standard_normal(parameter.shape).astype(dtype).astype(np.float64))
        weights = {path: parameter.detach().numpy().astype(dtype) for path, parameter in self.module.named_parameters()}
        clusters = range(len(self.cutoffs))
        self.weights = {
            "head_weight": weights["head.weight"],
            "tail_weights": [(weights[f"tail.{k}.0.weight"], weights[f"tail.{k}.1.weight"]) for k in clusters],
            "head_bias": weights.get("head.bias"),
        }
        self.x = rng.standard_normal((*batch, features)).astype(dtype)
        edges = [edge for cutoff in self.cutoffs for edge in (cutoff - 1, cutoff)]
        self.target = np.resize([self.classes - 1, *edges, *rng.integers(0, self.classes, 40)], batch).astype(np.int64)
        self.cotangents = [rng.standard_normal(shape).astype(dtype) for shape in (batch, ())]
        self.log_prob_cotangent = rng.standard_normal((*batch, self.classes)).astype(dtype)

    def with_loss(self, x, weights):
        return adaptive_log_softmax_with_loss(x, self.target, **weights, cutoffs=self.cutoffs)

    def log_prob(self, x, weights):
        return adaptive_log_softmax_log_prob(x, **weights, cutoffs=self.cutoffs)

    def loss(self, x, weights):
        output, loss = self.with_loss(x, weights)
        return jnp.sum(output * self.cotangents[0]) + loss

    def torch_gradients(self, function, cotangents):
        """Return torch's outputs and its gradients, of the input first and then as the weights are."""
        x = torch.from_numpy(self.x.astype(np.float64)).requires_grad_()
        outputs = function(x)
        outputs = tuple(outputs) if isinstance(outputs, tuple) else (outputs,)
        parameters = dict(self.module.named_parameters())
        cotangents = [torch.from_numpy(c.astype(np.float64)) for c in cotangents]
        gradients = torch.autograd.grad(outputs, [x, *parameters.values()], cotangents, materialize_grads=True)
        dx, *gradients = (gradient.numpy() for gradient in gradients)
        gradients = dict(zip(parameters, gradients, strict=True))
        tails = [tuple(gradients[f"tail.{k}.{i}.weight"] for i in (0, 1)) for k in range(len(self.cutoffs))]
        weights = {"head_weight": gradients["head.weight"], "tail_weights": tails}
        return [y.detach().numpy() for y in outputs], (dx, weights | {"head_bias": gradients.get("head.bias")})

    def compare(self, ours, theirs, cotangents):
        """Compare outputs and all gradients of one function with torch's."""
        exact, exact_gradients = self.torch_gradients(theirs, cotangents)

        @jax.jit
        def run(x, weights):
            y, vjp = jax.vjp(ours, x, weights)
            return jax.tree.leaves(y), vjp(jax.tree.unflatten(jax.tree.structure(y), map(jnp.asarray, cotangents)))

        jax.tree.map(self.assert_close, run(self.x, self.weights), (exact, exact_gradients))

    def assert_close(self, ours, exact):
        dtype = self.x.dtype
        assert ours.dtype == dtype
        assert ours.shape == exact.shape
        tolerance = TOLERANCES[dtype] * float(jnp.finfo(dtype).eps)
        largest = np.max(np.abs(exact), initial=0, where=np.isfinite(exact))
        np.testing.assert_allclose(np.asarray(ours, np.float64), exact, rtol=0, atol=tolerance * largest)


class TestTorch:
    @pytest.mark.parametrize(("name", "rows"), CASES)
    def test_with_loss(self, name, rows):
        case = Case(name, rows)
        target = torch.from_numpy(case.target)
        case.compare(case.with_loss, lambda x: case.module(x, target), case.cotangents)

    @pytest.mark.parametrize(("name", "rows"), [case for case in CASES if None not in case])
    def test_log_prob(self, name, rows):
        case = Case(name, rows)
        case.compare(case.log_prob, case.module.log_prob, [case.log_prob_cotangent])

    @pytest.mark.parametrize("dtype", [*HALVES, np.float64])
    def test_dtypes(self, dtype, x64):
        case = Case("two clusters and a bias", 40, dtype)
        target = torch.from_numpy(case.target)
        case.compare(case.with_loss, lambda x: case.module(x, target), case.cotangents)
        case.compare(case.log_prob, case.module.log_prob, [case.log_prob_cotangent])

    @pytest.mark.parametrize("target", [np.int32, np.int64, jnp.int32, int], ids=repr)
    def test_targets_of_other_types(self, target):
        case = Case("two clusters and a bias", None)
        expected = case.with_loss(case.x, case.weights)
        case.target = target(case.target)
        np.testing.assert_array_equal(case.with_loss(case.x, case.weights).output, expected.output)

    def test_an_untouched_cluster_may_overflow(self):
        """In torch it is not computed; here neither a value nor a gradient may tell."""
        case = Case("two clusters and a bias", 3)
        case.target = np.array([0, 6, 4])
        with torch.no_grad():
            case.module.tail[1][1].weight[:2] = torch.inf
            case.module.tail[0][1].weight[0] = 1e30
        case.weights["tail_weights"] = [
            tuple(layer.weight.detach().numpy().astype(np.float32) for layer in tail) for tail in case.module.tail
        ]
        case.x[1] = 0  # the only row in cluster 0, whose other rows overflow
        case.x[0] = 1e10
        target = torch.from_numpy(case.target)
        case.compare(case.with_loss, lambda x: case.module(x, target), case.cotangents)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_a_row_that_is_not_finite_stays_alone(self, value):
        case = Case("two clusters and a bias")
        clean = case.with_loss(case.x, case.weights).output
        case.x[2] = value
        output, loss = case.with_loss(case.x, case.weights)
        others = np.arange(7) != 2
        np.testing.assert_array_equal(np.isnan(output), ~others)
        np.testing.assert_array_equal(output[others], clean[others])
        assert np.isnan(loss)


class TestSemantics:
    def test_output_is_the_targets_entry_of_log_prob(self):
        case = Case("two clusters and a bias", 40)
        entries = case.log_prob(case.x, case.weights)[np.arange(40), case.target]
        np.testing.assert_allclose(case.with_loss(case.x, case.weights).output, entries, rtol=1e-6)

    def test_probabilities_sum_to_one(self):
        case = Case("two clusters and a bias", 40)
        np.testing.assert_allclose(jnp.exp(case.log_prob(case.x, case.weights)).sum(1), 1, rtol=1e-6)

    @pytest.mark.parametrize("dtype", HALVES)
    def test_halves_are_the_rounded_float32_result(self, dtype):
        case = Case("two clusters and a bias", 40, dtype)
        widened = jax.tree.map(lambda a: a.astype(np.float32), (case.x, case.weights))
        for function in (case.with_loss, case.log_prob):
            rounded = jax.tree.map(lambda y: y.astype(dtype), function(*widened))
            jax.tree.map(np.testing.assert_array_equal, function(case.x, case.weights), rounded)

    @pytest.mark.parametrize("cutoffs", [(5, 9), np.array([5, 9]), range(5, 10, 4), [5, 9, 20], (5, np.int32(9), 20)])
    def test_cutoffs_with_or_without_the_number_of_classes(self, cutoffs):
        case = Case("two clusters and a bias")
        expected = case.log_prob(case.x, case.weights)
        case.cutoffs = cutoffs
        np.testing.assert_array_equal(case.log_prob(case.x, case.weights), expected)
        case.with_loss(case.x, case.weights)

    def test_the_result_is_a_named_tuple(self):
        case = Case("one cluster")
        result = case.with_loss(case.x, case.weights)
        assert result._fields == ("output", "loss")
        assert result[1] is result.loss

    @pytest.mark.parametrize("target", [-1, 20, 2**31 - 1, -(2**31)])
    def test_a_traced_target_out_of_range_is_nan_and_has_no_gradient(self, target):
        case = Case("two clusters and a bias", 3)
        targets, clean = np.array([0, target, 19], np.int32), np.array([0, 0, 19], np.int32)
        loss = jax.jit(
            lambda x, target: adaptive_log_softmax_with_loss(x, target, **case.weights, cutoffs=case.cutoffs)
        )
        output, mean = loss(case.x, targets)
        np.testing.assert_array_equal(np.isnan(output), [False, True, False])
        assert np.isnan(mean)
        np.testing.assert_array_equal(output[::2], loss(case.x, clean).output[::2])
        gradient = jax.jit(jax.grad(lambda x: jnp.nansum(loss(x, targets).output)))(case.x)
        assert np.isfinite(gradient).all()
        assert not np.any(gradient[1])


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
        with set_mesh(mesh):
            for name in spread:
                arguments[name] = jax.device_put(arguments[name], NamedSharding(mesh, PartitionSpec("rows")))
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


WRONG = {
    "list": ({"x": [[1.0]]}, TypeError, "input must be a JAX or NumPy array or a number, got list"),
    "torch tensor": ({"x": torch.ones(7, 8)}, TypeError, "jaxact.interop.to_jax"),
    "torch weight": ({"head_weight": torch.ones(7, 8)}, TypeError, "head_weight must be .*jaxact.interop.to_jax"),
    "integer input": ({"x": np.ones((7, 8), int)}, TypeError, "input of dtype int32 is not accepted, only .*float32"),
    "complex input": ({"x": np.ones((7, 8), "c8")}, TypeError, "input of dtype complex64 is not accepted"),
    "input of another dtype": ({"x": np.ones((7, 8), "f2")}, TypeError, "the input's dtype float16, got float32"),
    "bias of another dtype": ({"head_bias": np.ones(7, "f2")}, TypeError, "head_bias must have the input's dtype"),
    "too few axes": ({"x": np.float32(1)}, ValueError, r"input .*\(N, F\).*, got \(\)"),
    "too many axes": ({"x": np.ones((2, 3, 8), "f4")}, ValueError, r"input .*\(N, F\).*, got \(2, 3, 8\)"),
    "features": ({"x": np.ones((7, 5), "f4")}, ValueError, r"head_weight must be of shape \(7, 5\) .*, got \(7, 8\)"),
    "head": ({"head_weight": np.ones((6, 8), "f4")}, ValueError, r"head_weight must be of shape \(7, 8\)"),
    "0-d head": ({"head_weight": 1.0}, ValueError, r"head_weight must have 2 axes, got shape \(\)"),
    "bias": ({"head_bias": np.ones((7, 1), "f4")}, ValueError, r"head_bias must be of shape \(7,\) .*, got \(7, 1\)"),
    "no tails": ({"tail_weights": []}, ValueError, "a cutoff for each pair of tail_weights, .* got 0 pairs"),
    "tails are an array": ({"tail_weights": np.ones((2, 2, 3, 4))}, TypeError, "a list of pairs .*got ndarray"),
    "tails are a module": (
        {"tail_weights": torch.nn.ModuleList()}, TypeError, "tail_weights must be a list of pairs .*, got ModuleList"
    ),
    "tail of one": ({"tail_weights": [(np.ones((4, 8)),)]}, TypeError, r"tail_weights\[0\] must be a pair .*1 entries"),
    "tail of an array": ({"tail_weights": [np.ones((2, 8))]}, TypeError, r"tail_weights\[0\] must be a pair .*ndarray"),
    "no cutoffs": ({"cutoffs": []}, ValueError, r"got 2 pairs and cutoffs=\(\)"),
    "too many cutoffs": ({"cutoffs": [2, 5, 9, 20]}, ValueError, r"got 2 pairs and cutoffs=\(2, 5, 9, 20\)"),
    "cutoff of 0": ({"cutoffs": [0, 9]}, ValueError, r"increase from at least 1 .*, got \(0, 9\)"),
    "negative cutoff": ({"cutoffs": [-5, 9]}, ValueError, "increase from at least 1"),
    "equal cutoffs": ({"cutoffs": [5, 5]}, ValueError, "increase from at least 1"),
    "falling cutoffs": ({"cutoffs": [9, 5]}, ValueError, "increase from at least 1"),
    "cutoffs of other weights": ({"cutoffs": [5, 8]}, ValueError, r"tail_weights\[0\]\[1\] must be of shape \(3, 4\)"),
    "classes of other weights": ({"cutoffs": [5, 9, 21]}, ValueError, r"\[1\]\[1\] must be of shape \(12, 2\)"),
    "float cutoffs": ({"cutoffs": [5.0, 9.0]}, TypeError, r"sequence of ints, .*got \[5.0, 9.0\]"),
    "cutoff without a sequence": ({"cutoffs": 5}, TypeError, "sequence of ints, .*got 5"),
}  # fmt: skip


@pytest.mark.parametrize("function", [adaptive_log_softmax_with_loss, adaptive_log_softmax_log_prob])
@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments(function, name):
    changed, error, message = WRONG[name]
    case = Case("two clusters and a bias")
    arguments = {"x": case.x, **case.weights, "cutoffs": case.cutoffs} | changed
    x = arguments.pop("x")
    if function is adaptive_log_softmax_with_loss:
        arguments["target"] = np.zeros(np.shape(x)[:-1], int) if error is TypeError else case.target
    with pytest.raises(error, match=f"^{function.__name__}: .*{message}"):
        function(x, **arguments)


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (np.zeros(7, np.float32), TypeError, "target of dtype float32 is not accepted, only int32, int64"),
        (np.zeros(7, bool), TypeError, "target of dtype bool is not accepted"),
        (np.zeros(7, np.uint8), TypeError, "target of dtype uint8 is not accepted"),
        ([0] * 7, TypeError, "target must be a JAX or NumPy array or a number, got list"),
        (torch.zeros(7, dtype=torch.int64), TypeError, "jaxact.interop.to_jax"),
        (np.zeros(6, int), ValueError, "shapes (N, F) and (N,), or (F,) and (), got (7, 8) and (6,)"),
        (np.zeros((7, 1), int), ValueError, "got (7, 8) and (7, 1)"),
        (0, ValueError, "got (7, 8) and ()"),
        (np.array([0, 1, 20, 2, 3, 4, 5]), ValueError, "target must be in [0, 19], a class, got 20"),
        (np.array([0, 1, 19, 2, -1, 4, 5]), ValueError, "target must be in [0, 19], a class, got -1"),
    ],
)  # fmt: skip
def test_wrong_targets(target, error, message):
    case = Case("two clusters and a bias")
    with pytest.raises(error, match=f"^adaptive_log_softmax_with_loss: .*{re.escape(message)}"):
        adaptive_log_softmax_with_loss(case.x, target, **case.weights, cutoffs=case.cutoffs)


def test_a_single_row_has_a_single_target():
    case = Case("two clusters and a bias", None)
    with pytest.raises(ValueError, match=r"got \(8,\) and \(8,\)"):
        adaptive_log_softmax_with_loss(case.x, np.zeros(8, int), **case.weights, cutoffs=case.cutoffs)
    with pytest.raises(ValueError, match=r"got \(8,\); pass a single row as x\[None\]"):
        case.log_prob(case.x, case.weights)


def test_cutoffs_cannot_be_traced():
    case = Case("two clusters and a bias")
    with pytest.raises(TypeError, match="cutoffs must be a sequence of ints, known when the function is traced"):
        jax.jit(lambda cutoffs: adaptive_log_softmax_log_prob(case.x, **case.weights, cutoffs=cutoffs))(
            np.array(case.cutoffs)
        )


@pytest.mark.parametrize("function", [adaptive_log_softmax_with_loss, adaptive_log_softmax_log_prob])
def test_the_input_is_positional_only(function):
    first, *_ = inspect.signature(function).parameters.values()
    assert first.kind is inspect.Parameter.POSITIONAL_ONLY

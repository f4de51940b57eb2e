"""Contexts: every function on other devices, on meshes, at symbolic sizes, under checkers and with weak types."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.experimental import checkify
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxact
from examples import ELEMENTWISE, EXAMPLES, NUMBERS, axes_and_dtype, every_example, sizes, spec
from jaxact import _activation
from jaxact.catalog import BY_NAME
from oracle import accepts, special_points

# The compiler fuses and contracts each program in its own way, which moves a result by an ULP or two.
CLOSE = {"rtol": 2e-6, "atol": 5e-7}


def test_every_function_has_an_example():
    assert {example.row for example in EXAMPLES.values()} == BY_NAME.keys()


def with_gradient(call, arrays):
    """Return the function of the arrays that gives the results and the gradients of the sum of their squares."""
    differentiable = [i for i, x in enumerate(arrays) if x.dtype == np.float32]

    def loss(*arrays):
        results = call(*arrays)
        return sum(jnp.sum(y * y) for y in results), results

    return jax.grad(loss, argnums=differentiable, has_aux=True)


def assert_close(ours, expected):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, **CLOSE)


def on_mesh(mesh, example):
    """Return the arrays on a mesh, sharded along the batch."""
    placed = zip(example.values(), example.arrays, strict=True)
    return tuple(jax.device_put(x, NamedSharding(mesh, spec(array))) for x, array in placed)


@every_example
class TestDevices:
    def test_meshes_one_after_another(self, example):
        call, arrays = example.call(), example.values()
        for axis, kind in (("data", AxisType.Auto), ("model", AxisType.Auto), ("model", AxisType.Explicit)):
            with jax.set_mesh(jax.make_mesh((2,), (axis,), axis_types=(kind,))):
                results = [call(*map(jnp.asarray, arrays)) for _ in range(3)]
        for y in (*results, call(*map(jnp.asarray, arrays))):
            assert_close(y, jax.jit(call)(*arrays))

    def test_the_result_is_where_the_arrays_are(self, example):
        first, second = jax.devices()
        call, arrays = example.call(), example.values()

        def assert_on(device, committed, arrays):
            for _ in range(3):
                for y in call(*arrays):
                    assert y.devices() == {device}
                    assert y.committed == committed

        with jax.default_device(second):
            assert_on(second, False, tuple(map(jnp.asarray, arrays)))
        assert_on(first, False, tuple(map(jnp.asarray, arrays)))
        assert_on(second, True, jax.device_put(arrays, second))
        assert_on(first, True, jax.device_put(arrays, first))

    @pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=lambda kind: kind.name)
    def test_sharded_along_the_batch(self, example, kind):
        call, arrays = example.call(), example.values()
        f = jax.jit(with_gradient(call, arrays))
        expected = f(*arrays)
        mesh = jax.make_mesh((2,), ("batch",), axis_types=(kind,))
        with jax.set_mesh(mesh):
            sharded = on_mesh(mesh, example)
            results = call(*sharded)
            assert_close((f(*sharded), results), (expected, expected[1]))
            for y, output in zip(results, example.outputs, strict=True):
                assert y.sharding.is_equivalent_to(NamedSharding(mesh, spec(output)), y.ndim)

    def test_shard_map(self, example):
        call, arrays = example.call(), example.values()
        mesh = jax.make_mesh((2,), ("batch",), axis_types=(AxisType.Auto,))
        axes = [[*spec(array), "batch"].index("batch") for array in example.arrays]
        halves = [jnp.split(x, 2, axis) if axis < x.ndim else [x, x] for x, axis in zip(arrays, axes, strict=True)]
        parts = [call(*half) for half in zip(*halves, strict=True)]
        expected = [
            jnp.mean(jnp.stack(ys)) if output == "" else jnp.concatenate(ys, [*spec(output)].index("batch"))
            for output, *ys in zip(example.outputs, *parts, strict=True)
        ]

        def mapped(*arrays):
            results = zip(call(*arrays), example.outputs, strict=True)
            return tuple(y if output else jax.lax.pmean(y, "batch") for y, output in results)

        in_specs = tuple(spec(array) if "b" in array.split(":")[0] else PartitionSpec() for array in example.arrays)
        out_specs = tuple(spec(output) if output else PartitionSpec() for output in example.outputs)
        f = jax.shard_map(mapped, mesh=mesh, in_specs=in_specs, out_specs=out_specs)
        assert_close(jax.jit(f)(*arrays), expected)

    def test_vmap_along_a_mesh(self, example):
        call, arrays = example.call(), example.values()
        stacked = [np.stack([x, np.roll(x, 1, 0)]) for x in arrays]
        expected = [jnp.stack(ys) for ys in zip(*(call(*each) for each in zip(*stacked, strict=True)), strict=True)]
        mesh = jax.make_mesh((2,), ("batch",), axis_types=(AxisType.Auto,))
        with jax.set_mesh(mesh):
            sharded = [jax.device_put(x, NamedSharding(mesh, PartitionSpec("batch"))) for x in stacked]
            assert_close(jax.jit(jax.vmap(call, spmd_axis_name="batch"))(*sharded), expected)


class TestNumbersThatAreKept:
    @pytest.mark.parametrize("zeros", [(0.0, -0.0), (-0.0, 0.0)])
    def test_zeros_keep_their_sign(self, zeros):
        for zero in 3 * zeros:
            y = jaxact.threshold(jnp.array(-1.0), 0.5, zero)
            assert np.signbit(y) == np.signbit(zero)

    def test_digits_are_those_of_x64_if_that_is_on(self, request):
        slope = 0.1 + next(NUMBERS) * 2**-16
        for _ in range(3):
            assert jaxact.leaky_relu(jnp.array(-1.0), slope) == -np.float32(slope)
        request.getfixturevalue("x64")
        for _ in range(3):
            assert jaxact.leaky_relu(jnp.array(-1.0), slope) == -slope

    def test_no_more_than_some(self):
        for slope in np.linspace(1, 2, 3000).tolist():
            jaxact.leaky_relu(jnp.array(-1.0), slope)
        assert len(_activation._CONSTANTS) <= 1024


@every_example
class TestPrograms:
    def test_symbolic_sizes(self, example):
        call, arrays = example.call(), example.values()
        scope = export.SymbolicScope()
        symbolic = [
            jax.ShapeDtypeStruct(export.symbolic_shape(axes, scope=scope), dtype)
            for axes, dtype in map(axes_and_dtype, example.arrays)
        ]
        f = jax.jit(with_gradient(call, arrays))
        assert_close(export.export(f)(*symbolic).call(*arrays), f(*arrays))

    def test_without_jit(self, example):
        call, arrays = example.call(), example.values()
        f = with_gradient(call, arrays)
        expected = jax.jit(f)(*arrays)
        with jax.disable_jit():
            assert_close(f(*map(jnp.asarray, arrays)), expected)

    def test_no_leaked_tracers(self, example):
        """Not of a program of its arrays, nor of one that closes over them."""
        call, arrays = example.call(), example.values()
        f, closed_over = with_gradient(call, arrays), tuple(map(jnp.asarray, arrays))
        call = example.call()
        with jax.checking_leaks():
            jax.jit(f)(*arrays)
            for _ in range(3):
                jax.jit(lambda: call(*closed_over))()
        assert_close(call(*closed_over), jax.jit(call)(*arrays))


INF, MAX = np.inf, float(np.finfo(np.float32).max)
ROWS_OF_NUMBERS = np.float32(
    [
        [-INF, 0, 1, 2],
        [0, -INF, -INF, -INF],
        [MAX, 0, -MAX, 1],
        [MAX] * 4,
        [-MAX] * 4,
        [-INF, MAX, -MAX, MAX],
        [1e4, -1e4, 0, -0.0],
        [1e-30, 88, 104, -104],
    ]
)


def extremes(name, example):
    """Return arrays with -inf where that masks, infinities where a limit is finite or infinite, and finite extremes."""
    row = BY_NAME[example.row]
    if row.family == "normalizing":
        rows = -ROWS_OF_NUMBERS if row.name == "softmin" else ROWS_OF_NUMBERS
        return (rows.T[..., None] if row.name == "softmax2d" else rows,)
    points = special_points(row)[:-1]  # the last is NaN
    if row.name == "glu":
        gated = points[np.isfinite(points)]  # an infinity times 0 is NaN
        return (np.stack(np.broadcast_arrays(gated[:, None], points), -1),)
    if row.of_one_array:
        return (points,)
    first, *others = example.values()
    for x, array in zip(others, example.arrays[1:], strict=True):
        if array == "b, 1, l, s":  # a mask that is added
            x[...] = np.where(x > 0, 0, -INF)
            x[0, 0, 0] = -INF
        elif x.dtype == bool:  # nothing may be seen
            x[0] = row.name == "multi_head_attention_forward"
    return (first * 1e4, *others)


@pytest.mark.parametrize(("name", "example"), EXAMPLES.items(), ids=EXAMPLES)
class TestCheckers:
    """JAX's checkers look at every step: no NaN may be on the way to results and gradients that are none."""

    def with_gradient(self, example):
        call = example.call()

        def f(*arrays):
            differentiable = {i: x for i, x in enumerate(arrays) if x.dtype == np.float32}
            results, pull = jax.vjp(
                lambda those: call(*({**dict(enumerate(arrays)), **those}).values()), differentiable
            )
            return results, pull(tuple(map(jnp.ones_like, results)))

        return f

    def test_checkify_finds_no_nan(self, name, example):
        f = jax.jit(checkify.checkify(self.with_gradient(example), errors=checkify.nan_checks))
        error, outcome = f(*extremes(name, example))
        error.throw()
        assert not any(np.isnan(y).any() for y in jax.tree.leaves(outcome))

    def test_debug_nans_without_jit_finds_no_nan(self, name, example, debug_nans):
        for arrays in (example.values(), extremes(name, example)):
            with jax.disable_jit():
                self.with_gradient(example)(*map(jnp.asarray, arrays))


SINGLE = {name: example for name, example in EXAMPLES.items() if example.arrays == (ELEMENTWISE,)}


@pytest.mark.parametrize("example", SINGLE.values(), ids=SINGLE)
class TestWeakTypes:
    """A number, or an array made of one, has a weak type, and so has what is made of it: it widens no array."""

    @pytest.mark.parametrize("dtype", ["float32", "int32"])
    @pytest.mark.parametrize("x64", [False, True])
    def test_results_are_weak_where_the_input_is(self, example, dtype, x64, request):
        if x64:
            request.getfixturevalue("x64")
        call = example.call()
        weak = jnp.full(sizes(ELEMENTWISE), 1.5 if dtype == "float32" else 1)
        strong = weak.astype(weak.dtype)
        try:
            (expected,) = call(strong)
        except TypeError:
            assert dtype == "int32"
            with pytest.raises(TypeError, match="input of dtype int"):
                call(weak)
            return
        for f in (call, jax.jit(call)):
            (y,) = f(weak)
            assert y.weak_type
            assert y.dtype == expected.dtype
            assert not f(strong)[0].weak_type
            assert_close(y, expected)

    def test_numbers_widen_no_array(self, example):
        if accepts(BY_NAME[example.row], ()):
            (y,) = example.call()(1.5)
            assert (jnp.ones(2, jnp.bfloat16) * y).dtype == jnp.bfloat16


def test_an_array_argument_that_is_not_weak_makes_the_result_strong():
    assert jaxact.prelu(1.0, 0.1).weak_type
    assert not jaxact.prelu(1.0, jnp.float32(0.1)).weak_type


def test_a_dtype_that_was_asked_for_is_strong():
    assert not jaxact.softmax(jnp.full(2, 1.0), 0, dtype=jnp.float32).weak_type

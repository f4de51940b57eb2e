"""What the test suites of other libraries ask of moving arrays and functions, asked of ours; docs/interop.md counts it.

A case is named after the peer's test; one that the peer runs for many parameters counts once. Where a peer expects
what we do not do on purpose, the case holds what we do and says why.
"""

import functools
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from torch import nn

from jaxact.interop import as_jax, to_jax, to_numpy, to_torch
from layouts import DTYPES, Foreign, make, pointer, random_bytes, read

TO = (to_jax, to_torch, to_numpy)
# XLA and torch add up products in another order, and their exp and sin are not the same (measured: 4e-6).
close = functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-5)
ASKED = []


def asked(table):
    """Return the mark that runs a test for each entry of a table, which is named after a test of a peer."""
    ASKED.extend(table)
    return pytest.mark.parametrize("case", table.values(), ids=table)


def assert_same(x, y):
    assert tuple(y.shape) == tuple(x.shape)
    assert str(y.dtype).removeprefix("torch.") == str(x.dtype).removeprefix("torch.")
    assert read(y) == read(x)


class Old(Foreign):
    """What speaks the first version of DLPack, in which there is no keyword but ``stream``."""

    def __dlpack__(self, stream=None):
        return self.array.__dlpack__()


def a_field_at_odd_strides():
    """NumPy refuses to export it; it is copied here, where that is allowed."""
    x = np.array([(1, 2), (3, 4), (5, 6)], [("int", np.int32), ("char", np.int8)])["int"]
    for to in (to_jax, to_torch):
        assert_same(x, to(x))
        with pytest.raises(ValueError, match="copy=False, but the data must be copied"):
            to(x, copy=False)
    assert to_numpy(x, copy=False) is x


def a_reference_is_held_and_given_back():
    """At once: it does not take the garbage collector. An exception on the way changes nothing."""

    def fail(held):
        raise RuntimeError(held)

    for to in TO:
        for wrap in (np.asarray, Foreign, lambda x: {"a": [x]}):
            x = make("numpy", "float32")[0]
            before = sys.getrefcount(x)
            held = to(wrap(x))
            assert sys.getrefcount(x) > before
            del held
            assert sys.getrefcount(x) == before
            with pytest.raises(RuntimeError):
                fail(to(wrap(x)))
            assert sys.getrefcount(x) == before


def both_versions_of_the_protocol():
    for dtype in DTYPES:
        x = make("torch", dtype)[0]
        for to in TO:
            assert_same(x, to(Foreign(x)))
            assert_same(x, to(Old(x)))


def up_to_32_axes():
    for axes in range(33):
        for to in TO:
            assert_same(np.full((1,) * axes, 1.5), to(np.full((1,) * axes, 1.5)))


def read_only_stays_so():
    """But not in torch, which has no read-only tensors. The first version of DLPack cannot say that an array is not."""
    x = make("numpy", "int32")[0]
    assert to_numpy(Foreign(x)).flags.writeable
    assert not to_numpy(Old(x)).flags.writeable
    x.flags.writeable = False
    assert pointer(to_jax(x)) == pointer(to_torch(x)) == pointer(x)
    assert not to_numpy(to_jax(x)).flags.writeable
    assert not to_numpy(Foreign(x)).flags.writeable


def an_odd_stride_of_an_axis_of_size_one():
    x = np.ndarray((10, 5, 1), "f8", random_bytes("float64"), strides=(8, 80, 4))
    for to in TO:
        assert_same(x, to(x))
        assert_same(x, to(x, copy=True))


def a_capsule_is_refused():
    """It can be read once, and does not say where its data are."""
    for to in TO:
        with pytest.raises(TypeError, match="got a PyCapsule"):
            to(torch.ones(5).__dlpack__())


def jax_computes_with_it():
    for dtype in ("int8", "int64", "uint8", "float16", "bfloat16", "float64", "complex64", "complex128"):
        for shape in [(), (4,), (3, 4), (2, 3, 4), (3, 1), (1, 4), (2, 1, 4), (0,), (0, 4), (3, 0), (2, 0, 1)]:
            x = torch.arange(np.prod(shape)).reshape(shape).to(getattr(torch, dtype))
            assert_same(x + 1, jax.jit(lambda x: x + 1)(to_jax(x)))


@asked(
    {
        "numpy:test_strides_not_multiple_of_itemsize": a_field_at_odd_strides,
        "numpy:test_from_dlpack_refcount": a_reference_is_held_and_given_back,
        "numpy:test_dlpack_destructor_exception": a_reference_is_held_and_given_back,
        "numpy:test_dtype_passthrough": both_versions_of_the_protocol,
        "numpy:test_higher_dims": up_to_32_axes,
        "numpy:test_readonly": read_only_stays_so,
        "numpy:test_writeable": read_only_stays_so,
        "numpy:test_size1dims_arrays": an_odd_stride_of_an_axis_of_size_one,
        "torch:test_dlpack_capsule_conversion": a_capsule_is_refused,
        "torch:test_max_version": both_versions_of_the_protocol,
        "jax-torch:testTorchToJax": jax_computes_with_it,
        "jax-torch:testTorchToJaxArray": jax_computes_with_it,
    }
)
def test_conversions(case, x64):
    case()


randn = functools.partial(torch.randn, generator=torch.Generator().manual_seed(0))


def squares(tree):
    return sum((y * y).sum() for y in jax.tree.leaves(tree))


def in_torch(fn, at, order=1):
    """Return what the gradient of the sum of the squares of all results is in torch."""

    def gradient(*args):
        args = [x.clone() for x in args]
        moving = [args[i] if args[i].requires_grad else args[i].requires_grad_() for i in at]
        total = squares((fn if order == 1 else in_torch(fn, at, order - 1))(*[x.clone() for x in args]))
        return torch.autograd.grad(total, moving, create_graph=True, materialize_grads=True)

    return gradient


def in_jax(fn, at):
    return jax.grad(lambda *args: squares(fn(*args)), at)


# How they are had in JAX and in torch, given the positions of the arguments to differentiate.
RESULTS = {
    "value": (lambda f, at: f, lambda f, at: f),
    "gradient": (in_jax, in_torch),
    "gradient of gradient": (lambda f, at: in_jax(in_jax(f, at), at), functools.partial(in_torch, order=2)),
    "jacobian": (jax.jacobian, torch.func.jacrev),
    "batch": (lambda f, at: jax.vmap(f, (0, None)), lambda f, at: torch.func.vmap(f, (0, None))),
}


def check(fn, args, *results):
    at = tuple(i for i, x in enumerate(args) if x.is_floating_point())
    for result in results:
        ours, theirs = RESULTS[result]
        expected = jax.tree.leaves(theirs(fn, at)(*[x.clone() for x in args]))
        for run in (lambda f: f, jax.jit):
            actual = jax.tree.leaves(run(ours(lambda *args: as_jax(fn)(*args), at))(*to_jax(args)))
            for x, y in zip(actual, expected, strict=True):
                close(x, y.detach())


def norm(x, y):
    return (x + 1 - y.reshape(x.shape)) / torch.norm(y)


def wave(a, b, *_):
    return torch.sin(a + 2 * b) * torch.softmax(a - b, dim=0).reshape(-1)[0]


class Squares(torch.autograd.Function):
    """Written as before torch.func, whose transforms do not take it."""

    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x**2 + y**2

    @staticmethod
    def backward(ctx, gradient):
        x, y = ctx.saved_tensors
        return 2 * x * gradient, 2 * y * gradient


V, G, ALL = ("value",), ("value", "gradient"), ("value", "gradient", "gradient of gradient")
TEN, SIX, MATRIX = (randn(10), randn(10), torch.arange(10)), (randn(2, 3), randn(2, 3)), randn(3, 5)
COUNT, BATCH = torch.arange(5, dtype=torch.int32), (randn(4, 5, 5) + 5 * torch.eye(5), randn(5, 7))
NORMS = {"single": norm, "multi": lambda x, y: (norm(x, y), (x - y.reshape(x.shape)).reshape(-1)[:5])}
IN_JIT = [f"rdyro:test_{name}" for name in ("with_jit", "without_jit", "grads_with_jit", "grads_without_jit")]


@asked(
    {
        "rdyro:test_torch2jax_with_vjp_vjp_fallback": (Squares.apply, (randn(5, 7), randn(5, 7)), *ALL),
        "rdyro:test_gradient": (wave, TEN, *G),
        "rdyro:nondiff_args.test_jacobian": (wave, TEN, "jacobian"),
        **dict.fromkeys(IN_JIT, (lambda a, b: (torch.sin(a + b), torch.cos(a - b).mean()), SIX, *G)),
        # There are two of this name, of which the second hides the first.
        "rdyro:test_simple_vmap-solve": (torch.linalg.solve, BATCH, "batch"),
        "rdyro:test_torch2jax_with_vjp": (lambda x, y: x**2 * y**2, (randn(5, 7), randn(5, 7)), *ALL),
        "rdyro:with_vjp.test_jacobian": (wave, SIX, "jacobian"),
        "lebrice:test_torch_to_jax_function": (lambda x: x + torch.ones_like(x), (COUNT,), *V),
        "samuela:test_Tensor_clone": (lambda x: (x.clone().add_(1), x), (MATRIX,), *G),
        "samuela:test_Tensor_detach": (lambda x: (x.detach() ** 2, x), (MATRIX,), *G),
        "samuela:test_inplace_Tensor_methods": (lambda x: x.add_(1).sub_(2.3).mul_(3.4).div_(5.6), (MATRIX,), *G),
        "samuela:test_grad_on_off": (lambda x: torch.no_grad()(torch.cos)(x) * x, (MATRIX,), *G),
        "samuela:test_tuple_return_function": (lambda x: (x + 1, x * 2), (MATRIX,), *G),
    }
)
def test_functions(case):
    check(*case)


@asked({f"rdyro:{file}.test_{n}_output_fn": fn for file in ("interface", "fn_wrapping") for n, fn in NORMS.items()})
def test_keywords_and_shapes_that_are_given(case):
    for shape in [(10, 2), (10,)]:
        x, y = randn(*shape), randn(*shape).reshape(-1)
        expected = to_jax(case(x, y))
        for given in (None, jax.tree.map(lambda y: jax.ShapeDtypeStruct(y.shape, y.dtype), expected)):
            fn = as_jax(case, result_shape_dtypes=given)
            for run in (fn, jax.jit(fn)):
                jax.tree.map(close, run(*to_jax((x, y))), expected)
                jax.tree.map(close, run(to_jax(x), y=to_jax(y)), expected)


@asked(dict.fromkeys(["lebrice:test_benchmark_forward_pass", "lebrice:test_use_torch_module_in_jax_graph"]))
def test_a_module(case):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 10))
    x = randn(2, 3, 8, 8).requires_grad_()
    result, net = module(x), as_jax(module)
    result.square().sum().backward()
    for run in (lambda f: f, jax.jit):
        close(run(lambda net, x: net(x))(net, to_jax(x)), result.detach())
        of_net, of_x = run(in_jax(lambda net, x: net(x), (0, 1)))(net, to_jax(x))
        close(of_x, x.grad)
        for name, parameter in module.named_parameters():
            close(of_net.args[0][name], parameter.grad)


# Functions of what each device has of x and of w, which all devices have; and who has the results.
SHARDED = {
    "value": (lambda f: f, P("x")),
    "gradient": (lambda f: in_jax(f, (0, 1)), (P("x"), P())),
    "scan": (lambda f: in_jax(lambda x, w: jax.lax.scan(lambda x, _: (f(x, w), None), x, None, 3)[0], 1), P()),
    "checkpoint": (lambda f: in_jax(jax.checkpoint(f), 1), P()),
    "mean": (lambda f: lambda x, w: jax.grad(lambda w: jax.lax.pmean(squares(f(x, w)), "x"))(w), P()),
}


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=str)
@asked({"rdyro:test_shard_map": SHARDED})
def test_two_devices(case, axis_type):
    mesh = jax.make_mesh((2,), ("x",), axis_types=(axis_type,))
    x, w = (jax.device_put(to_jax(randn(n, 4)), NamedSharding(mesh, P(axis))) for n, axis in ((6, "x"), (4, None)))
    ours, theirs = as_jax(lambda x, w: torch.tanh(x @ w)), lambda x, w: jnp.tanh(x @ w)
    on_each = functools.partial(jax.shard_map, mesh=mesh, in_specs=(P("x"), P()))
    for function, out_specs in case.values():
        actual, expected = (jax.jit(on_each(function(f), out_specs=out_specs))(x, w) for f in (ours, theirs))
        jax.tree.map(close, actual, expected)
    with pytest.raises(ValueError, match="require replication"):
        jax.jit(on_each(ours, out_specs=P()))(x, w)
    if axis_type == AxisType.Explicit:  # outside of shard_map a result is on no axis, which JAX must know
        with jax.set_mesh(mesh), pytest.raises(TypeError, match="carry input and carry output must have equal types"):
            jax.jit(lambda x, w: jax.lax.scan(lambda x, _: (ours(x, w), None), x, None, 3))(x, w)


# Our test, in the file of that name, and the peers' tests that ask no more than it does.
ELSEWHERE = {
    "as_jax.py::test_a_batch_is_one_call": "rdyro:test_simple_vmap",
    "as_jax_errors.py::test_a_branch_with_the_shape_given": "samuela:test_Tensor_item",
    "as_jax_errors.py::test_a_result_that_is_no_tensor": "samuela:test_cast_to_scalar",
    "as_jax_modules.py::test_gradients_are_torchs": """lebrice:test_torch_to_jax_nn_module samuela:test_mlp
        samuela:test_torch_nn_BatchNorm1d samuela:test_torch_nn_functional_batch_norm samuela:test_torch_nn_Linear
        samuela:test_torch_nn_Linear_no_bias""",
    "as_jax_arguments.py::test_integers_have_no_gradient": "rdyro:test_int_args",
    "as_jax_arguments.py::test_labels_and_indices_of_fewer_bits_than_torch_wants": """samuela:test_scatter
        samuela:test_torch_nn_functional_embedding""",
    "as_jax_arguments.py::test_results_that_torch_names": "samuela:test_tree_coerce",
    "as_jax.py::test_transforms": "rdyro:test_hessian",
    "as_jax.py::test_two_devices": "rdyro:test_auto_partitioning",
    # samuela's torch2jax draws by a key of JAX. Here torch would, and in the backward pass anew: it is refused.
    "as_jax_errors.py::test_what_is_not_pure": """samuela:test_Tensor_bernoulli_ samuela:test_Tensor_uniform_
        samuela:test_bernoulli samuela:test_multinomial samuela:test_normal samuela:test_poisson samuela:test_randint
        samuela:test_rand_and_randn samuela:test_rand_like samuela:test_torch_nn_Dropout""",
    "as_jax.py::test_writing_into_an_argument_changes_no_jax_array": "rdyro:test_memory_inplace",  # there it does
    "as_torch_arguments.py::test_dtypes_pass_through": "lebrice:test_jax_to_torch_function",
    "as_torch_arguments.py::test_trees_in_and_out": """lebrice:test_use_jax_module_in_torch_graph
        lebrice:test_use_jax_scalar_function_in_torch_graph""",
    "interop_contract.py::test_none_shares_wherever_it_can_and_false_refuses_the_rest": """torch:test_no_copy
        torch:test_dlpack_normalize_strides torch:test_numpy_dlpack_protocol_conversion
        jax-torch:testTorchToJaxFailure""",
    "interop_contract.py::test_several_devices": """torch:test_needs_copy_error jax-torch:testJaxArrayToTorch
        jax-array:testJaxArrayRoundTrip""",
    "interop_contract.py::test_true_never_shares": "torch:test_copy numpy:test_copy",
    "interop_errors.py::test_copy": "numpy:test_dunder_dlpack_copy",
    "interop_errors.py::test_device": "numpy:test_device",
    "interop_errors.py::test_the_devices_that_there_are": "numpy:test_dlpack_device",
    "interop_errors.py::test_traced_by_jax": "rdyro:test_runtime_error",
    # Of these torch_jax_interop returns what it does not know, and logs it once.
    "interop_errors.py::test_what_is_no_dense_array": """torch:test_dlpack_export_non_strided numpy:test_invalid_dtype
        torch:test_dlpack_unsupported_dtype_error lebrice:to_jax_test.test_log_once_on_unsupported_value
        lebrice:to_torch_test.test_log_once_on_unsupported_value""",
    "interop_narrowing.py::test_every_spelling": """samuela:test_t2j_dtype samuela:test_j2t_dtype_constructors
        samuela:test_j2t_dtypes""",
    "interop_narrowing.py::test_it_warns": "lebrice:test_torch_to_jax_tensor",  # there it is rounded without a word
    "interop_narrowing.py::test_values_that_fit_are_narrowed_silently": "jax-torch:testTorchToJaxInt64",
    "interop_ownership.py::test_what_is_shared": "torch:test_dlpack_shared_storage",
    "interop_trees.py::test_what_is_no_array_in_a_tree_stays_what_it_is": "rdyro:test_tree_dlpack_transfer",
    "interop_values.py::test_a_journey_keeps_the_bits": "lebrice:test_jax_to_torch_tensor",
    "interop_values.py::test_anything_with_dlpack": "torch:test_automatically_select_in_creation",
    "interop_values.py::test_big_endian_numpy": "numpy:test_invalid_byte_swapping",  # an error there
    "interop_values.py::test_bits": """torch:test_dlpack_protocol_conversion torch:test_from_dlpack
        torch:test_from_dlpack_dtype torch:test_from_dlpack_noncontinguous jax-torch:testJaxToTorch
        jax-array:testJaxToNumpy numpy:test_ndim0 numpy:test_non_contiguous rdyro:test_dlpack_transfer
        samuela:test_j2t_array_conversion samuela:test_t2j_array samuela:test_t2j_array_conversion""",
    # Errors there, while here no gradient goes along, and the values are those that the bit means.
    "interop_values.py::test_conjugate_and_negative_bit": "torch:test_dlpack_export_is_conj",
    "interop_values.py::test_tensors_with_a_history": "torch:test_dlpack_export_requires_grad",
    "interop_values.py::test_jax_computes_with_a_shared_layout": """jax-torch:testTorchToJaxNondefaultLayout
        jax-array:testNumpyToJaxNondefaultLayout""",
    "interop_values.py::test_unaligned_numpy": "jax-array:testNumpyToJax",
    "port.py::test_values_and_gradients_are_torchs": """samuela:test_torch_nn_PReLU
        samuela:test_torch_nn_functional_prelu samuela:test_torch_nn_functional_silu""",
}

NOT_APPLICABLE = {
    "streams, devices and host memory of accelerators": """torch:test_dlpack_conversion_with_streams
        torch:test_dlpack_conversion_with_streams_narrow_precision torch:test_dlpack_conversion_with_diff_streams
        torch:test_dlpack_conversion_with_diff_streams_narrow_precision torch:test_dlpack_default_stream
        torch:test_dlpack_convert_default_stream torch:test_dlpack_tensor_invalid_stream
        torch:test_dlpack_cuda_per_thread_stream torch:test_dlpack_invalid_rocm_streams
        torch:test_dlpack_invalid_cuda_streams torch:test_dlpack_invalid_cpu_stream
        torch:test_dlpack_tensor_on_different_device rdyro:test_multi_gpu_call lebrice:test_jax_can_use_the_GPU
        lebrice:test_torch_can_use_the_GPU jax-array:testJaxRoundTrip jax-torch:testPinnedTorchToJaxZeroCopy
        jax-array:testJaxPinnedHostRoundTrip jax-array:testTpuHostBufferDmaMap""",
    "keywords of the library's own __dlpack__": """torch:test_unsupported_device_error
        numpy:test_dunder_dlpack_refcount numpy:test_dunder_dlpack_stream""",
    "TensorFlow": """jax-array:testTensorFlowToJax jax-array:testJaxToTensorFlow jax-array:testTensorFlowToJaxInt64
        jax-array:testTensorFlowToJaxNondefaultLayout jax-array:testJaxAndTfHaveTheSameBfloat16Type""",
    "the CUDA array interface": """jax-array:testCudaArrayInterfaceOnNonCudaFails
        jax-array:testCudaArrayInterfaceOnShardedArrayFails jax-array:testCudaArrayInterfaceWorks
        jax-array:testCudaArrayInterfaceBfloat16Fails jax-array:testJaxToCuPy jax-array:testCuPyToJax
        jax-array:testCaiToJax""",
    "the peer's own insides, examples and builds": """jax-array:test_ensure_alignment lebrice:test_member
        lebrice:test_torch_params_dont_change rdyro:test_ordered samuela:test_mk_rng""",
    "skipped by the peer, or expected to fail": """rdyro:test_pmap
        lebrice:test_jax_and_torch_modules_have_same_forward_pass""",
    "torch's operators written again for JAX, where here torch runs them": """samuela:test_arange samuela:test_empty
        samuela:test_nan_to_num samuela:test_ones samuela:test_ones_like samuela:test_tensor samuela:test_zeros
        samuela:test_zeros_like samuela:test_unbind samuela:test_get_set_item samuela:test_oneliners samuela:test_Tensor
        samuela:test_torch_nn_AdaptiveAvgPool2d samuela:test_torch_nn_Conv2d samuela:test_torch_nn_ConvTranspose2d
        samuela:test_torch_nn_MaxPool1d samuela:test_torch_nn_MaxPool2d
        samuela:test_torch_nn_functional_scaled_dot_product_attention""",
    "torchvision's weights": "samuela:test_torchvision_models_resnet18 samuela:test_torchvision_models_vit_b_16",
}

# How many tests a peer has.
TESTS = {"torch": 30, "jax-torch": 8, "jax-array": 20, "numpy": 18, "lebrice": 16, "rdyro": 26, "samuela": 55}


@pytest.mark.parametrize("peer", TESTS)
def test_the_docs_count_right(peer):
    tables = (ASKED, ELSEWHERE.values(), NOT_APPLICABLE.values())
    names = [[name for name in " ".join(table).split() if name.startswith(f"{peer}:")] for table in tables]
    assert len({*names[0], *names[1], *names[2]}) == sum(map(len, names)) == TESTS[peer]
    docs = (Path(__file__).parents[1] / "docs" / "interop.md").read_text()
    row = re.search(rf"^\| {peer} \|.*\| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", docs, re.M)
    assert list(map(int, row.groups())) == [TESTS[peer], *map(len, names)]


@pytest.mark.parametrize("ours", ELSEWHERE)
def test_what_covers_a_peers_test_is_there(ours):
    file, name = ours.split("::")
    assert re.search(rf"^ *def {name}\(", (Path(__file__).parent / f"test_{file}").read_text(), re.M)

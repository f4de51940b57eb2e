"""The adaptive log-softmax: values, gradients, dtypes and errors, against live torch's module."""

import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from adaptive_cases import CASES, HALVES, Case
from jaxact.adaptive import adaptive_log_softmax_log_prob, adaptive_log_softmax_with_loss

# torch says so of the weights of a cluster without hidden features
pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element tensors is a no-op:UserWarning")


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


WRONG = {
    "list": ({"x": [[1.0]]}, TypeError, "input must be a JAX or NumPy array or a number, got list"),
    "torch tensor": ({"x": torch.ones(7, 8)}, TypeError, "jaxact.interop.to_jax"),
    "torch weight": ({"head_weight": torch.ones(7, 8)}, TypeError, "head_weight must be .*jaxact.interop.to_jax"),
    "integer input": ({"x": np.ones((7, 8), int)}, TypeError, "input of dtype int32 is not accepted, only .*float32"),
    "complex input": ({"x": np.ones((7, 8), "c8")}, TypeError, "input of dtype complex64 is not accepted"),
    "input of another dtype": ({"x": np.ones((7, 8), "f2")}, TypeError, "of the dtype of input, float16, got float32"),
    "bias of another dtype": ({"head_bias": np.ones(7, "f2")}, TypeError, "head_bias must be of the dtype of input,"),
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

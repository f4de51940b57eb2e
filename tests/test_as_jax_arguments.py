"""as_jax: arguments and results of every kind, dtype and tree."""

import collections
import dataclasses
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from as_jax_cases import close, in_jax, in_torch, x
from jaxact.interop import as_jax


@pytest.mark.parametrize("fn", [in_torch, jax.tree_util.Partial(in_torch)], ids=["function", "partial"])
def test_trees_come_back(fn):
    result = as_jax(fn)(x, y=x)
    assert jax.tree.structure(result) == jax.tree.structure(in_jax(x, x))
    jax.tree.map(close, result, in_jax(x, x))


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

    @pytest.mark.parametrize(
        ("fn", "arguments"),
        [
            (lambda x, y, w: F.cross_entropy(x, y.long(), weight=w), (x, jnp.array([0.0, 2.0]), jnp.ones(3))),
            (F.binary_cross_entropy, (jax.nn.sigmoid(x), jnp.ones((2, 3)), jnp.full((2, 3), 2.0))),
            (lambda x, w: F.nll_loss(x, torch.tensor([0, 2]), weight=w), (x, jnp.ones(3))),
            (lambda x, mean, var: F.batch_norm(x, mean, var).square().sum(), (x, jnp.ones(3), jnp.ones(3))),
            (lambda x, w: (x * w.bool()).sum(), (x, x)),
        ],
        ids=["cross entropy", "bce", "nll", "batch norm", "cast"],
    )
    def test_torch_is_asked_for_no_derivative_but_those_asked_for(self, fn, arguments):
        tensors = [torch.tensor(np.asarray(argument)) for argument in arguments]
        tensors[0].requires_grad_()
        fn(*tensors).backward()
        for gradient in (jax.grad, lambda f: jax.jit(jax.grad(f)), lambda f: jax.grad(jax.jit(f))):
            close(gradient(as_jax(fn))(*arguments), tensors[0].grad)
        hessian = torch.func.jacrev(torch.func.grad(fn))(tensors[0].detach(), *tensors[1:])
        close(jax.jacrev(jax.grad(as_jax(fn)))(*arguments), hessian, atol=1e-5)

    @pytest.mark.parametrize("dtype", ["int8", "int16", "int32"])
    @pytest.mark.parametrize(
        ("fn", "arguments"),
        [
            (lambda y, x: F.cross_entropy(x, y), [x]),
            (lambda y, x: F.nll_loss(x, y), [x]),
            (lambda y, x: F.multi_margin_loss(x, y), [x]),
            (lambda y, x: x.gather(1, y[:, None]).sum(), [x]),
            (lambda y, x: torch.take(x, y).sum(), [x]),
            (lambda y, x: x[y].sum(), [x]),
            (lambda y, x: F.embedding(y, x).sum(), [x.T]),
            (lambda y, x: (F.one_hot(y, 3) * x).sum(), [x]),
            (lambda y, x: x.scatter_add(1, y[:, None].expand(2, 3), x * 2).sum(), [x]),
        ],
        ids=["cross entropy", "nll", "margin", "gather", "take", "index", "embedding", "one hot", "scatter"],
    )
    def test_labels_and_indices_of_fewer_bits_than_torch_wants(self, fn, arguments, dtype):
        y = jnp.array([1, 0], dtype)
        tensors = [torch.tensor([1, 0]), *(torch.tensor(np.asarray(argument)) for argument in arguments)]
        expected = torch.func.grad_and_value(fn, 1)(*tensors)[::-1]
        for _ in range(2):
            actual = jax.jit(jax.value_and_grad(as_jax(fn), 1))(y, *arguments)
            jax.tree.map(close, actual, expected)

    def test_integers_that_torch_takes_reach_it_as_they_are(self):
        assert as_jax(lambda i: i.view(torch.float32) * (i.dtype == torch.int32))(jnp.array(1 << 30)) == 2.0

    def test_what_fails_on_wide_integers_too_says_both(self):
        with pytest.raises(jax.errors.JaxRuntimeError, match=r"Target 7 is out of bounds"):
            jax.block_until_ready(as_jax(F.cross_entropy)(x, jnp.array([7, 0])))
        with pytest.raises(RuntimeError, match=r"got torch.int64") as caught:
            as_jax(_refuse)(jnp.array(1))
        assert "got torch.int32" in str(caught.value.__context__)

    def test_a_function_that_writes_before_it_fails_is_tried_on_what_there_was(self):
        fn = as_jax(lambda y, x: (x.mul_(2), F.nll_loss(x, y))[1])
        assert fn(jnp.array([0, 0]), jnp.ones((2, 3))) == -2

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


def _refuse(i):
    raise RuntimeError(f"got {i.dtype}")


NAMED = {
    "max": (lambda x: torch.max(x, 1), ("values", "indices")),
    "sort": (torch.sort, ("values", "indices")),
    "topk": (lambda x: torch.topk(x, 2), ("values", "indices")),
    "svd": (torch.linalg.svd, ("U", "S", "Vh")),
    "eigh": (lambda x: torch.linalg.eigh(x @ x.T + torch.diag(torch.arange(2.0))), ("eigenvalues", "eigenvectors")),
    "slogdet": (lambda x: torch.linalg.slogdet(x[:, :2] + torch.eye(2)), ("sign", "logabsdet")),
}


@pytest.mark.parametrize(("fn", "names"), NAMED.values(), ids=NAMED)
def test_results_that_torch_names(fn, names):
    result, expected = as_jax(lambda x: {"a": fn(x)})(x)["a"], fn(torch.tensor(np.asarray(x)))
    assert isinstance(result, tuple)
    assert result._fields == names
    for actual, named, tensor in zip(result, names, expected, strict=True):
        assert getattr(result, named) is actual
        close(actual, tensor)
    again = pickle.loads(pickle.dumps(result))
    assert type(again) is type(result)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, again, result))
    gradient = jax.grad(lambda x: as_jax(fn)(x)[names.index(names[-1]) if names[0] == "sign" else 0].sum())
    assert jnp.isfinite(gradient(x)).all()


@dataclasses.dataclass
class Output:
    loss: object
    state: object = None


@dataclasses.dataclass
class ModelOutput(collections.OrderedDict):
    """As Hugging Face's: a dataclass and a dict of what is not None."""

    loss: object = None
    state: object = None

    def __post_init__(self):
        self.update({name: value for name, value in vars(self).items() if value is not None})


@pytest.mark.parametrize("cls", [Output, ModelOutput], ids=["dataclass", "ModelOutput"])
def test_a_class_that_jax_does_not_know_is_an_error_that_says_how_to_register_it(cls):
    class Result(cls):
        """A class of this test, since what is registered stays so."""

    fn = as_jax(lambda x: Result(x * 2))
    with pytest.raises(TypeError, match="got a Result; JAX takes it for a tree after jax") as caught:
        fn(x)
    exec(str(caught.value).partition(" after ")[2], {"jax": jax, "Result": Result})
    result = jax.jit(fn)(x)
    assert isinstance(result, Result)
    close(result.loss, 2 * x)
    assert result.state is None

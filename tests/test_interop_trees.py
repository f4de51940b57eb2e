"""Conversions of trees: the structure stays, and what is shared in the tree stays shared."""

import collections
import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxact.interop import to_jax, to_numpy, to_torch
from layouts import FRAMEWORKS, make, read

TO = {"jax": to_jax, "torch": to_torch, "numpy": to_numpy}
TYPE = {"jax": jax.Array, "torch": torch.Tensor, "numpy": np.ndarray}


class Point(NamedTuple):
    x: object
    y: object


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
    weight: object
    step: int = dataclasses.field(metadata={"static": True})


TREES = {
    "dict": lambda x: {"b": x, "a": {"c": x}},
    "OrderedDict": lambda x: collections.OrderedDict(b=x, a=x),
    "defaultdict": lambda x: collections.defaultdict(list, b=x),
    "list": lambda x: [x, [x, x]],
    "tuple": lambda x: (x, (), (x,)),
    "namedtuple": lambda x: Point(x, y=[x]),
    "None": lambda x: [None, x, {"a": None}],
    "dataclass": lambda x: State(weight={"w": x}, step=3),
    "only None": lambda x: None,
    "empty": lambda x: {},
}


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
@pytest.mark.parametrize("source", FRAMEWORKS)
@pytest.mark.parametrize("target", FRAMEWORKS)
def test_structure(target, source, tree):
    x, expected = make(source, "float32")
    y = TO[target](tree(x))
    assert jax.tree.structure(y) == jax.tree.structure(tree(x))
    assert type(y) is type(tree(x))
    for leaf in jax.tree.leaves(y):
        assert isinstance(leaf, TYPE[target])
        assert read(leaf) == expected


def test_leaves_of_every_kind_together():
    y = to_numpy({"torch": torch.ones(2), "jax": jnp.ones(2), "numpy": np.ones(2), "number": 1.0})
    assert {key: value.tolist() for key, value in y.items()} == {
        "torch": [1, 1],
        "jax": [1, 1],
        "numpy": [1, 1],
        "number": 1,
    }


def test_a_list_of_numbers_is_a_tree_of_numbers():
    assert [y.shape for y in to_jax([1, 2.5, True])] == [(), (), ()]


class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.Linear(4, 4, bias=False)
        self.decoder = torch.nn.Linear(4, 4)
        self.decoder.weight = self.encoder.weight
        self.norm = torch.nn.BatchNorm1d(4)


@pytest.mark.parametrize("target", FRAMEWORKS)
@pytest.mark.parametrize("copy", [None, True])
@pytest.mark.usefixtures("x64")
def test_state_dict(target, copy):
    state = Tied().state_dict()
    y = TO[target](state, copy=copy)
    assert list(y) == list(state)
    assert type(y) is type(state)
    assert all(read(y[key]) == read(value) for key, value in state.items())
    assert y["encoder.weight"] is y["decoder.weight"]


def test_a_state_dict_goes_to_jax_and_into_another_module():
    module, other = Tied(), Tied()
    other.load_state_dict(to_torch(to_jax(module.state_dict())))
    x = torch.ones(2, 4)
    assert torch.equal(module.decoder(module.encoder(x)), other.decoder(other.encoder(x)))


@pytest.mark.parametrize("source", FRAMEWORKS)
@pytest.mark.parametrize("target", FRAMEWORKS)
@pytest.mark.parametrize("options", [{}, {"copy": True}, {"dtype": "float16"}], ids=str)
def test_a_shared_leaf_is_shared_once(target, source, options):
    x, _ = make(source, "int8", "strided")
    other, _ = make(source, "int8", "strided", seed=1)
    a, b, c = TO[target]([x, x, other], **options)
    assert a is b
    assert a is not c


@pytest.mark.parametrize("other", [lambda x: x[:2], lambda x: x.T, lambda x: x.conj(), lambda x: x.view(torch.float32)])
def test_other_views_of_the_same_memory_are_other_leaves(other):
    x = torch.arange(9).reshape(3, 3) * (1 + 1j)
    y = to_numpy([x, other(x)])
    assert [read(leaf) for leaf in y] == [read(x), read(other(x))]


def test_numbers_are_never_shared():
    a, b = to_torch([1, 1])
    a.add_(1)
    assert b == 1


def test_a_tensor_with_a_graph_is_not_mistaken_for_its_data():
    x = torch.ones(2, requires_grad=True)
    a, b = to_torch([x.detach(), x])
    assert b is x
    assert not a.requires_grad


@pytest.mark.parametrize("to", TO.values())
def test_the_error_says_where(to):
    with pytest.raises(TypeError, match="got a str") as caught:
        to({"a": [np.zeros(1), "text"]})
    assert caught.value.__notes__ == ["at ['a'][1] of the tree"]


@pytest.mark.parametrize("to", TO.values())
def test_an_unknown_container(to):
    class Output(collections.OrderedDict):
        pass

    with pytest.raises(TypeError, match=r"Output, which is no dense array.*register its class with jax.tree_util"):
        to(Output(a=torch.ones(2)))

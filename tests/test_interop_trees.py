"""Conversions of trees: the structure stays, and what is shared in the tree stays shared."""

import collections
import copy as cp
import dataclasses
import enum
import re
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


def test_arrays_of_every_kind_together():
    y = to_numpy({"torch": torch.ones(2), "jax": jnp.ones(2), "numpy": np.ones(2), "scalar": np.float32(1)})
    assert {key: value.tolist() for key, value in y.items()} == {
        "torch": [1, 1],
        "jax": [1, 1],
        "numpy": [1, 1],
        "scalar": 1,
    }


SETTINGS = [3, 2**70, -0.0, 1e300, 1j, True, None, "adam", b"raw", enum.IntEnum("Mode", "TRAIN").TRAIN]


@pytest.mark.parametrize("options", [{}, {"copy": True}, {"copy": False}, {"dtype": "float32"}], ids=str)
@pytest.mark.parametrize("target", FRAMEWORKS)
@pytest.mark.parametrize("setting", SETTINGS, ids=repr)
def test_what_is_no_array_in_a_tree_stays_what_it_is(setting, target, options):
    x, expected = make(target, "float32")
    y = TO[target]({"x": x, "settings": [setting, (setting,), Point(setting, {0: setting})]}, **options)
    assert read(y["x"]) == expected
    one, (two,), (three, four) = y["settings"]
    assert one is two is three is four[0] is setting


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


def test_a_tensor_with_a_graph_is_not_mistaken_for_its_data():
    x = torch.ones(2, requires_grad=True)
    a, b = to_torch([x.detach(), x])
    assert b is x
    assert not a.requires_grad


@pytest.mark.parametrize("to", TO.values())
def test_the_error_says_where(to):
    with pytest.raises(TypeError, match="got a set") as caught:
        to({"a": [np.zeros(1), {1}]})
    assert caught.value.__notes__ == ["at ['a'][1] of the tree"]


@pytest.mark.parametrize("target", FRAMEWORKS)
def test_keys_that_cannot_be_sorted(target):
    x, expected = make(target, "float32")
    with pytest.raises(ValueError, match="keys") as caught:
        TO[target]([{0: x, "a": x}])
    assert "make it a collections.OrderedDict" in caught.value.__notes__[0]
    (y,) = TO[target]([collections.OrderedDict({0: x, "a": x})])
    assert [(key, read(value)) for key, value in y.items()] == [(0, expected), ("a", expected)]


MATRIX = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
NAMED = {
    "max": lambda: torch.max(MATRIX, 0),
    "sort": lambda: torch.sort(MATRIX),
    "topk": lambda: torch.topk(MATRIX, 1),
    "mode": lambda: torch.mode(MATRIX),
    "frexp": lambda: torch.frexp(MATRIX),
    "svd": lambda: torch.linalg.svd(MATRIX),
    "eigh": lambda: torch.linalg.eigh(MATRIX),
    "slogdet": lambda: torch.linalg.slogdet(MATRIX),
    "lu": lambda: torch.linalg.lu(MATRIX),
}


@pytest.mark.parametrize("result", NAMED.values(), ids=NAMED)
@pytest.mark.parametrize("target", FRAMEWORKS)
def test_results_that_torch_names_become_named_tuples(target, result):
    result = result()
    y = TO[target](result)
    for name, field in zip(type(result).__match_args__, result, strict=True):
        assert isinstance(getattr(y, name), TYPE[target])
        np.testing.assert_array_equal(np.asarray(getattr(y, name)), field.numpy())
    assert len(jax.tree.leaves(y)) == len(result)
    assert jax.tree.structure(TO[target]([result])) == jax.tree.structure([y])


def test_the_error_says_where_in_a_named_result():
    with pytest.raises(OverflowError) as caught:
        to_jax([torch.max(torch.tensor([[2**40]]), 0)])
    assert caught.value.__notes__ == ["at [0].values of the tree"]


def a_dataclass(x):
    @dataclasses.dataclass
    class Output:
        loss: object
        name: str = "plain"

    return Output(x)


def a_model_output(x):
    """Like those of Hugging Face's transformers: an ordered dict of the fields that are not None."""

    @dataclasses.dataclass
    class Output(collections.OrderedDict):
        loss: object = None
        logits: object = None

        def __post_init__(self):
            for field in dataclasses.fields(self):
                if getattr(self, field.name) is not None:
                    self[field.name] = getattr(self, field.name)

    return Output(logits=x)


UNKNOWN = {
    "dataclass": (a_dataclass, vars),
    "ModelOutput": (a_model_output, dict),
    "OrderedDict": (lambda x: type("Output", (collections.OrderedDict,), {})(b=x, a=x), dict),
    "Counter": (lambda x: type("Output", (collections.Counter,), {})({"b": x}), dict),
    "list": (lambda x: type("Output", (list,), {})([x, x]), list),
    "tuple": (lambda x: type("Output", (tuple,), {})([x, x]), tuple),
}


@pytest.mark.parametrize(("wrap", "plain"), UNKNOWN.values(), ids=UNKNOWN)
@pytest.mark.parametrize("target", FRAMEWORKS)
def test_an_unknown_container_is_refused_with_a_way_out_that_works(target, wrap, plain):
    x, expected = make("torch", "float32")
    output = wrap(x)
    with pytest.raises(TypeError, match="Output, which is no dense array, no number and no container") as caught:
        TO[target]([output])
    hint = re.search(f"; pass {plain.__name__}\\(...\\) of it, or register it, once: (.*)", str(caught.value))
    y = TO[target](plain(output))
    assert jax.tree.structure(y) == jax.tree.structure(plain(output))
    assert read(jax.tree.leaves(y)[0]) == expected
    exec(hint[1], {"jax": jax, "Output": type(output)})
    (y,) = TO[target]([output])
    assert type(y) is type(output)
    leaves = jax.tree.leaves(y)
    assert isinstance(leaves[0], TYPE[target])
    assert read(leaves[0]) == expected


OPTIMIZERS = {
    "Adam": lambda model: torch.optim.Adam(model.parameters()),
    "Adam, amsgrad": lambda model: torch.optim.Adam(model.parameters(), lr=torch.tensor(0.01), amsgrad=True),
    "AdamW": lambda model: torch.optim.AdamW(model.named_parameters(), betas=(0.8, 0.9)),
    "SGD": lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True),
    "groups": lambda model: torch.optim.NAdam(
        [{"params": [p], "lr": 0.1 * (i + 1)} for i, p in enumerate(model.parameters())]
    ),
    "Rprop": lambda model: torch.optim.Rprop(model.parameters()),
    "ASGD": lambda model: torch.optim.ASGD(model.parameters()),
    "LBFGS": lambda model: torch.optim.LBFGS(model.parameters(), max_iter=3),
}


def train(model, optimizer, steps):
    x = torch.linspace(-1, 1, 12).reshape(4, 3)

    def loss():
        optimizer.zero_grad()
        value = (model(x) - 1).square().mean()
        value.backward()
        return value.detach()

    return [float(optimizer.step(loss)) for _ in range(steps)]


@pytest.mark.parametrize("copy", [None, True])
@pytest.mark.parametrize("through", ["jax", "numpy"])
@pytest.mark.parametrize("make_optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_an_optimizer_goes_on_after_a_round_trip_as_if_there_had_been_none(make_optimizer, through, copy):
    torch.manual_seed(0)
    one = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    other = cp.deepcopy(one)
    losses = train(one, make_optimizer(one), 8)

    optimizer = make_optimizer(other)
    train(other, optimizer, 4)
    saved = TO[through]({"model": other.state_dict(), "optimizer": optimizer.state_dict()}, copy=copy)
    loaded = to_torch(saved, copy=copy)
    other.load_state_dict(loaded["model"])
    optimizer = make_optimizer(other)
    optimizer.load_state_dict(loaded["optimizer"])
    assert train(other, optimizer, 4) == losses[4:]
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))

"""A call of every function of the catalog, with arrays whose axes have names: for tests that walk them all.

A function with parameters gets other numbers at each call of :meth:`Example.call`: what it keeps of a number must not
depend on the context in which that came first.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import jaxact
from jaxact.catalog import CATALOG
from oracle import spread

KEY = jax.random.key(0)
SIZES = {"b": 4, "n": 3, "l": 5, "s": 6}  # b, the batch, is what is sharded
NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Example:
    """A function with arrays to call it on.

    Attributes:
        row: The name of the catalog's row.
        function: The function as one of arrays alone, all positional, and of parameters.
        arrays: What the arrays' axes are, as ``jax.export`` spells symbolic shapes, and their dtype unless float32.
        outputs: The same of the results.
        parameters: Further arguments.
    """

    row: str
    function: Callable[..., Any]
    arrays: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def call(self):
        """Return a function of the arrays to the tuple of results, with numbers for parameters that never were."""
        parameters = {
            name: value * (1 + next(NUMBERS) * 2**-16) if type(value) is float else value
            for name, value in self.parameters.items()
        }

        def call(*arrays):
            return tuple(jax.tree.leaves(self.function(*arrays, **parameters)))

        return call

    def values(self):
        """Return the arrays."""
        rng = np.random.default_rng(0)
        return tuple(_values(rng, *axes_and_dtype(array)) for array in self.arrays)


def axes_and_dtype(array):
    """Return the axes and the dtype of an array of an example."""
    axes, _, dtype = array.partition(":")
    return axes, np.dtype(dtype or np.float32)


def sizes(axes):
    """Return a shape."""
    return tuple(eval(axis, {}, SIZES) for axis in axes.split(",")) if axes else ()


def _values(rng, axes, dtype):
    if dtype.kind == "b":
        return rng.random(sizes(axes)) < 0.7
    if dtype.kind == "i":
        return rng.integers(0, 5, sizes(axes), dtype)
    return spread(rng, sizes(axes), high=2)


def spec(array):
    """Return how an array is sharded: along the batch."""
    return PartitionSpec(*("batch" if axis.strip() == "b" else None for axis in array.partition(":")[0].split(",")))


def heads(query, key, weight, bias, out_weight, *more, **parameters):
    """Return multi-head attention of 2 heads."""
    bias_k, bias_v, mask, padding = more or (None,) * 4
    if not more:  # the bias of all keys cancels in the softmax: its gradient would be rounding and nothing else
        bias = bias * np.repeat(np.float32([1, 0, 1]), 4)
    return jaxact.multi_head_attention_forward(
        *(query, key, key, 4, 2, weight, bias, bias_k, bias_v, bool(more), 0.0, out_weight, None),
        attn_mask=mask,
        key_padding_mask=padding,
        **parameters,
    )


def adaptive_loss(x, target, head_weight, project, classes):
    return jaxact.adaptive_log_softmax_with_loss(x, target, head_weight, [(project, classes)], [2])


def adaptive_log_prob(x, head_weight, project, classes):
    return jaxact.adaptive_log_softmax_log_prob(x, head_weight, [(project, classes)], [2])


def masked_attention(query, key, value, mask, **parameters):
    return jaxact.scaled_dot_product_attention(query, key, value, mask, **parameters)


ELEMENTWISE = "b, 2, 1, 2*n"
QKV = ("b, 2, l, 4", "b, 2, s, 4", "b, 2, s, 3")
GROUPED = ("b, 4, l, 4", "b, 2, s, 4", "b, 2, s, 3")
SEQUENCES = ("l, b, 4", "s, b, 4", "12, 4", "12", "4, 4")
TAIL = ("3, 4", "2, 4", "3, 2")

EXAMPLES = {
    row.name: Example(
        row.name,
        row.function,
        (ELEMENTWISE,),
        ("b, 2, 1, n" if row.name == "glu" else ELEMENTWISE,),
        row.parameters,
    )
    for row in CATALOG
    if row.of_one_array
} | {
    "rrelu": Example("rrelu", jaxact.rrelu, (ELEMENTWISE,), (ELEMENTWISE,), {"lower": 0.1, "upper": 0.3}),
    "rrelu-training": Example(
        "rrelu", jaxact.rrelu, (ELEMENTWISE,), (ELEMENTWISE,), {"lower": 0.1, "training": True, "key": KEY}
    ),
    "gumbel_softmax": Example(
        "gumbel_softmax", jaxact.gumbel_softmax, (ELEMENTWISE,), (ELEMENTWISE,), {"tau": 1.7, "key": KEY}
    ),
    "gumbel_softmax-hard": Example(
        "gumbel_softmax", jaxact.gumbel_softmax, (ELEMENTWISE,), (ELEMENTWISE,), {"hard": True, "key": KEY}
    ),
    **{
        f"attention-{name}": Example(
            "scaled_dot_product_attention", function, arrays, (f"b, {heads}, l, 3",), parameters
        )
        for name, function, heads, arrays, parameters in (
            ("plain", jaxact.scaled_dot_product_attention, 2, QKV, {}),
            ("scaled", jaxact.scaled_dot_product_attention, 2, QKV, {"scale": 0.3}),
            ("causal", jaxact.scaled_dot_product_attention, 2, QKV, {"is_causal": True}),
            ("masked", masked_attention, 2, (*QKV, "l, s:bool"), {}),
            ("added", masked_attention, 2, (*QKV, "b, 1, l, s"), {}),
            ("grouped", jaxact.scaled_dot_product_attention, 4, GROUPED, {"enable_gqa": True}),
            ("dropout", jaxact.scaled_dot_product_attention, 2, QKV, {"dropout_p": 0.4, "dropout_key": KEY}),
        )
    },
    "heads": Example("multi_head_attention_forward", heads, SEQUENCES, ("l, b, 4", "b, l, s")),
    "heads-unweighted": Example(
        "multi_head_attention_forward", heads, SEQUENCES, ("l, b, 4",), {"need_weights": False}
    ),
    "heads-masked": Example(
        "multi_head_attention_forward",
        heads,
        (*SEQUENCES, "1, 1, 4", "1, 1, 4", "l, s:bool", "b, s:bool"),
        ("l, b, 4", "b, l, s + 2"),
    ),
    "adaptive-loss": Example("adaptive_log_softmax_with_loss", adaptive_loss, ("b, 4", "b:int32", *TAIL), ("b", "")),
    "adaptive-log_prob": Example("adaptive_log_softmax_log_prob", adaptive_log_prob, ("b, 4", *TAIL), ("b, 5",)),
}

every_example = pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)

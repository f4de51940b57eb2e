"""Print a digest of every program that XLA is given: for a change that is to move code and change nothing.

    python benchmarks/programs.py > before.txt
    ...
    python benchmarks/programs.py | diff before.txt -

A line is a function, with how it is called, a dtype, an order (value, gradient, second derivative) and a digest of the
program. Names of functions inside are numbered, and places in the source left out: moving or renaming code changes no
line. Every float argument is differentiated, parameters too.
"""

import functools
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from accuracy_measure import nameless, precision

import jaxact
from jaxact.catalog import CATALOG

DTYPES = ("float32", "bfloat16", "float64")
# A function of arrays alone, and their shapes, or an array of integers or booleans as it is.
Program = tuple[Callable[..., Any], tuple[Any, ...]]

# An image of two channels, which every function of one array takes.
IMAGE = (3, 2, 4, 6)
QKV = (2, 4, 5, 8), (2, 4, 7, 8), (2, 4, 7, 6)
GROUPED = (2, 4, 5, 8), (2, 2, 7, 8), (2, 2, 7, 6)
SEQUENCES = (5, 2, 4), (7, 2, 4), (12, 4), (12,), (4, 4)
ADAPTIVE = (3, 4), (6, 4), (6,), (3, 4), (2, 3)


def programs() -> dict[str, Program]:
    """Return what is compiled, by the line's first word."""
    key = jax.random.key(0)
    others: dict[str, Program] = {
        "prelu": (jaxact.prelu, (IMAGE, (2,))),
        "leaky_relu-slope": (jaxact.leaky_relu, (IMAGE, ())),
        "elu-alpha": (jaxact.elu, (IMAGE, ())),
        "celu-alpha": (jaxact.celu, (IMAGE, ())),
        "softplus-beta": (jaxact.softplus, (IMAGE, (), ())),
        "threshold-numbers": (jaxact.threshold, (IMAGE, (), ())),
        "hardtanh-ends": (jaxact.hardtanh, (IMAGE, (), ())),
        "hardshrink-lambd": (jaxact.hardshrink, (IMAGE, ())),
        "softshrink-lambd": (jaxact.softshrink, (IMAGE, ())),
        "gelu-tanh": (functools.partial(jaxact.gelu, approximate="tanh"), (IMAGE,)),
        "rrelu-training": (lambda x: jaxact.rrelu(x, training=True, key=key), (IMAGE,)),
        "gumbel_softmax": (lambda x, tau: jaxact.gumbel_softmax(x, tau, key=key), (IMAGE, ())),
        "gumbel_softmax-hard": (lambda x: jaxact.gumbel_softmax(x, hard=True, key=key), (IMAGE,)),
        "softmax-rows": (lambda x: jaxact.softmax(x, 0), (IMAGE,)),
        "attention": (jaxact.scaled_dot_product_attention, QKV),
        "attention-causal": (lambda q, k, v: jaxact.scaled_dot_product_attention(q, k, v, is_causal=True), QKV),
        "attention-masked": (jaxact.scaled_dot_product_attention, (*QKV, np.eye(5, 7) == 0)),
        "attention-added": (jaxact.scaled_dot_product_attention, (*QKV, (5, 7))),
        "attention-scaled": (lambda q, k, v, s: jaxact.scaled_dot_product_attention(q, k, v, scale=s), (*QKV, ())),
        "attention-grouped": (
            lambda q, k, v: jaxact.scaled_dot_product_attention(q, k, v, enable_gqa=True),
            GROUPED,
        ),
        "attention-dropout": (
            lambda q, k, v: jaxact.scaled_dot_product_attention(q, k, v, dropout_p=0.1, dropout_key=key),
            QKV,
        ),
        "heads": (_heads, SEQUENCES),
        "heads-unweighted": (functools.partial(_heads, need_weights=False), SEQUENCES),
        "heads-masked": (_masked_heads, SEQUENCES),
        "heads-separate": (_separate_heads, (*SEQUENCES[:2], (7, 2, 3), (4, 4), (4, 4), (4, 3), (4, 4))),
        "adaptive-loss": (_adaptive_loss, ADAPTIVE),
        "adaptive-log_prob": (_adaptive_log_prob, ADAPTIVE),
    }
    return {
        row.name: (functools.partial(row.function, **row.parameters), (IMAGE,))
        for row in CATALOG
        if row.of_one_array and row.name not in others
    } | others


def _heads(query: Any, key: Any, weight: Any, bias: Any, out_weight: Any, **options: Any) -> Any:
    extra = options.pop("bias_k", None), options.pop("bias_v", None), options.pop("add_zero_attn", False)
    return jaxact.multi_head_attention_forward(
        *(query, key, key, 4, 2, weight, bias, *extra, 0.0, out_weight, bias[:4]), **options
    )


def _masked_heads(query: Any, key: Any, weight: Any, *others: Any) -> Any:
    masks = {"attn_mask": np.eye(5, 7) == 1, "key_padding_mask": np.eye(2, 7) == 1}
    return _heads(query, key, weight, *others, bias_k=weight[0], bias_v=weight[1], add_zero_attn=True, **masks)


def _separate_heads(query: Any, key: Any, value: Any, q: Any, k: Any, v: Any, out_weight: Any) -> Any:
    return jaxact.multi_head_attention_forward(
        *(query, key, value, 4, 2, None, None, None, None, False, 0.0, out_weight, None),
        use_separate_proj_weight=True,
        q_proj_weight=q,
        k_proj_weight=k,
        v_proj_weight=v,
    )


def _adaptive_loss(x: Any, head_weight: Any, head_bias: Any, project: Any, classes: Any) -> Any:
    target = np.array([0, 4, 6], np.int32)
    return jaxact.adaptive_log_softmax_with_loss(x, target, head_weight, [(project, classes)], [5], head_bias)


def _adaptive_log_prob(x: Any, head_weight: Any, head_bias: Any, project: Any, classes: Any) -> Any:
    return jaxact.adaptive_log_softmax_log_prob(x, head_weight, [(project, classes)], [5], head_bias)


def orders(function: Callable[..., Any], differentiable: tuple[int, ...]) -> dict[str, Callable[..., Any]]:
    """Return the function, the gradient of the sum of its results' squares, and the gradient of that one's."""

    def gradient(of: Callable[..., Any]) -> Callable[..., Any]:
        def loss(*arrays: jax.Array) -> jax.Array:
            return sum(jnp.sum(y * y) for y in jax.tree.leaves(of(*arrays)))  # type: ignore[return-value]  # no call is without results

        return jax.grad(loss, differentiable)

    first = gradient(function)
    return {"value": function, "gradient": first, "second": gradient(first)}


def digests(name: str, dtype: str) -> Iterator[str]:
    """Return the lines of a program."""
    function, shapes = programs()[name]
    arrays = [jax.ShapeDtypeStruct(x, dtype) if isinstance(x, tuple) else jnp.asarray(x) for x in shapes]
    differentiable = tuple(i for i, x in enumerate(shapes) if isinstance(x, tuple))
    for order, ordered in orders(function, differentiable).items():
        text = nameless(jax.jit(ordered).lower(*arrays).as_text())
        yield f"{name} {dtype} {order} {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def main() -> None:
    """Print all lines."""
    for dtype in DTYPES:
        with precision(dtype):
            for name in programs():
                for line in digests(name, dtype):
                    print(line, flush=True)


if __name__ == "__main__":
    main()

"""What the arguments of adaptive softmax must be: weights by name, cutoffs that fit their shapes, classes.

Axes: N rows of F features, K clusters, cluster k with H_k hidden features and O_k classes.
"""

import itertools
import operator
from typing import Any

import jax
import numpy as np

from jaxact._checks import arrays_of_one_dtype

TARGETS = frozenset(map(np.dtype, ("int32", "int64")))


def tail(k: int, i: int) -> str:
    """Return the name of a weight of cluster k."""
    return f"tail_weights[{k}][{i}]"


def weights(name: str, x: Any, head_weight: Any, tail_weights: Any, head_bias: Any) -> dict[str, jax.Array]:
    """Return the input and the weights by name, or raise unless all are arrays of one dtype."""
    arrays = {"input": x, "head_weight": head_weight}
    if not isinstance(tail_weights, (list, tuple)):
        kind = type(tail_weights).__name__
        raise TypeError(f"{name}: tail_weights must be a list of pairs of arrays, got {kind}")
    for k, pair in enumerate(tail_weights):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            kind = type(pair).__name__ if not isinstance(pair, (list, tuple)) else f"{len(pair)} entries"
            raise TypeError(f"{name}: tail_weights[{k}] must be a pair of arrays, got {kind}")
        arrays |= {tail(k, i): weight for i, weight in enumerate(pair)}
    if head_bias is not None:
        arrays["head_bias"] = head_bias
    return arrays_of_one_dtype(name, **arrays)


def bounds(name: str, arrays: dict[str, jax.Array], cutoffs: Any) -> tuple[int, ...]:
    """Return the cutoffs with the number of classes last, or raise unless the shapes of the arrays fit them."""
    try:
        given = tuple(map(operator.index, cutoffs))
    except TypeError:
        raise TypeError(
            f"{name}: cutoffs must be a sequence of ints, known when the function is traced, got {cutoffs!r}"
        ) from None
    shapes = {argument: np.shape(x) for argument, x in arrays.items()}
    for argument, shape in shapes.items():
        if argument not in ("input", "head_bias") and len(shape) != 2:
            raise ValueError(f"{name}: {argument} must have 2 axes, got shape {shape}")

    clusters = sum(argument.startswith("tail_weights") for argument in shapes) // 2
    if not clusters or len(given) not in (clusters, clusters + 1):
        raise ValueError(
            f"{name}: there must be a cutoff for each pair of tail_weights, at least one, and the number of classes "
            f"may follow, got {clusters} pairs and cutoffs={given}"
        )
    bounds = given
    if len(given) == clusters:
        bounds = (*given, given[-1] + shapes[tail(clusters - 1, 1)][0])
    if any(start >= stop for start, stop in itertools.pairwise((0, *bounds))):
        raise ValueError(
            f"{name}: cutoffs must increase from at least 1 to less than the number of classes, "
            f"{bounds[-1]}, got {given}"
        )

    features = shapes["input"][-1:]
    entries = bounds[0] + clusters
    expected = {"head_weight": (entries, *features), "head_bias": (entries,)}
    for k, (start, stop) in enumerate(itertools.pairwise(bounds)):
        hidden = shapes[tail(k, 0)][:1]
        expected |= {tail(k, 0): (*hidden, *features), tail(k, 1): (stop - start, *hidden)}
    for argument, shape in expected.items():
        if shapes.get(argument, shape) != shape:
            raise ValueError(
                f"{name}: {argument} must be of shape {shape} for input {shapes['input']} and cutoffs={given}, "
                f"got {shapes[argument]}"
            )
    return bounds


def check_target(name: str, target: Any, classes: int) -> None:
    """Raise unless the target is of a dtype that torch takes and, if its values are known, in range."""
    known = not isinstance(target, jax.core.Tracer)
    values = np.asarray(target) if known else target
    if values.dtype not in TARGETS:
        raise TypeError(
            f"{name}: target of dtype {values.dtype} is not accepted, only int32, int64; convert it with .astype"
        )
    if known and (wrong := values[(values < 0) | (values >= classes)]).size:
        raise ValueError(f"{name}: target must be in [0, {classes - 1}], a class, got {wrong[0]}")

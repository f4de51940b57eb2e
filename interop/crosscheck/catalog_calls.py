"""How each function of the catalog is called on both sides, and the inputs that ``jaxact check`` puts in."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from jaxact.catalog import CATALOG, Activation
from jaxact.interop._to_torch import to_torch
from jaxact.interop._torch_private import TorchDispatchMode
from jaxact.interop.counterparts import counterpart

from .usage import UsageError

DTYPES = ("float32", "bfloat16", "float16")
KINDS = ("random", "kink", "extreme")
SIZE = 2048

# What the catalog's row has no room for: further parameters that run other code.
VARIANTS: dict[str, tuple[Mapping[str, Any], ...]] = {"gelu": ({}, {"approximate": "tanh"})}
# What is called with several arrays of shapes of their own, and with numbers that stay small enough to be summed.
_COMPOSED = (
    "adaptive_log_softmax_with_loss",
    "adaptive_log_softmax_log_prob",
    "scaled_dot_product_attention",
    "multi_head_attention_forward",
)
_KEY = 7
_CUTOFF, _CLASSES, _FEATURES, _HEADS, _HEAD = 5, 12, 16, 4, 8


@dataclasses.dataclass(frozen=True)
class Call:
    """A function of the catalog at some parameters, on both sides as a function of arrays alone.

    Attributes:
        row: The catalog's row.
        parameters: The parameters.
        jax: The function.
        torch: torch's.
    """

    row: Activation
    parameters: Mapping[str, Any]
    jax: Callable[..., Any]
    torch: Callable[..., Any]

    @property
    def name(self) -> str:
        """Its name, with the parameters that set it apart from another call of the same function."""
        if self.row.name not in VARIANTS or not self.parameters:
            return self.row.name
        return f"{self.row.name}({', '.join(f'{k}={v}' for k, v in self.parameters.items())})"

    def inputs(self, kind: str, dtype: str, size: int, seed: int, *, leave_out: tuple[float, ...] = ()) -> list[Any]:
        """Return what both are called with.

        Args:
            kind: "random", "kink" (where the function is not smooth, and all around) or "extreme".
            dtype: The dtype.
            size: About how many elements.
            seed: For what is drawn.
            leave_out: Inputs that are not to be there.
        """
        rng = np.random.default_rng([seed, KINDS.index(kind)])
        if self.row.name in _COMPOSED:
            return _composed(self.row.name, kind, np.dtype(jnp.dtype(dtype)), size, rng)
        x = _numbers(self.row, kind, np.dtype(jnp.dtype(dtype)), size, rng)
        with np.errstate(over="ignore"):
            left_out = np.asarray(leave_out, np.float32).astype(x.dtype)
        x = np.where(np.isin(x, left_out), x.dtype.type(1), x)
        x = _shaped(self.row, x)
        return [x, np.full(1, self.row.parameters["weight"], x.dtype)] if self.row.name == "prelu" else [x]


def calls(names: tuple[str, ...] = ()) -> Iterator[Call]:
    """Yield the calls of these functions, of all where none is named.

    Raises:
        UsageError: If the catalog has no such function.
    """
    rows = {row.name: row for row in CATALOG}
    if unknown := [name for name in names if name not in rows]:
        raise UsageError(f"there is no function {', '.join(unknown)}; there are {', '.join(rows)}")
    for name in names or rows:
        for parameters in VARIANTS.get(name, (rows[name].parameters,)):
            yield _call(rows[name], parameters)


def _call(row: Activation, parameters: Mapping[str, Any]) -> Call:
    match row.name:
        case "prelu":
            return Call(row, parameters, row.function, torch.nn.functional.prelu)
        case "gumbel_softmax":
            return Call(row, parameters, functools.partial(row.function, key=jax.random.key(_KEY)), _gumbel)
        case "adaptive_log_softmax_with_loss" | "adaptive_log_softmax_log_prob":
            return Call(row, parameters, jax.jit(functools.partial(_adaptive, row.function)), _adaptive_in_torch(row))
        case "scaled_dot_product_attention":
            return Call(row, parameters, row.function, torch.nn.functional.scaled_dot_product_attention)
        case "multi_head_attention_forward":
            return Call(row, parameters, jax.jit(functools.partial(_heads, row.function)), _heads_in_torch)
    return Call(
        row,
        parameters,
        functools.partial(row.function, **parameters),
        lambda x: counterpart(row, parameters, x)(x),
    )


def _numbers(row: Activation, kind: str, dtype: np.dtype, size: int, rng: np.random.Generator) -> np.ndarray:
    finfo = jnp.finfo(dtype)
    if kind == "random":
        near = 3 * rng.standard_normal(size - size // 2)
        wide = np.exp2(rng.uniform(-12, 6, size // 2)) * rng.choice([-1, 1], size // 2)
        return np.concatenate([near, wide]).astype(dtype)
    if kind == "kink":
        kinks = np.asarray(row.kinks or (0.0,), dtype)
        around = [kinks + sign * np.exp2(-np.arange(1.0, 12))[:, None] for sign in (1, -1)]
        up, down = (np.nextafter(kinks, dtype.type(end), dtype=dtype) for end in (np.inf, -np.inf))
        points = np.concatenate([kinks, up, down, *(a.astype(dtype).ravel() for a in around)])
        points = points[(points == 0) | (np.abs(points) >= finfo.tiny)]  # XLA's code for the CPU flushes subnormals
    else:
        sizes = np.array([0.0, finfo.tiny, finfo.eps, 1.0, 20.0, 88.0, 104.0, 1e4, 1e30, finfo.max, np.inf])
        with np.errstate(over="ignore"):
            sizes = sizes.astype(dtype)
        points = np.concatenate([sizes, -sizes, np.array([np.nan], dtype)])
    return np.resize(points, size)


def _shaped(row: Activation, x: np.ndarray) -> np.ndarray:
    """Return the numbers as an array that the function takes; one that mixes numbers gets each beside others."""
    if row.name == "softmax2d":
        return x[: x.size // 16 * 16].reshape(-1, 4, 2, 2)
    if row.name == "glu" or row.family == "normalizing":
        return x[: x.size // 8 * 8].reshape(-1, 8)
    return x


def _composed(name: str, kind: str, dtype: np.dtype, size: int, rng: np.random.Generator) -> list[Any]:
    def draw(*shape: int, scale: float = 1.0) -> np.ndarray:
        x = rng.standard_normal(shape)
        x = np.round(x) if kind == "kink" else x  # ties
        return (x * scale * (30 if kind == "extreme" else 1)).astype(dtype)

    def weights(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) / np.sqrt(shape[-1])).astype(dtype)

    rows = max(2, size // 256)
    if name == "scaled_dot_product_attention":
        return [draw(2, _HEADS, rows, _HEAD) for _ in range(3)]
    if name == "multi_head_attention_forward":
        inputs = [draw(rows, 2, _FEATURES) for _ in range(3)]
        projections = [weights(3 * _FEATURES, _FEATURES), weights(3 * _FEATURES)]
        return [*inputs, *projections, weights(_FEATURES, _FEATURES), weights(_FEATURES)]
    shapes = [(_CUTOFF + 1, _FEATURES), (_FEATURES // 4, _FEATURES), (_CLASSES - _CUTOFF, _FEATURES // 4)]
    arrays = [draw(4 * rows, _FEATURES), *(weights(*shape) for shape in shapes)]
    if name == "adaptive_log_softmax_with_loss":
        return [arrays[0], rng.integers(0, _CLASSES, 4 * rows, np.int32), *arrays[1:]]
    return arrays


class _Drawn(TorchDispatchMode):
    """While it lasts, torch draws the numbers that make JAX's Gumbel noise."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ != "exponential_":
            return func(*args, **(kwargs or {}))
        noise = jax.random.gumbel(jax.random.key(_KEY), args[0].shape, jnp.float32)
        return args[0].copy_(torch.exp(-to_torch(noise).double()))


def _gumbel(x: torch.Tensor) -> torch.Tensor:
    with _Drawn():
        return torch.nn.functional.gumbel_softmax(x)


def _adaptive(function: Callable[..., Any], *arrays: Any) -> Any:
    *inputs, head, project, classes = arrays
    return function(*inputs, head, [(project, classes)], [_CUTOFF])


def _adaptive_in_torch(row: Activation) -> Callable[..., Any]:
    module = torch.nn.AdaptiveLogSoftmaxWithLoss(_FEATURES, _CLASSES, [_CUTOFF])
    module.forward = getattr(module, row.torch_method)  # type: ignore[method-assign]  # log_prob in its place
    names = [name for name, _ in module.named_parameters()]

    def function(*arrays: torch.Tensor) -> Any:
        inputs, weights = arrays[: row.inputs], arrays[row.inputs :]
        labels = [x if x.is_floating_point() else x.long() for x in inputs]
        return torch.func.functional_call(module, dict(zip(names, weights, strict=True)), tuple(labels))

    return function


def _heads(function: Callable[..., Any], query: Any, key: Any, value: Any, *weights: Any) -> Any:
    weight, bias, out, out_bias = weights
    more = (None, None, False, 0.0, out, out_bias)
    return function(query, key, value, _FEATURES, _HEADS, weight, bias, *more)


def _heads_in_torch(*arrays: torch.Tensor) -> Any:
    return _heads(torch.nn.functional.multi_head_attention_forward, *arrays)

"""Hints: what would explain the difference, found by trying.

A candidate explains a difference if it is much nearer to the port's values than torch's are, by root mean square.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxact.catalog import CATALOG

from .fingerprints import HUGE, arrangements

# What a candidate may leave unexplained.
UNEXPLAINED = 0.03
_EPS = (0.0, 1e-12, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
# The settings that ports mistake, besides those of the catalog's rows.
_SETTINGS: Mapping[str, tuple[dict[str, Any], ...]] = {
    "gelu": ({"approximate": "tanh"}, {"approximate": "none"}),
    "leaky_relu": ({"negative_slope": 0.01}, {"negative_slope": 0.1}, {"negative_slope": 0.2}, {"negative_slope": 0.3}),
    "elu": ({"alpha": 1.0},),
    "celu": ({"alpha": 1.0},),
    "softplus": ({}, {"beta": 1.0}),
    "softmax": tuple({"dim": axis} for axis in range(-4, 0)),
    "log_softmax": tuple({"dim": axis} for axis in range(-4, 0)),
}


def hint(port: np.ndarray, right: np.ndarray, x: np.ndarray | None = None, module: Any = None) -> str:
    """Return what explains that the port has other values than torch, or nothing.

    Args:
        port: The port's values.
        right: torch's, in the same shape or in another.
        x: What both are computed from, if it has the port's shape.
        module: torch's module, if it is one that computes it from x.
    """
    if port.size != right.size or np.iscomplexobj(port) or np.iscomplexobj(right):
        return ""
    with np.errstate(all="ignore"):
        port, right = np.asarray(port, np.float64), np.asarray(right, np.float64)
        if port.shape != right.shape:
            for arranged in arrangements(right, port.shape):
                if _near(arranged, port):
                    return f"the values are right, in shape {port.shape} for {right.shape}"
            right = right.reshape(port.shape)
        return next(_hints(port, right, None if x is None else np.asarray(x, np.float64), module), "")


def kink(port: np.ndarray, right: np.ndarray, x: np.ndarray | None) -> str:
    """Return that a gradient differs at certain inputs alone, if these are few."""
    if x is None or port.shape != right.shape or x.shape != port.shape or np.iscomplexobj(x):
        return ""
    with np.errstate(all="ignore"):
        scale = np.nanmax(np.abs(right), initial=0.0)
        where = np.abs(np.asarray(port, np.float64) - right) > 1e-4 * scale
    at = np.unique(x[where])
    if not where.any() or len(at) > 3 or where.sum() == where.size:
        return ""
    return f"the gradients differ where the input is {', '.join(f'{v:g}' for v in at)} alone: the convention at a kink"


def _hints(port: np.ndarray, right: np.ndarray, x: np.ndarray | None, module: Any) -> Iterator[str]:
    yield from _not_finite(port, right)
    both = (np.abs(port) < HUGE) & (np.abs(right) < HUGE)
    if not both.any() or np.array_equal(port[both], right[both]):
        return
    if x is not None and x.shape == port.shape:
        yield from _other_function(port, right, x)
    if module is not None and x is not None:
        yield from _other_module(port, right, x, module)
    yield from _affine(port, right, both)
    yield from _reordered(port, right)
    yield from _narrow(port, right, both)


def _not_finite(port: np.ndarray, right: np.ndarray) -> Iterator[str]:
    nans, theirs = int(np.isnan(port).sum()), int(np.isnan(right).sum())
    if nans and not theirs:
        yield f"{nans} elements are NaN, and none of torch's"
    if theirs and not nans:
        yield f"{theirs} of torch's elements are NaN, and none of the port's"
    masked, others = np.abs(port) >= HUGE, np.abs(right) >= HUGE
    if (masked != others).any():
        yield (
            f"{int((others & ~masked).sum())} elements are not masked that torch masks, and "
            f"{int((masked & ~others).sum())} are that torch does not"
        )


def _explains(candidate: Any, port: np.ndarray, right: np.ndarray) -> bool:
    candidate = np.asarray(candidate, np.float64)
    if candidate.shape != port.shape:
        return False
    small = (np.abs(port) < HUGE) & (np.abs(right) < HUGE) & (np.abs(candidate) < HUGE)
    if small.mean() < 0.5:
        return False
    left, off = np.sqrt(np.mean((candidate - port)[small] ** 2)), np.sqrt(np.mean((right - port)[small] ** 2))
    return bool(left <= UNEXPLAINED * off)


def _near(a: np.ndarray, b: np.ndarray) -> bool:
    scale = max(float(np.nanmax(np.abs(b), initial=0.0)), 1e-300)
    return bool(np.nanmax(np.abs(a - b), initial=0.0) <= 1e-5 * scale)


def _other_function(port: np.ndarray, right: np.ndarray, x: np.ndarray) -> Iterator[str]:
    if _explains(x, port, right):
        yield "the step is left out: the port has its input here"
        return
    y = jnp.asarray(x, jnp.float32)
    for row in CATALOG:
        if row.inputs != 1 or row.name in ("rrelu", "gumbel_softmax", "glu", "softmax2d"):
            continue
        for settings in (*_SETTINGS.get(row.name, ({},)), dict(row.parameters)):
            try:
                candidate = row.function(y, **settings)
            except (TypeError, ValueError):
                continue
            if _explains(candidate, port, right):
                given = ", ".join(f"{k}={v!r}" for k, v in settings.items())
                yield f"the port computes {row.name}({given})"
                return


def _other_module(port: np.ndarray, right: np.ndarray, x: np.ndarray, module: Any) -> Iterator[str]:
    import torch

    nn, z = torch.nn, torch.from_numpy(np.ascontiguousarray(x)).double()
    given = [getattr(module, name, None) for name in ("weight", "bias")]
    weight, bias = (p.detach().double() if isinstance(p, torch.Tensor) else None for p in given)
    square = isinstance(module, nn.Linear) and module.in_features == module.out_features == z.shape[-1]
    if square and weight is not None:
        turned = z @ weight
        if any(_explains(y.numpy(), port, right) for y in (turned, turned if bias is None else turned + bias)):
            yield "the weight is not transposed"
    if isinstance(module, nn.LayerNorm) and z.shape[-len(module.normalized_shape) :] == module.normalized_shape:
        shape = module.normalized_shape
        for eps in _EPS:
            if _explains(nn.functional.layer_norm(z, shape, weight, bias, eps).numpy(), port, right):
                yield f"eps is {eps:g} in the port and {module.eps:g} in torch"
        n = int(np.prod(shape))
        sample = nn.functional.layer_norm(z, shape, None, None, module.eps) * ((n - 1) / n) ** 0.5
        scaled = sample if weight is None else sample * weight
        if _explains((scaled if bias is None else scaled + bias).numpy(), port, right):
            yield "the variance is divided by n - 1, and by n in torch"
        mean_square = z / torch.sqrt((z * z).mean(-1, keepdim=True) + module.eps)
        if _explains((mean_square if weight is None else mean_square * weight).numpy(), port, right):
            yield "the mean is not subtracted: the port has RMSNorm"


def _affine(port: np.ndarray, right: np.ndarray, both: np.ndarray) -> Iterator[str]:
    a, b = right[both], port[both]
    factor = float(a @ b / max(a @ a, 1e-300))
    if not b.any():
        yield "the port's values are zero: something stops them, as jax.lax.stop_gradient or a cast to integers does"
    elif _explains(factor * right, port, right):
        yield f"a constant factor: the port's values are {factor:.6g} times torch's"
    offset = float(np.mean(b - a))
    if _explains(right + offset, port, right):
        yield f"a constant offset: the port's values are torch's {offset:+.6g}"
    for axis in range(port.ndim):
        others = tuple(i for i in range(port.ndim) if i != axis)
        if others and port.shape[axis] > 1:
            steps = np.mean(port - right, axis=others, keepdims=True)
            if _explains(right + steps, port, right):
                yield f"an offset for each place of axis {axis}: a bias that is missing, or another"
            with np.errstate(all="ignore"):
                factors = np.sum(port * right, axis=others, keepdims=True) / np.sum(
                    right * right, axis=others, keepdims=True
                )
            if _explains(right * factors, port, right):
                yield f"a factor for each place of axis {axis}: a weight that is missing, or another"


def _reordered(port: np.ndarray, right: np.ndarray) -> Iterator[str]:
    a, b = np.sort(right, axis=None), np.sort(port, axis=None)
    if not _near(a, b) or np.abs(a - b).max() > UNEXPLAINED * np.abs(right - port).max():
        return
    if 1 < right.ndim <= 5:
        for axes in itertools.permutations(range(right.ndim)):
            moved = right.transpose(axes)
            if _near(moved.reshape(port.shape), port):
                yield f"the axes are in another order: the port has torch's values with axes {axes}"
                return
    for axis in range(port.ndim):
        if _near(np.flip(right, axis), port):
            yield f"axis {axis} is reversed"
            return
        for step in {1, -1, port.shape[axis] // 2}:
            if _near(np.roll(right, step, axis), port):
                yield f"axis {axis} is rolled by {step}"
                return
    yield "the values are torch's in another order"


def _narrow(port: np.ndarray, right: np.ndarray, both: np.ndarray) -> Iterator[str]:
    for dtype in ("bfloat16", "float16"):
        narrow = np.asarray(jax.lax.convert_element_type(np.asarray(port, np.float32), dtype), np.float64)
        if np.array_equal(narrow[both], port[both]):
            yield f"the port's values are rounded to {dtype}"
            return
    error = np.sqrt(np.mean((port - right)[both] ** 2)) / max(np.sqrt(np.mean(right[both] ** 2)), 1e-300)
    if 2.0**-12 < error < 2.0**-7:
        yield "the difference is as large as that of a rounding to bfloat16 (or to TF32) on the way"

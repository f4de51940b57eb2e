"""Parity: does an activation give what PyTorch gives, value and gradient, and how far is it if not."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import torch

from jaxact.catalog import BY_NAME, Sample

from ._to_jax import to_jax
from ._to_numpy import to_numpy
from ._to_torch import to_torch
from .counterparts import counterpart
from .ulps import ulp_distance

# A value may be this far from torch's, in ULPs. Farther away it has to be torch that is off: jaxact then has to
# be nearer to what torch gives in float64, and within the bounds that jaxact holds on every input.
TORCH_ULPS = 1
EXACT_ULPS = {"output": 2, "gradient": 4}


@dataclass(frozen=True)
class Comparison:
    """One array from jaxact beside torch's.

    Attributes:
        jaxact: jaxact's array.
        torch: torch's.
        ulps: The largest distance between the two, in units in the last place.
        verdict: "equal", "within 1 ULP", "nearer to exact than torch" or "differs".
    """

    jaxact: np.ndarray
    torch: np.ndarray
    ulps: int
    verdict: str


@dataclass(frozen=True)
class Outcome:
    """What came of one sample.

    Attributes:
        sample: The sample.
        output: The outputs compared.
        gradient: The gradients of sum(c * output) compared, with c = 1, 2, ..., n; None for integers.
        documented: Whether the output, to four decimals, is the documented one.
    """

    sample: Sample
    output: Comparison
    gradient: Comparison | None
    documented: bool

    @property
    def passed(self) -> bool:
        """Whether nothing differs."""
        compared = [self.output] if self.gradient is None else [self.output, self.gradient]
        return self.documented and all(c.verdict != "differs" for c in compared)


def compare(
    jaxact: np.ndarray, torch: np.ndarray, exact: np.ndarray, exact_ulps: int, *, terms: float | None = None
) -> Comparison:
    """Compare jaxact's array with torch's, and both with a more precise one where they differ.

    Args:
        jaxact: jaxact's array.
        torch: torch's.
        exact: The same at a higher precision.
        exact_ulps: How far jaxact may be from ``exact`` where torch is farther.
        terms: The size of the terms, where each element is a difference of sums, as in softmax's gradient. An
            ULP is then that of the terms: the rounding of the sums leaves no finer one.
    """

    def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return ulp_distance(a, b) if terms is None else abs(a - b) / np.spacing(a.dtype.type(terms))

    torch, exact = torch.astype(jaxact.dtype), exact.astype(jaxact.dtype)
    ulps, error = distance(jaxact, torch), distance(jaxact, exact)
    nearer = (error <= exact_ulps) & (error < distance(torch, exact))
    if not ulps.any():
        verdict = "equal"
    elif (ulps <= TORCH_ULPS).all():
        verdict = f"within {TORCH_ULPS} ULP"
    elif ((ulps <= TORCH_ULPS) | nearer).all():
        verdict = "nearer to exact than torch"
    else:
        verdict = "differs"
    return Comparison(jaxact, torch, int(np.ceil(ulps.max(initial=0))), verdict)


def check(sample: Sample) -> Outcome:
    """Run a documented sample through jaxact and through torch, forward and backward.

    Args:
        sample: The sample.
    """
    row = BY_NAME[sample.function]
    x = np.asarray(sample.input)

    def in_torch(tensor: torch.Tensor) -> torch.Tensor:
        return counterpart(row, sample.parameters, tensor)(tensor)

    if x.dtype.kind != "f":
        y = to_numpy(row.function(x, **sample.parameters))
        torch_y = to_numpy(in_torch(to_torch(x)))
        output = compare(y, torch_y, torch_y, 0)
        return Outcome(sample, output, None, _prints_as(y, sample.output))
    jax_y, jax_dx = _in_jax(row.function, sample.parameters, x)
    torch_y, torch_dx = _in_torch(in_torch, x, torch.float32)
    exact_y, exact_dx = _in_torch(in_torch, x, torch.float64)
    terms = _cotangent(x).max() if row.family == "normalizing" else None
    return Outcome(
        sample,
        compare(jax_y, torch_y, exact_y, EXACT_ULPS["output"]),
        compare(jax_dx, torch_dx, exact_dx, EXACT_ULPS["gradient"], terms=terms),
        _prints_as(jax_y, sample.output),
    )


def _in_jax(
    function: Callable[..., jax.Array], parameters: Mapping[str, Any], x: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    y, vjp = jax.vjp(lambda x: function(x, **parameters), to_jax(x.astype(np.float32)))
    (dx,) = vjp(to_jax(_cotangent(x)))
    return to_numpy(y), to_numpy(dx)


def _in_torch(
    function: Callable[[torch.Tensor], torch.Tensor], x: np.ndarray, dtype: torch.dtype
) -> tuple[np.ndarray, np.ndarray]:
    tensor = to_torch(x, dtype=dtype).requires_grad_()
    y = function(tensor)
    (dx,) = torch.autograd.grad(y, tensor, to_torch(_cotangent(x), dtype=dtype))
    return to_numpy(y), to_numpy(dx)


def _cotangent(x: np.ndarray) -> np.ndarray:
    return np.arange(1, x.size + 1, dtype=np.float32).reshape(x.shape)


def _prints_as(y: np.ndarray, documented: tuple[float, ...]) -> bool:
    return [f"{v:.4f}" for v in y.tolist()] == [f"{v:.4f}" for v in documented]

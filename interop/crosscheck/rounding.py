"""What rounding does to each element: torch's operations in float64, their results moved at random as roundings would.

An operation's result moves by a relative half of ``eps`` at most. Where it is a sum of many terms, its operands move
as well, which moves the sum by as much as its additions would round: a result near zero of large terms moves by the
rounding of the terms. A function that is computed as a product or a difference of larger things, such as GELU's tail
``x (1 + erf)``, moves by the rounding of those.
"""

from typing import Any

import torch

from .._torch_private import TorchDispatchMode

# What sums many terms, by the start of its name.
_SUMS = [
    "mm",
    "addmm",
    "bmm",
    "baddbmm",
    "mv",
    "addmv",
    "dot",
    "convolution",
    "sum",
    "mean",
    "var",
    "std",
    "native_",
    "_softmax",
    "_log_softmax",
    "cumsum",
    "norm",
    "linalg_",
    "logsumexp",
    "embedding_dense_backward",
    "avg_pool",
    "_adaptive_avg_pool",
    "upsample_",
    "_cdist",
    "prod",
    "index_add",
    "scatter_add",
    "mse_loss",
    "nll_loss",
]
# What is made of terms as large as its first argument.
_OF_TERMS = ("gelu", "glu", "silu", "mish", "hardswish", "elu", "softplus", "log_sigmoid", "selu", "celu")
_MANY = 1_000_000


class Rounding(TorchDispatchMode):
    """While it lasts, every operation of float64 tensors rounds at random to a relative ``eps``."""

    def __init__(self, eps: float, seed: int) -> None:
        super().__init__()
        self._eps = eps
        # Below it a result may be flushed to zero, as XLA's code does.
        self._tiny = torch.finfo(torch.float32 if eps > torch.finfo(torch.float64).eps else torch.float64).tiny
        self._generator = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name.startswith(tuple(_SUMS)):
            args = self._moved_operands(args)
        results = func(*args, **(kwargs or {}))
        taken = {x.untyped_storage().data_ptr() for x in _tensors(args)}
        for y in _tensors(results):
            if y.untyped_storage().data_ptr() in taken and not func._schema.is_mutable:
                continue  # a view
            if moves(name):
                y.add_((_terms(name, args, y) * self._noise(y)).nan_to_num_(0.0, 0.0, 0.0))  # an infinite y stays so
                y.mul_(torch.where(y.abs() < self._tiny, self._noise(y).div_(self._eps).add_(0.5), 1.0))
        return results

    def _noise(self, like: torch.Tensor) -> torch.Tensor:
        noise = torch.rand(like.shape, dtype=torch.float32, generator=self._generator)
        return noise.sub_(0.5).mul_(self._eps).to(like.dtype)

    def _moved_operands(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the arguments with the tensors moved; where one is large, the smaller ones alone: that moves the sums too."""
        sizes = [x.numel() for x in args if _is_wide(x)]
        smallest = min(sizes, default=0)

        def move(x: Any) -> Any:
            if not _is_wide(x) or (x.numel() > _MANY and x.numel() > smallest):
                return x
            return x * (1 + self._noise(x))

        return tuple(map(move, args))


# What moves numbers and computes none.
_COPIES = frozenset(
    [
        "clone",
        "_to_copy",
        "copy_",
        "cat",
        "stack",
        "index",
        "index_select",
        "gather",
        "embedding",
        "repeat",
        "repeat_interleave",
        "flip",
        "roll",
        "constant_pad_nd",
        "contiguous",
        "lift_fresh",
        "lift_fresh_copy",
        "masked_fill",
        "masked_fill_",
        "where",
        "max_pool2d_with_indices",
        "max_pool3d_with_indices",
        "zeros",
        "ones",
        "full",
        "zeros_like",
        "ones_like",
        "full_like",
        "new_zeros",
        "new_ones",
        "new_full",
        "empty",
        "empty_like",
        "new_empty",
        "fill_",
        "zero_",
        "arange",
        "scalar_tensor",
        "slice_backward",
        "select_backward",
        "slice_scatter",
        "select_scatter",
        "index_put",
        "index_put_",
        "_unsafe_view",
        "tril",
        "triu",
        "sort",
        "topk",
        "max",
        "min",
        "amax",
        "amin",
        "relu",
        "relu_",
        "threshold_backward",
        "hardtanh",
        "clamp",
        "clamp_",
        "neg",
        "abs",
        "sign",
        "sgn",
        "unfold_backward",
        "_reshape_copy",
        "view_copy",
        "expand_copy",
        "permute_copy",
        "as_strided",
        "scatter",
        "tril_indices",
        "maximum",
        "minimum",
        "reflection_pad2d",
        "replication_pad2d",
        "reflection_pad1d",
        "unbind",
        "split",
        "chunk",
        "eye",
        "new_empty_strided",
        "empty_strided",
    ]
)


def _terms(name: str, args: tuple[Any, ...], y: torch.Tensor) -> torch.Tensor:
    """Return the size of the terms that an operation's result is made of."""
    if not name.startswith(_OF_TERMS):
        return y
    shaped = [x for x in args if _is_wide(x) and x.shape == y.shape]
    if name.endswith("_backward") and len(shaped) > 1:
        return shaped[0] * (1 + shaped[1].abs())  # f' = a + x b, times what comes in
    return shaped[0] if shaped else y


def moves(name: str) -> bool:
    """Say whether an operation of torch rounds."""
    return name not in _COPIES


def _is_wide(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.dtype in (torch.float64, torch.complex128)


def _tensors(x: Any) -> list[torch.Tensor]:
    parts: list[Any] = list(x) if isinstance(x, (tuple, list)) else [x]
    found = []
    for part in parts:
        if isinstance(part, (tuple, list)):
            found += _tensors(part)
        elif _is_wide(part):
            found.append(part)
    return found

"""What rounding does to each element: torch's operations in float64, their results moved at random as roundings would.

An operation's result moves by a relative half of ``eps`` at most. Where it is a sum of many terms, its operands move
as well, which moves the sum by as much as its additions would round: a result near zero of large terms moves by the
rounding of the terms. A function that is computed as a product or a difference of larger things, such as GELU's tail
``x (1 + erf)``, moves by the rounding of those.
"""

from typing import Any

import torch

from jaxact.interop._torch_private import TorchDispatchMode, writes_into_its_arguments

# What sums many terms, by the start of its name.
_SUMS = tuple(
    """
    mm addmm bmm baddbmm mv addmv dot convolution linalg_ prod _cdist sum mean var std norm native_ cumsum logsumexp
    _softmax _safe_softmax _log_softmax embedding_dense_backward index_add scatter_add mse_loss nll_loss avg_pool
    _adaptive_avg_pool upsample_
    """.split()  # noqa: SIM905 - a list would take a line a word
)
# What is made of terms as large as its first argument.
_OF_TERMS = ("gelu", "glu", "silu", "mish", "hardswish", "elu", "softplus", "log_sigmoid", "selu", "celu")
_MANY = 1_000_000
# What makes an array of numbers in the code, or of the shape of another.
_FILLS = ("zeros", "ones", "full", "empty", "new_", "arange", "rand", "scalar_tensor", "eye", "lift_fresh", "linspace")


class Rounding(TorchDispatchMode):
    """While it lasts, every operation of float64 tensors rounds at random to a relative ``eps``."""

    def __init__(self, eps: float, seed: int) -> None:
        super().__init__()
        self._eps = eps
        # Below it a result may be flushed to zero, as XLA's code does.
        self._tiny = torch.finfo(torch.float32 if eps > torch.finfo(torch.float64).eps else torch.float64).tiny
        self._generator = torch.Generator().manual_seed(seed)
        self._constants: set[int] = set()  # by their memory

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        given = _tensors([*args, *(kwargs or {}).values()])
        # What is made of numbers in the code, such as positions, is often made to integers: it must not move.
        constant = name.startswith(_FILLS) or all(_memory(x) in self._constants for x in given)
        if name.startswith(_SUMS) and not constant:
            args = self._moved_operands(args)
        results = func(*args, **(kwargs or {}))
        taken = {_memory(x) for x in given}
        for y in _tensors([results]):
            if _memory(y) in taken and not writes_into_its_arguments(func):
                continue  # a view
            (self._constants.add if constant else self._constants.discard)(_memory(y))
            if rounds(name) and _is_wide(y) and not constant:
                y.add_((_terms(name, args, y) * self._noise(y)).nan_to_num_(0.0, 0.0, 0.0))  # an infinite y stays so
                y.mul_(torch.where(y.abs() < self._tiny, self._noise(y).div_(self._eps).add_(0.5), 1.0))
        return results

    def _noise(self, like: torch.Tensor) -> torch.Tensor:
        noise = torch.rand(like.shape, dtype=torch.float32, generator=self._generator)
        return noise.sub_(0.5).mul_(self._eps).to(like.dtype)

    def _moved_operands(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the arguments with the tensors moved; one that is large is left, if a smaller one moves the sums."""
        sizes = [x.numel() for x in args if _is_wide(x)]
        smallest = min(sizes, default=0)

        def move(x: Any) -> Any:
            if not _is_wide(x) or (x.numel() > _MANY and x.numel() > smallest):
                return x
            return x * (1 + self._noise(x))  # an infinity stays one

        return tuple(map(move, args))


# What moves numbers as they are, and leaves none out but by place.
_MOVES = frozenset(
    """
    clone _to_copy copy_ cat stack contiguous lift_fresh lift_fresh_copy detach as_strided _unsafe_view
    _reshape_copy view_copy expand_copy permute_copy unbind split chunk unsafe_split unsafe_chunk
    repeat repeat_interleave flip roll index index_select gather slice_scatter select_scatter
    slice_backward select_backward constant_pad_nd unfold_backward fill_ zero_
    zeros ones full zeros_like ones_like full_like new_zeros new_ones new_full empty empty_like new_empty
    new_empty_strided empty_strided scalar_tensor arange eye tril_indices
    """.split()  # noqa: SIM905 - a list would take a line a word
)
# What chooses among numbers, or negates: it rounds none either.
_CHOOSES = frozenset(
    """
    embedding index_put index_put_ scatter sort topk where max_pool2d_with_indices max_pool3d_with_indices max min amax
    amin maximum minimum clamp clamp_ clamp_min clamp_max hardtanh relu relu_ threshold_backward neg abs sign sgn
    reflection_pad1d reflection_pad2d replication_pad2d tril triu masked_fill masked_fill_
    """.split()  # noqa: SIM905 - a list would take a line a word
)


def _terms(name: str, args: tuple[Any, ...], y: torch.Tensor) -> torch.Tensor:
    """Return the size of the terms that an operation's result is made of."""
    if not name.startswith(_OF_TERMS):
        return y
    shaped = [x for x in args if _is_wide(x) and x.shape == y.shape]
    if name.endswith("_backward") and len(shaped) > 1:
        return shaped[0] * (1 + shaped[1].abs())  # f' = a + x b, times what comes in
    return shaped[0] if shaped else y


def rounds(name: str) -> bool:
    """Say whether an operation of torch rounds its results."""
    return name not in _MOVES and name not in _CHOOSES


def computes(name: str) -> bool:
    """Say whether an operation of torch computes, or chooses by value: it does more than to move numbers."""
    return name not in _MOVES


def _is_wide(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.dtype in (torch.float64, torch.complex128)


def _tensors(parts: Any) -> list[torch.Tensor]:
    found = []
    for part in parts:
        if isinstance(part, (tuple, list)):
            found += _tensors(part)
        elif isinstance(part, torch.Tensor):
            found.append(part)
    return found


def _memory(x: torch.Tensor) -> int:
    return x.untyped_storage().data_ptr() if x.layout == torch.strided else id(x)

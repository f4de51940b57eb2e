"""One array that came in, described for the three conversions: dense, of which dtype, and whether it may be copied."""

import dataclasses
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ._dense import Dense, dense, is_lazy_zeros, is_number, is_on_cpu
from ._dtypes import NUMPY_DTYPES, cast, numpy_dtypes

if TYPE_CHECKING:
    import torch

LAZY_ZEROS = "it is zeros that torch keeps no memory for"


@dataclasses.dataclass(slots=True)  # not frozen, which would cost a microsecond an array
class Source:
    """What came in as one array, and how it may be taken.

    Attributes:
        caller: The public function, for messages.
        array: It, as a plain dense array.
        dtype: Its dtype, in this machine's byte order.
        copy: None to share its memory or copy it, False to share it or raise, True to copy it.
    """

    caller: str
    array: Dense
    dtype: np.dtype
    copy: bool | None

    def must_copy(self, why: str) -> None:
        """Raise if a copy is forbidden, which is needed for the reason given."""
        if self.copy is False:
            raise ValueError(
                f"{self.caller}: copy=False, but the data must be copied: {why}; pass copy=None to allow it"
            )

    def as_numpy(self) -> np.ndarray:
        """Return it as NumPy's: in the same memory where that is possible, but for a tensor that is to be copied."""
        x = self.array
        if isinstance(x, np.ndarray):
            return x
        if isinstance(x, jax.Array):
            if not is_on_cpu(x):
                self.must_copy(f"it is on {x.sharding}, which NumPy does not see as one array")
            return np.asarray(x)
        if x.is_conj() or x.is_neg():
            self.must_copy("its conjugate or negative bit is set")
        if not x.is_cpu:
            self.must_copy(f"it is on {x.device}")
        x = x.cpu().resolve_conj().resolve_neg()
        no_memory = is_lazy_zeros(x)
        if no_memory:
            self.must_copy(LAZY_ZEROS)
        if self.copy or no_memory:
            x = x.clone()  # or the view would forbid that the storage of the tensor itself be resized
        dtype = numpy_dtypes()[x.dtype]
        if dtype in NUMPY_DTYPES:
            return x.numpy()
        return as_integers(x).numpy().view(dtype)

    def cast(self, dtype: np.dtype, *, asked: bool) -> "Source":
        """Return a copy of it in another dtype, a NumPy array; see :func:`jaxact.interop._dtypes.cast`."""
        self.must_copy(f"{self.dtype} data becomes {dtype}")
        return Source(self.caller, cast(self.caller, self.as_numpy(), dtype, asked=asked), dtype, None)


def check_copy(caller: str, copy: Any) -> None:
    """Raise a TypeError if the argument ``copy`` is not None, True or False."""
    if copy is not None and not isinstance(copy, bool):
        raise TypeError(f"{caller}: copy must be None, True or False, got {copy!r}")


def described(caller: str, x: Any, copy: bool | None, importers: Iterable[Callable[[Any], Dense]]) -> Source:
    """Describe what may be an array, or raise what :func:`jaxact.interop._dense.dense` raises."""
    y = dense(caller, x, importers)
    dtype = y.dtype.newbyteorder("=") if isinstance(y, (np.ndarray, jax.Array)) else numpy_dtypes()[y.dtype]
    source = Source(caller, y, dtype, copy)
    if isinstance(x, np.generic) or is_number(x):
        source.must_copy(f"a {type(x).__name__} is no array and has no memory to share")
    return source


def as_integers(x: "torch.Tensor") -> "torch.Tensor":
    """Return the bits of a tensor of a dtype that NumPy's own do not include: bfloat16 or float8."""
    import torch

    return x.view(torch.int8 if x.itemsize == 1 else torch.int16)


# What takes an object with __dlpack__, besides numpy.from_dlpack.


def numpy_from_dlpack(x: Any) -> np.ndarray:
    """Import over DLPack from a device that is not the CPU."""
    return np.from_dlpack(x, device="cpu")


def jax_from_dlpack(x: Any) -> jax.Array:
    """Import over DLPack in 64-bit mode, in which JAX narrows nothing unseen."""
    with jax.enable_x64(True):
        return jax.dlpack.from_dlpack(x)


def torch_from_dlpack(x: Any) -> "torch.Tensor":
    """Import over DLPack into torch, which has dtypes and strides that the others refuse, where it is loaded."""
    torch = sys.modules.get("torch")
    if torch is None:
        raise TypeError("torch is not loaded")
    return torch.utils.dlpack.from_dlpack(x)

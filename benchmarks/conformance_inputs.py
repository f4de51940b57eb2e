"""The inputs with which PyTorch's own test suite tests its operations.

Torch keeps all this private, and its import changes the process (the profile of hypothesis, torch's flags), so it
is for a process of its own, and needs the package expecttest.
"""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

# In the order in which they are run.
DTYPES = {str(dtype)[6:]: dtype for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64)}
DTYPES |= {str(dtype)[6:]: dtype for dtype in (torch.complex64, torch.complex128, torch.bool, torch.uint8)}
DTYPES |= {str(dtype)[6:]: dtype for dtype in (torch.int8, torch.int16, torch.int32, torch.int64)}
QUICK_DTYPES, QUICK_SAMPLES = ("float32", "bfloat16"), 4


@functools.cache
def op_infos() -> list[Any]:
    """Return torch's descriptions of all its operations.

    Raises:
        ImportError: If a package is missing that torch's test suite needs.
    """
    try:
        from torch.testing._internal.common_methods_invocations import op_db
    except ImportError as error:
        message = f"torch {torch.__version__} cannot import its test inputs ({error}); pip install expecttest scipy"
        raise ImportError(message) from error
    return list(op_db)


def operations(name: str) -> list[Any]:
    """Return the OpInfos of a function: one, or one more for some of its dtypes or parameters."""
    return [op for op in op_infos() if op.name in (name, f"nn.functional.{name}")]


def dtypes(op: Any) -> list[str]:
    """Return the dtypes that torch's operation takes on a CPU, and JAX has."""
    return [name for name, dtype in DTYPES.items() if dtype in op.dtypes]


def inputs(op: Any, dtype: torch.dtype, quick: bool) -> Iterator[Any]:
    """Yield torch's inputs for an operation, all of them or a few; with float32 also those that it has to refuse."""
    torch.manual_seed(0)
    if quick:
        samples = list(op.sample_inputs("cpu", dtype))
        chosen = np.random.default_rng(0).permutation(len(samples))[:QUICK_SAMPLES]
        yield from (samples[number] for number in sorted(chosen))
    else:
        yield from op.reference_inputs("cpu", dtype)  # the samples among them
    if dtype == torch.float32 and op.error_inputs_func is not None:
        yield from (error.sample_input for error in op.error_inputs("cpu"))

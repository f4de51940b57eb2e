"""What is used of torch that is not public, and why: torch has no public counterpart of any of it.

Nothing else of as_jax, as_torch and compare reaches for a private name, which a test sees to.
"""

import threading
from typing import Any

import torch

# What one operator is made of, in others: torch.export has this in public, for exported programs alone.
from torch._decomp import get_decompositions as _get_decompositions

# Says whether a function is run without data, when all the tensors in sight have some.
from torch._guards import active_fake_mode as active_fake_mode

# Runs a function without data although it closes over tensors that have some. On the meta device, which is public,
# these would have to be moved first, wherever they are. torch's documentation imports it from here.
from torch._subclasses.fake_tensor import DataDependentOutputException as DataDependentOutputException
from torch._subclasses.fake_tensor import DynamicOutputShapeException as DynamicOutputShapeException
from torch._subclasses.fake_tensor import FakeTensorMode as FakeTensorMode

# Sees the operators that a function runs, and so those that draw random numbers. torch.overrides.TorchFunctionMode,
# which is public, sees calls from Python only, such as that of a layer, and not what is called within.
from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode


def decompositions(*names: str) -> dict[Any, Any]:
    """Return the decompositions of those ATen operators that there are and that have one, by overload."""
    operators = [getattr(torch.ops.aten, name) for name in names if hasattr(torch.ops.aten, name)]
    return dict(_get_decompositions(operators))


def writes_into_its_arguments(operator: Any) -> bool:
    """Say whether an operator writes into an argument, which a dispatch mode is not told."""
    return bool(operator._schema.is_mutable)


def not_compiled(function: Any) -> Any:
    """Return the module that ``torch.compile`` made this one of, or what was given."""
    return getattr(function, "_orig_mod", function)


def _outlive_threads() -> None:
    """See to it that what FakeTensorMode sets for the whole process lives as long as the process.

    Where torch 2.11 is built for CUDA and finds no GPU, the first thread that enters the mode sets a device guard for
    all, which goes with that thread: the next use of it ends the process.
    """

    def enter() -> None:
        with FakeTensorMode():
            pass

    def enter_and_stay() -> None:
        enter()
        entered.set()
        threading.Event().wait()

    if threading.current_thread() is threading.main_thread():
        return enter()
    entered = threading.Event()
    threading.Thread(target=enter_and_stay, daemon=True).start()
    entered.wait()


_outlive_threads()


def is_watched() -> bool:
    """Say whether this thread has something on that can be turned on publicly and not asked for.

    That is a dispatch mode, a transform of ``torch.func``, or hooks for saved tensors.
    """
    return (
        torch._C._len_torch_dispatch_stack() > 0
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._autograd._top_saved_tensors_default_hooks(True) is not None
    )


def writes(tensor: torch.Tensor) -> int:
    """Return how often a tensor was written into, which its values do not say: those of fake tensors are none."""
    return tensor._version

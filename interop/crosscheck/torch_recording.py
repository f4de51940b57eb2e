"""What torch computes, operation by operation: each result, what it came from, its module and its line."""

import contextlib
import os
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from jaxact.interop._torch_private import TorchDispatchMode, decompositions, writes_into_its_arguments

from .fingerprints import fingerprint
from .nodes import Node, Place
from .rounding import computes

_TORCH = os.path.dirname(torch.__file__) + os.sep
_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
# What makes an array of the shape of another, without its values.
_FILLS = ("zeros", "ones", "full", "empty", "new_", "arange", "rand", "scalar_tensor", "eye")


def _convolution(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *rest: Any) -> torch.Tensor:
    """Return a convolution, computed without its bias, and the bias added."""
    y = torch.ops.aten.convolution(x, weight, None, *rest)
    return y if bias is None else y + bias.reshape(-1, *[1] * (y.ndim - 2))


# Where the function that is compared is called: what is further out is who compares.
_CALLER = str(Path(__file__).with_name("torch_side.py"))
# What torch computes in one step and ports do in several, in several: a mistake has a place within.
_FINER = {
    **decompositions("native_layer_norm", "native_group_norm", "native_batch_norm", "_fused_rms_norm", "addmm"),
    torch.ops.aten.convolution.default: _convolution,
}


class Recording(TorchDispatchMode):
    """While it lasts, every operation of torch is recorded.

    Attributes:
        nodes: What was recorded, in the order of execution.
        outputs: The places of the function's outputs, by name.
        gradients: The places of the gradients that were asked for.
    """

    def __init__(self, modules: Mapping[str, torch.nn.Module], keep: int) -> None:
        super().__init__()
        self.nodes: list[Node] = []
        self.outputs: dict[str, int] = {}
        self.gradients: list[int | None] = []
        self._names = {id(m): name for prefix, root in modules.items() for name, m in root.named_modules(prefix=prefix)}
        self._keep = keep  # bytes
        self._stack: list[tuple[str, str]] = [("", "function")]
        self._exact: dict[tuple[Any, ...], int] = {}
        self._latest: dict[int, int] = {}
        self._labels: dict[Any, Place] = {}
        self._backward: Place | None = None
        self._within: contextlib.ExitStack | None = None
        self._depth = 0

    def __enter__(self) -> Self:
        self._depth += 1
        if self._depth > 1:  # for the steps of one operation
            super().__enter__()
            return self
        self._within = contextlib.ExitStack()
        self._within.enter_context(sdpa_kernel(SDPBackend.MATH))
        for hook in (
            register_module_forward_pre_hook(self._enter_module),
            register_module_forward_hook(self._leave_module, always_call=True),
        ):
            self._within.callback(hook.remove)
        self._within.enter_context(_Labelling(self))
        super().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._depth -= 1
        if self._depth == 0 and self._within is not None:
            self._within.close()

    def _enter_module(self, module: torch.nn.Module, _: Any) -> None:
        if id(module) in self._names or not self._names:
            self._stack.append((self._names.get(id(module), ""), type(module).__name__))
        else:
            self._stack.append((self._stack[-1][0], type(module).__name__))

    def _leave_module(self, *_: Any) -> None:
        self._stack.pop()

    def place(self) -> Place:
        """Return where torch is."""
        return self._backward or Place(*self._stack[-1], user_line(sys._getframe(1)))

    def label(self, y: torch.Tensor) -> None:
        """Note where a result was computed, for the backward pass of it."""
        if y.grad_fn is not None and y.grad_fn not in self._labels:
            self._labels[y.grad_fn] = self.place()

    def take(self, tensors: Sequence[torch.Tensor], operation: str = "input") -> None:
        """Take tensors for inputs."""
        for x in tensors:
            self._add(x, Node(operation, self.place(), (), False, False, True))

    def before_backward(self, outputs: Mapping[str, torch.Tensor], given: Sequence[torch.Tensor]) -> None:
        """Follow the backward pass through the operations that it comes from."""
        self.take(given, "cotangent")
        pending = [(y.grad_fn, Place("", "", "")) for y in outputs.values() if y.grad_fn is not None]
        seen = set()
        while pending:
            function, consumer = pending.pop()
            if function in seen:
                continue
            seen.add(function)
            label = self._labels.get(function, consumer)
            function.register_prehook(lambda _, label=label: setattr(self, "_backward", label))
            pending += [(f, label) for f, _ in function.next_functions if f is not None]
        self._functions = seen  # kept, and with them their hooks, until the end

    def finish(self, outputs: Mapping[str, torch.Tensor]) -> None:
        """Take down which results are the outputs."""
        self.outputs = {name: i for name, y in outputs.items() if (i := self._place_of(y)) is not None}

    def after_backward(self, gradients: Sequence[torch.Tensor | None]) -> None:
        """Take down which results are the gradients."""
        self.gradients = [None if g is None else self._place_of(g) for g in gradients]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _FINER and not (_FINER[func] is _convolution and args[2] is None):
            with self:
                return _FINER[func](*args, **(kwargs or {}))
        taken = list(_tensors([*args, *(kwargs or {}).values()]))
        parents = {i for x in taken if (i := self._place_of(x)) is not None}
        storages = {_storage(x) for x in taken}
        results = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name.startswith(_FILLS):
            parents = set()
        depends = any(self.nodes[i].depends for i in parents)
        for y in _tensors([results]):
            shared = _storage(y) in storages
            if shared and writes_into_its_arguments(func):
                self._forget(_storage(y))
            moves = not computes(name) or (shared and not writes_into_its_arguments(func))
            if shared and _key(y) in self._exact and not writes_into_its_arguments(func):
                continue  # the same once more, as detach gives it
            node = Node(name, self.place(), tuple(sorted(parents)), self._backward is not None, moves, depends)
            self._add(y, node, fresh=not shared)
        return results

    def _add(self, x: torch.Tensor, node: Node, fresh: bool = True) -> None:
        if node.depends and x.is_floating_point() and x.numel() > 2:
            array = x.detach().numpy()
            if not node.moves:
                node.print = fingerprint(array)
            size = array.size * 4
            if size <= self._keep:
                self._keep -= size
                node.array = array.astype(np.float32, copy=True)
        self.nodes.append(node)
        if x.layout != torch.strided:
            return
        if fresh:
            self._forget(_storage(x))
        self._exact[_key(x)] = self._latest[_storage(x)] = len(self.nodes) - 1

    def _forget(self, storage: int) -> None:
        """Drop what is known of a piece of memory, which now holds something else."""
        for key in [key for key in self._exact if key[0] == storage]:
            del self._exact[key]

    def _place_of(self, x: torch.Tensor) -> int | None:
        if x.layout != torch.strided:
            return None
        return self._exact.get(_key(x), self._latest.get(_storage(x)))


class _Labelling(TorchFunctionMode):
    """Notes where each result was computed, for the backward pass of it."""

    def __init__(self, recording: Recording) -> None:
        super().__init__()
        self._recording = recording

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") != "__get__":
            for y in _tensors([result]):
                self._recording.label(y)
        return result


def user_line(frame: types.FrameType | None) -> str:
    """Return the innermost line of the function that is compared, as ``"model.py:42"``; "" if all is torch's."""
    while frame is not None:
        path = frame.f_code.co_filename
        if path == _CALLER:
            break
        if not path.startswith((_TORCH, _HERE)) and os.path.basename(path) not in ("contextlib.py", "_ops.py"):
            return f"{os.path.basename(path)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def _tensors(parts: Sequence[Any]) -> Iterator[torch.Tensor]:
    for part in parts:
        if isinstance(part, torch.Tensor):
            yield part
        elif isinstance(part, (list, tuple)):
            yield from _tensors(part)


def _storage(x: torch.Tensor) -> int:
    return x.untyped_storage().data_ptr() if x.layout == torch.strided else id(x)


def _key(x: torch.Tensor) -> tuple[Any, ...]:
    return (_storage(x), x.storage_offset(), tuple(x.shape), x.stride())

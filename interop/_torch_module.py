"""A torch module as a function of its trainable parameters, and what makes two of them the same function."""

import collections
import hashlib
import threading
import types
import weakref
from collections.abc import Callable
from typing import Any

import torch

from ._to_numpy import to_numpy
from ._torch_private import writes

_COMPARED_BY_IDENTITY = (type, types.FunctionType, types.BuiltinFunctionType, torch.dtype)
_COMPARED_BY_VALUE = (bool, int, float, complex, str, bytes, torch.device)


class ModuleFunction:
    """A module, called with other values for its trainable parameters: see :meth:`call`.

    Attributes:
        module: The module; nobody else has it.
        names: The names of the trainable parameters.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self.__name__ = self.__qualname__ = type(module).__name__
        self.__doc__ = type(module).__doc__
        self.module = module
        self.within = _Within(module)
        self.names = frozenset(name for name, value in module.named_parameters() if value.requires_grad)
        # The module holds the parameters while it runs, and so can run in one thread only.
        self.lock = threading.RLock()

    def __reduce__(self) -> tuple[Any, ...]:
        return ModuleFunction, (self.module,)

    def __repr__(self) -> str:
        return self.__name__

    def call(self, then: Callable[[Any], Any], parameters: dict[str, torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        """Return what ``then`` makes of the module's result, while the module holds these parameters."""
        # Copies, so that a module that writes into its buffers is noticed, and this one stays as it is.
        buffers = {name: buffer.clone() for name, buffer in self.module.named_buffers()}

        def check(result: Any) -> Any:
            if changed := [name for name, buffer in buffers.items() if writes(buffer) > 0]:
                raise ValueError(
                    f"as_jax: {self.__name__} updates its buffers {', '.join(changed)} when it is called, which a "
                    "JAX function cannot; call module.eval() first"
                )
            return then(result)

        held = {f"module.{name}": value for name, value in {**parameters, **buffers}.items()}
        with self.lock:
            return torch.func.functional_call(self.within, held, (check, args, kwargs))


class _Within(torch.nn.Module):
    """A module that has its parameters while something is made of its result, too."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, then: Callable[[Any], Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return then(self.module(*args, **kwargs))


class _UnknownError(Exception):
    """Raised for an object of which it is not known what makes two of it equal."""


def module_key(function: ModuleFunction) -> Any:
    """Return what two modules have in common only if they compute the same function of their parameters.

    That is everything there is in them but the values of trainable parameters: classes, functions and hooks are the
    same objects, settings and buffers have equal values. If a module holds anything else, it is equal to none.
    """
    parameters = {id(value): name for name, value in function.module.named_parameters() if name in function.names}
    modules: dict[int, int] = {}

    def key(value: Any) -> Any:
        if value is None or isinstance(value, _COMPARED_BY_IDENTITY):
            return value
        if type(value) in _COMPARED_BY_VALUE:
            return type(value), repr(value)  # 0.0 and -0.0 are equal, 1 and True too
        if type(value) in (list, tuple, torch.Size):
            return type(value), tuple(map(key, value))
        if type(value) in (dict, collections.OrderedDict):
            return type(value), tuple((key(name), key(entry)) for name, entry in value.items())
        if type(value) in (set, frozenset) and all(type(entry) is str for entry in value):
            return type(value), frozenset(value)
        if id(value) in parameters:
            return "parameter", parameters[id(value)]
        if isinstance(value, weakref.ref):
            return weakref.ref, key(value())
        if isinstance(value, torch.nn.Module):
            if id(value) in modules:  # it occurs twice
                return "module", modules[id(value)]
            modules[id(value)] = len(modules)
            return type(value), key(vars(value))
        if type(value) in (torch.Tensor, torch.nn.Parameter) and value.layout == torch.strided:
            data = hashlib.sha256(to_numpy(value).tobytes()).digest()
            return type(value), value.requires_grad, value.dtype, tuple(value.shape), value.stride(), data
        raise _UnknownError

    try:
        return key(function.module)
    except (_UnknownError, TypeError, ValueError):  # the latter two from tensors that are no arrays
        return object()

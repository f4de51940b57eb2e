"""JAX functions in PyTorch: :func:`as_torch`.

A call sorts its arguments into tensors, constants (which JAX traces but nobody differentiates) and static
values. Static values and structure pick a :class:`JaxProgram`, a JAX function of flat arrays, compiled once for
each set of shapes and dtypes. A program's derivatives and its batched form are programs again, so that one
``torch.autograd.Function`` serves derivatives of every order and every transform of ``torch.func``.
"""

import functools
import importlib
import inspect
import itertools
import operator
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
import torch

from ._arguments import STATIC, Layout, lay_out, static
from ._handles import handle_of
from ._jax_program import JaxProgram

_TENSORS = "tensors"
_CONSTANTS = "constants"

# In torch 2.11 Dynamo takes the question whether it exports for true, whatever it does.
_EXPORT_IS_KNOWN = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 13)


def _keep_signature(function: Any) -> Any:
    """Store the signature, which ``Function.apply`` asks for at every call: 12 of its 45 microseconds."""
    function.__signature__ = inspect.signature(function)
    return function


class _AutogradCall(torch.autograd.Function):
    """A program called from torch: ``_AutogradCall.apply(program, constants, *tensors)``.

    What is saved for the backward pass is the inputs and nothing else; the compiled backward pass computes
    what else it needs from them.
    """

    @staticmethod
    @_keep_signature
    def forward(program: JaxProgram, constants: tuple[Any, ...], *tensors: torch.Tensor) -> tuple[Any, ...]:
        return program(constants, tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        ctx.program, ctx.constants, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)
        ctx.differentiable = [_is_inexact(out) for out in output[1:]]

    @staticmethod
    def backward(ctx: Any, _structure: None, *cotangents: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        wanted = ctx.needs_input_grad[2:]
        cotangents = tuple(itertools.compress(cotangents, ctx.differentiable))
        structure, *gradients = _AutogradCall.apply(
            ctx.program.vjp(wanted), ctx.constants, *ctx.saved_tensors, *cotangents
        )
        return None, None, *_spread(jax.tree.unflatten(structure, gradients), wanted)

    @staticmethod
    def jvp(ctx: Any, _program: None, _constants: None, *tangents: torch.Tensor | None) -> tuple[Any, ...]:
        moving = tuple(tangent is not None for tangent in tangents)
        moved = itertools.compress(tangents, moving)
        _, *out_tangents = _AutogradCall.apply(ctx.program.jvp(moving), ctx.constants, *ctx.saved_tensors, *moved)
        return None, *_spread(out_tangents, ctx.differentiable)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], program: JaxProgram, constants: tuple[Any, ...], *tensors: torch.Tensor
    ) -> tuple[tuple[Any, ...], tuple[int | None, ...]]:
        outputs = _AutogradCall.apply(program.vmap(in_dims[2:], int(info.batch_size)), constants, *tensors)
        return outputs, (None, *[0] * (len(outputs) - 1))


def as_torch(
    fn: Callable[..., Any],
    *,
    static_argnums: int | Iterable[int] = (),
    static_argnames: str | Iterable[str] = (),
) -> Callable[..., Any]:
    """Make a JAX function a torch function with autograd.

    The forward and the backward pass are compiled, once for each set of shapes, dtypes and static values, and
    found again in later calls. Derivatives of every order work, as do ``torch.func`` (``grad``, ``vjp``, ``jvp``,
    ``vmap``, ``jacrev``, ``jacfwd``, ``hessian``), ``torch.no_grad`` and ``inference_mode``. Batched gradients of the
    older interface (``torch.autograd.grad`` with ``is_grads_batched``) do not; use ``torch.func.vmap``.

    Under ``torch.compile`` a call is one custom operator, without a graph break, for backends that trace with
    AOTAutograd (inductor). An argument that Dynamo cannot put into a graph, such as a JAX dtype, makes a graph break,
    and so an error with ``fullgraph=True``; bind such arguments beforehand with ``functools.partial``. So it is in the
    graphs of ``make_fx`` and ``torch.func.linearize``, which are for the process that made them.

    ``torch.export.export(..., strict=False)`` takes the compiled function along, for the shapes and the platform that
    it was exported on (package flatbuffers), without its derivatives; what loads it imports ``as_torch`` first. The
    function can be pickled, as in ``torch.save`` of a module, if ``fn`` can or is found by its name.

    Arguments and results may be nested in anything that ``jax.tree`` knows. In the arguments

    - tensors are what is differentiated; integer tensors, those that need no gradient and those that no result
      depends on get None;
    - JAX and NumPy arrays and floats are traced by JAX and have no gradient;
    - everything else, such as an int, a bool, a string, a dtype or a function, is static: it must be hashable,
      and each new value compiles anew. An int that changes with every call is better passed as a tensor.

    The backward pass starts from the inputs, which are all that a call keeps, and computes intermediate values
    once more. For an activation that is the fastest way; for a deep network it costs one more forward pass.

    If any tensor is float64 or complex128, the call runs in JAX's 64-bit mode, whether or not that is enabled.
    Otherwise results are what JAX gives: with 64-bit mode off an int64 tensor becomes int32, or is an
    ``OverflowError`` if that cannot hold it, and integer results are int32.

    Args:
        fn: A function of ``jax.Array``s that ``jax.jit`` accepts.
        static_argnums: Positions of arguments that are static although they are floats or containers.
        static_argnames: Names of such arguments.

    Returns:
        A function of the same arguments, with tensors in the place of arrays.

    Raises:
        TypeError: If ``fn`` is not callable or is a torch module; when called, for a JAX tracer, a tensor that
            JAX cannot hold (sparse, quantized, meta) or a static value that is not hashable; under
            ``torch.jit.trace``, ``torch.fx.symbolic_trace`` and ``torch.export`` with ``strict=True``.
        ValueError: If ``static_argnums`` or ``static_argnames`` name no parameter of ``fn``.

    Example:
        >>> import jax.numpy as jnp, torch
        >>> from jaxact.interop import as_torch
        >>> softplus = as_torch(lambda x: jnp.logaddexp(x, 0.0))
        >>> x = torch.zeros(3, requires_grad=True)
        >>> softplus(x).sum().backward()
        >>> x.grad
        tensor([0.5000, 0.5000, 0.5000])

    See Also:
        :class:`torch.autograd.Function`
    """
    if not callable(fn):
        raise TypeError(f"as_torch: fn must be a JAX function, got {type(fn).__name__}")
    if isinstance(fn, torch.nn.Module):
        raise TypeError(
            f"as_torch: fn must be a JAX function, got the torch module {type(fn).__name__}, which torch can call "
            "as it is; jaxact.interop.as_jax makes it a JAX function"
        )
    return _TorchFunction(fn, _StaticArguments(fn, static_argnums, static_argnames))


class _TorchFunction:
    """What :func:`as_torch` returns: as a function, but that it can be pickled wherever ``fn`` can."""

    def __init__(self, fn: Callable[..., Any], declared: "_StaticArguments") -> None:
        functools.update_wrapper(self, fn)
        self._fn = fn
        self._declared = declared
        self._program = functools.cache(self._program_of)
        self._handle = handle_of(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.compiler.is_dynamo_compiling():
            return self.call(*args, **kwargs)
        if _EXPORT_IS_KNOWN and torch.compiler.is_exporting():
            raise TypeError("as_torch: torch.export cannot take a JAX function along, but with strict=False it can")
        from . import _graph_call

        return _graph_call.call(self._handle, args, kwargs)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Call the JAX function, at once."""
        if torch.jit.is_tracing():  # type: ignore[attr-defined]  # public, but not listed
            raise TypeError(
                "as_torch: torch.jit.trace cannot hold a JAX function; torch.export.export with strict=False can"
            )
        layout, values = lay_out("as_torch", *self._declared.mark(args, kwargs), _kind)
        constants = tuple(values.get(_CONSTANTS, ()))
        structure, *results = _AutogradCall.apply(self._program(layout), constants, *values.get(_TENSORS, ()))
        return jax.tree.unflatten(structure, results)

    def _program_of(self, layout: Layout) -> JaxProgram:
        def flat(constants: Any, *tensors: jax.Array) -> Any:
            args, kwargs = layout.fill(tensors=tensors, constants=constants)
            return self._fn(*args, **kwargs)

        return JaxProgram(flat)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __deepcopy__(self, memo: Any) -> "_TorchFunction":
        return self

    def __reduce__(self) -> Any:
        """Pickle by name what its name finds, as functions are pickled, and else what it is made of."""
        if _is_found_by_name(self):
            return self.__qualname__  # type: ignore[attr-defined]  # update_wrapper has set it
        declared = tuple(self._declared.positions), tuple(self._declared.names)
        if _is_found_by_name(self._fn):  # which jitted functions don't do by themselves
            return _as_torch_by_name, (self._fn.__module__, self._fn.__qualname__, *declared)
        return _as_torch, (self._fn, *declared)


def _as_torch(fn: Callable[..., Any], positions: tuple[int, ...], names: tuple[str, ...]) -> Callable[..., Any]:
    return as_torch(fn, static_argnums=positions, static_argnames=names)


def _as_torch_by_name(module: str, name: str, *declared: Any) -> Callable[..., Any]:
    return _as_torch(operator.attrgetter(name)(importlib.import_module(module)), *declared)


def _is_found_by_name(function: Any) -> bool:
    found: Any = sys.modules.get(getattr(function, "__module__", None) or "")
    for name in (getattr(function, "__qualname__", None) or "").split("."):
        found = getattr(found, name, None)
    return found is function


class _StaticArguments:
    """Which arguments of ``fn`` the caller declares static, by position or by name."""

    def __init__(self, fn: Callable[..., Any], argnums: int | Iterable[int], argnames: str | Iterable[str]) -> None:
        self.positions = {argnums} if isinstance(argnums, int) else set(argnums)
        self.names = {argnames} if isinstance(argnames, str) else set(argnames)
        if not (self.positions or self.names):
            return
        parameters = list(inspect.signature(fn).parameters)
        if unknown := self.names.difference(parameters):
            raise ValueError(f"as_torch: static_argnames has {sorted(unknown)}, but fn has the parameters {parameters}")
        if beyond := self.positions.difference(range(len(parameters))):
            raise ValueError(
                f"as_torch: static_argnums has {sorted(beyond)}, but the parameters {parameters} count from 0 to "
                f"{len(parameters) - 1}"
            )
        # An argument declared by name may be passed by position, and the other way round.
        self.positions |= {parameters.index(name) for name in self.names}
        self.names |= {parameters[position] for position in self.positions}

    def mark(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments with those declared static wrapped, so that they count as leaves."""
        if not (self.positions or self.names):
            return args, kwargs
        return (
            tuple(static("as_torch", arg) if i in self.positions else arg for i, arg in enumerate(args)),
            {name: static("as_torch", arg) if name in self.names else arg for name, arg in kwargs.items()},
        )


def _kind(leaf: Any) -> str:
    if isinstance(leaf, torch.Tensor):
        return _TENSORS
    if isinstance(leaf, jax.core.Tracer):
        raise TypeError(
            "as_torch: got a traced JAX array; the function takes torch tensors and runs at once, so it cannot be "
            "called under jax.jit, jax.grad or jax.vmap; call the JAX function itself there"
        )
    if isinstance(leaf, torch.fx.Proxy):
        raise TypeError(
            "as_torch: torch.fx.symbolic_trace cannot look into a JAX function; name the function to torch.fx.wrap, or "
            "record with torch.fx.experimental.proxy_tensor.make_fx"
        )
    if isinstance(leaf, (jax.Array, np.ndarray, np.generic, float, complex)):
        return _CONSTANTS
    return STATIC


def _is_inexact(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _spread(values: Iterable[Any], where: Iterable[bool]) -> list[Any]:
    """Return ``values`` laid out on the true places of ``where``, with None on the others."""
    remaining = iter(values)
    return [next(remaining) if here else None for here in where]

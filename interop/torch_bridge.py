"""JAX functions in PyTorch: :func:`as_torch`.

A call sorts its arguments into tensors, constants (which JAX traces but nobody differentiates) and static
values. Static values and structure pick a :class:`_Program`, a JAX function of flat arrays, compiled once for
each set of shapes and dtypes. A program's derivatives and its batched form are programs again, so that one
``torch.autograd.Function`` serves derivatives of every order and every transform of ``torch.func``.
"""

import base64
import contextlib
import functools
import importlib
import inspect
import itertools
import operator
import sys
import types
import uuid
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import torch

from ._arguments import STATIC, Layout, lay_out, static
from .tensors import to_jax, to_numpy, to_torch

_TENSORS = "tensors"
_CONSTANTS = "constants"
_WIDE_INTEGERS = (torch.int64, torch.uint64)
_DOUBLES = (torch.float64, torch.complex128)


# The functions that as_torch has returned, for _compiled to find by a number, which is what a graph can hold.
bridges: weakref.WeakValueDictionary[int, "_Bridge"] = weakref.WeakValueDictionary()

_handles = itertools.count()


class _Program:
    """A JAX function ``fn(constants, *arrays)`` that returns a tree of arrays, jitted, with what derives from it.

    Every program that derives from it is made once, so that its compiled code is found again.
    """

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn
        self.jitted = jax.jit(fn)
        self.vjp = functools.cache(self._vjp)
        self.jvp = functools.cache(self._jvp)
        self.vmap = functools.cache(self._vmap)

    def __call__(self, constants: tuple[Any, ...], tensors: tuple[torch.Tensor, ...]) -> tuple[Any, ...]:
        """Return the structure of the result followed by its tensors."""
        if not _is_recorded(tensors):
            return self.run(constants, tensors)
        # What is done with the tensors is written down, to be done later with others: what is written is an operator.
        structure = jax.tree.structure(self.result_shapes(constants, tensors))
        if torch.compiler.is_exporting():
            return structure, *_run_exported(self.exported(constants, tensors), list(tensors))
        return structure, *_run_recorded(_name_of(self, constants), list(tensors))

    def run(self, constants: tuple[Any, ...], tensors: tuple[torch.Tensor, ...]) -> tuple[Any, ...]:
        """Run on tensors with data, and return the structure of the result followed by its tensors.

        XLA gives every output a buffer of its own that nothing else refers to, so sharing it is safe:
        writing into a result changes neither an input nor another result nor what JAX holds. Where nothing is
        compiled it may be an input or a constant of the function, and is copied.
        """
        with _precision_of(tensors), _transfers_allowed():
            result = self.jitted(_arrays(constants), *map(_into_jit, tensors))
        leaves, structure = jax.tree.flatten(result)
        if jax.config.jax_disable_jit:  # type: ignore[attr-defined]
            leaves = [to_torch(leaf, copy=True) for leaf in leaves]
        return structure, *map(_out_of_jit, leaves)

    def result_shapes(self, constants: tuple[Any, ...], tensors: tuple[torch.Tensor, ...]) -> Any:
        """Return the result's tree with a ``jax.ShapeDtypeStruct`` for each array, without running anything."""
        with _precision_of(tensors):
            return jax.eval_shape(self.jitted, _arrays(constants), *map(_shape_of, tensors))

    def exported(self, constants: tuple[Any, ...], tensors: tuple[torch.Tensor, ...]) -> str:
        """Return the program for arrays of these shapes and dtypes, with its constants, as text."""
        with _precision_of(tensors):
            bound = jax.jit(functools.partial(self.fn, _arrays(constants)))
            program = jax.export.export(bound)(*map(_shape_of, tensors))
        try:
            return base64.b64encode(program.serialize()).decode()
        except ImportError as error:
            message = "as_torch: a torch.export needs flatbuffers to take a JAX function along: pip install flatbuffers"
            raise ModuleNotFoundError(message, name="flatbuffers") from error

    def _vjp(self, wanted: tuple[bool, ...]) -> "_Program":
        """Return the program of (inputs, cotangents of the inexact outputs) to gradients of the wanted inputs.

        A torch gradient is the complex conjugate of JAX's. It is None for an input that no output depends on.
        """

        def fn(constants: Any, *values: jax.Array) -> list[jax.Array | None]:
            inputs, cotangents = values[: len(wanted)], values[len(wanted) :]
            outputs_of, differentiated = self._restricted(constants, inputs, wanted)
            used = _used(jax.make_jaxpr(outputs_of)(*differentiated).jaxpr)
            _, pull_back = jax.vjp(outputs_of, *differentiated)
            gradients = pull_back([jnp.conj(c) for c in cotangents])
            return [jnp.conj(gradient) if use else None for gradient, use in zip(gradients, used, strict=True)]

        return _Program(fn)

    def _jvp(self, moving: tuple[bool, ...]) -> "_Program":
        """Return the program of (inputs, tangents of the moving inputs) to tangents of the inexact outputs."""

        def fn(constants: Any, *values: jax.Array) -> list[jax.Array]:
            inputs, tangents = values[: len(moving)], values[len(moving) :]
            outputs_of, differentiated = self._restricted(constants, inputs, moving)
            _, out_tangents = jax.jvp(outputs_of, differentiated, tangents)
            return out_tangents

        return _Program(fn)

    def _vmap(self, in_axes: tuple[int | None, ...], axis_size: int) -> "_Program":
        """Return the program over a batch of that size, which lies on these axes of the inputs."""
        return _Program(jax.vmap(self.fn, in_axes=(None, *in_axes), axis_size=axis_size))

    def _restricted(
        self, constants: Any, inputs: tuple[jax.Array, ...], chosen: tuple[bool, ...]
    ) -> tuple[Callable[..., list[jax.Array]], tuple[jax.Array, ...]]:
        """Return ``fn`` as a function of the chosen inputs to its inexact outputs, and those inputs."""

        def outputs_of(*differentiated: jax.Array) -> list[jax.Array]:
            values = iter(differentiated)
            outputs = self.fn(constants, *[next(values) if c else x for c, x in zip(chosen, inputs, strict=True)])
            return [out for out in jax.tree.leaves(outputs) if jnp.issubdtype(jnp.result_type(out), jnp.inexact)]

        return outputs_of, tuple(itertools.compress(inputs, chosen))


# The calls that recorded graphs refer to, by a name that no other process gives. A graph is kept for the life of the
# process, and so are they.
recorded: dict[str, tuple[_Program, tuple[Any, ...]]] = {}
_PROCESS = uuid.uuid4().hex


def _name_of(program: _Program, constants: tuple[Any, ...]) -> str:
    """Return a name under which a graph finds a call of a program."""
    name = f"{_PROCESS}/{len(recorded)}"
    recorded[name] = program, constants
    return name


def _named(name: str) -> tuple[_Program, tuple[Any, ...]]:
    if name not in recorded:
        raise RuntimeError(
            "as_torch: this graph was recorded in another process, whose JAX functions did not come along; save it with "
            "torch.export, which takes the compiled function along, or record it here"
        )
    return recorded[name]


@torch.library.custom_op("jaxact::recorded", mutates_args=())
def _run_recorded(name: str, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """Run a program of this process as an operator, which torch's tracers do not look into."""
    program, constants = _named(name)
    return list(program.run(constants, tuple(tensors))[1:])


@_run_recorded.register_fake
def _(name: str, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    program, constants = _named(name)
    return _without_data(jax.tree.leaves(program.result_shapes(constants, tuple(tensors))), tensors)


@torch.library.custom_op("jaxact::exported", mutates_args=())
def _run_exported(program: str, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """Run a program that came along with a graph, in whatever process that is loaded."""
    return list(_loaded(program).run((), tuple(tensors))[1:])


@_run_exported.register_fake
def _(program: str, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    return _without_data(jax.tree.leaves(_loaded(program).result_shapes((), tuple(tensors))), tensors)


@functools.cache
def _loaded(program: str) -> _Program:
    """Return the program that :meth:`_Program.exported` wrote."""
    exported = jax.export.deserialize(bytearray(base64.b64decode(program)))
    return _Program(lambda _constants, *arrays: exported.call(*arrays))


def _without_data(shapes: list[Any], tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    device = tensors[0].device if tensors else None
    return [torch.empty(s.shape, dtype=getattr(torch, s.dtype.name), device=device) for s in shapes]


def _used(jaxpr: Any) -> list[bool]:
    """Say for each input of a traced function whether an output depends on it, as far as its operations tell."""
    needed = {id(variable) for variable in jaxpr.outvars}
    for equation in reversed(jaxpr.eqns):
        if needed.isdisjoint(map(id, equation.outvars)):
            continue
        inner = [p for p in map(_jaxpr_of, equation.params.values()) if p and len(p.invars) == len(equation.invars)]
        uses = _used(inner[0]) if len(inner) == 1 else [True] * len(equation.invars)
        needed.update(id(variable) for variable, use in zip(equation.invars, uses, strict=True) if use)
    return [id(variable) in needed for variable in jaxpr.invars]


def _jaxpr_of(parameter: Any) -> Any:
    """Return the traced function that a parameter of an operation is, if it is one."""
    parameter = getattr(parameter, "jaxpr", parameter)
    return parameter if hasattr(parameter, "eqns") else None


def _keep_signature(function: Any) -> Any:
    """Store the signature, which ``Function.apply`` asks for at every call: 12 of its 45 microseconds."""
    function.__signature__ = inspect.signature(function)
    return function


class _Call(torch.autograd.Function):
    """A program called from torch: ``_Call.apply(program, constants, *tensors)``.

    What is saved for the backward pass is the inputs and nothing else; the compiled backward pass computes
    what else it needs from them.
    """

    @staticmethod
    @_keep_signature
    def forward(program: _Program, constants: tuple[Any, ...], *tensors: torch.Tensor) -> tuple[Any, ...]:
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
        structure, *gradients = _Call.apply(ctx.program.vjp(wanted), ctx.constants, *ctx.saved_tensors, *cotangents)
        return None, None, *_spread(jax.tree.unflatten(structure, gradients), wanted)

    @staticmethod
    def jvp(ctx: Any, _program: None, _constants: None, *tangents: torch.Tensor | None) -> tuple[Any, ...]:
        moving = tuple(tangent is not None for tangent in tangents)
        moved = itertools.compress(tangents, moving)
        _, *out_tangents = _Call.apply(ctx.program.jvp(moving), ctx.constants, *ctx.saved_tensors, *moved)
        return None, *_spread(out_tangents, ctx.differentiable)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], program: _Program, constants: tuple[Any, ...], *tensors: torch.Tensor
    ) -> tuple[tuple[Any, ...], tuple[int | None, ...]]:
        outputs = _Call.apply(program.vmap(in_dims[2:], int(info.batch_size)), constants, *tensors)
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
    and so an error with ``fullgraph=True``; bind such arguments beforehand with ``functools.partial``.

    Arguments and results may be nested in anything that ``jax.tree`` knows. In the arguments

    - tensors are what is differentiated; integer tensors and those that need no gradient get None;
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
            JAX cannot hold (sparse, quantized, meta) or a static value that is not hashable.
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
    return _Bridge(fn, _StaticArguments(fn, static_argnums, static_argnames))


class _Bridge:
    """What :func:`as_torch` returns: as a function, but that it can be pickled wherever ``fn`` can."""

    def __init__(self, fn: Callable[..., Any], declared: "_StaticArguments") -> None:
        functools.update_wrapper(self, fn)
        self._fn = fn
        self._declared = declared
        self._program = functools.cache(self._program_of)
        self._handle = next(_handles)
        bridges[self._handle] = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.compiler.is_dynamo_compiling():
            return self.call(*args, **kwargs)
        if torch.compiler.is_exporting():
            raise TypeError("as_torch: torch.export takes the compiled function along with strict=False, and not without")
        from . import _compiled

        return _compiled.call(self._handle, args, kwargs)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Call the JAX function, at once."""
        if torch.jit.is_tracing():
            raise TypeError(
                "as_torch: torch.jit.trace cannot hold a JAX function; torch.export.export with strict=False can"
            )
        layout, values = lay_out("as_torch", *self._declared.mark(args, kwargs), _kind)
        constants = tuple(values.get(_CONSTANTS, ()))
        structure, *results = _Call.apply(self._program(layout), constants, *values.get(_TENSORS, ()))
        return jax.tree.unflatten(structure, results)

    def _program_of(self, layout: Layout) -> _Program:
        def flat(constants: Any, *tensors: jax.Array) -> Any:
            args, kwargs = layout.fill(tensors=tensors, constants=constants)
            return self._fn(*args, **kwargs)

        return _Program(flat)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __deepcopy__(self, memo: Any) -> "_Bridge":
        return self

    def __reduce__(self) -> Any:
        """Pickle by name what its name finds, as functions are pickled, and else what it is made of."""
        if _is_found_by_name(self):
            return self.__qualname__
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


def _arrays(constants: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(to_jax(c) if isinstance(c, (np.ndarray, np.generic)) else c for c in constants)


@functools.cache
def _all_on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def _into_jit(tensor: torch.Tensor) -> Any:
    """Return a tensor as what a jitted function takes.

    That is a NumPy view, which costs a third of a DLPack import and goes to the device of the other arguments, unless
    that would move the data to another device. Of 64-bit integers it is checked whether they fit into 32 bits.
    """
    if not (tensor.is_cpu and _all_on_cpu()):
        return to_jax(tensor)
    if tensor.dtype in _WIDE_INTEGERS:
        return np.asarray(to_jax(tensor))
    return to_numpy(tensor)


def _out_of_jit(array: jax.Array) -> torch.Tensor:
    """Return a result as a tensor, on the CPU by way of a NumPy view for the same reason."""
    return to_torch(to_numpy(array) if _all_on_cpu() else array)


def _is_inexact(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _spread(values: Iterable[Any], where: Iterable[bool]) -> list[Any]:
    """Return ``values`` laid out on the true places of ``where``, with None on the others."""
    remaining = iter(values)
    return [next(remaining) if here else None for here in where]


def _precision_of(tensors: Iterable[torch.Tensor]) -> contextlib.AbstractContextManager[Any]:
    """Return the context to compute in: 64-bit mode where a tensor needs it, else as things are."""
    enabled = jax.dtypes.canonicalize_dtype(np.float64) == np.float64
    if enabled or not any(tensor.dtype in _DOUBLES for tensor in tensors):
        return contextlib.nullcontext()
    return jax.enable_x64(True)


def _transfers_allowed() -> contextlib.AbstractContextManager[Any]:
    """Return the context in which JAX takes tensors, which are none of its arrays, also where a transfer guard is set."""
    if jax.config.jax_transfer_guard_host_to_device in (None, "allow"):  # type: ignore[attr-defined]
        return contextlib.nullcontext()
    return jax.transfer_guard_host_to_device("allow")


def _is_recorded(tensors: Iterable[torch.Tensor]) -> bool:
    """Say whether torch writes down what is done with the tensors: it compiles, exports, or makes an FX graph."""
    # torch.func.linearize and make_fx record with tensors that have data.
    recorder = sys.modules.get("torch.fx.experimental.proxy_tensor")
    return (
        torch.compiler.is_compiling()
        or any(map(_stands_in, tensors))
        or (recorder is not None and recorder.get_proxy_mode() is not None)
    )


def _stands_in(tensor: torch.Tensor) -> bool:
    """Say whether the tensor stands for one in a trace, which ``is_compiling`` says only in newer releases of torch."""
    return type(tensor).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__


def _shape_of(tensor: torch.Tensor) -> jax.ShapeDtypeStruct:
    dtype = jax.dtypes.canonicalize_dtype(str(tensor.dtype).removeprefix("torch."))
    return jax.ShapeDtypeStruct(tuple(map(int, tensor.shape)), dtype)

"""JAX functions run on tensors: compiled, differentiated, batched, and recorded for torch's tracers."""

import base64
import contextlib
import functools
import itertools
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import torch

from ._dense import is_recorded
from ._to_jax import to_jax
from ._to_numpy import to_numpy
from ._to_torch import to_torch
from ._torch_private import active_fake_mode

_WIDE_INTEGERS = (torch.int64, torch.uint64)
_DOUBLES = (torch.float64, torch.complex128)


class JaxProgram:
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
        if jax.config.jax_disable_jit:  # type: ignore[attr-defined]  # JAX makes its options at run time
            return structure, *[to_torch(leaf, copy=True) for leaf in leaves]
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

    def _vjp(self, wanted: tuple[bool, ...]) -> "JaxProgram":
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

        return JaxProgram(fn)

    def _jvp(self, moving: tuple[bool, ...]) -> "JaxProgram":
        """Return the program of (inputs, tangents of the moving inputs) to tangents of the inexact outputs."""

        def fn(constants: Any, *values: jax.Array) -> list[jax.Array]:
            inputs, tangents = values[: len(moving)], values[len(moving) :]
            outputs_of, differentiated = self._restricted(constants, inputs, moving)
            _, out_tangents = jax.jvp(outputs_of, differentiated, tangents)
            return out_tangents

        return JaxProgram(fn)

    def _vmap(self, in_axes: tuple[int | None, ...], axis_size: int) -> "JaxProgram":
        """Return the program over a batch of that size, which lies on these axes of the inputs."""
        return JaxProgram(jax.vmap(self.fn, in_axes=(None, *in_axes), axis_size=axis_size))

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
recorded: dict[str, tuple[JaxProgram, tuple[Any, ...]]] = {}
_PROCESS = uuid.uuid4().hex


def _name_of(program: JaxProgram, constants: tuple[Any, ...]) -> str:
    """Return a name under which a graph finds a call of a program."""
    name = f"{_PROCESS}/{len(recorded)}"
    recorded[name] = program, constants
    return name


def _named(name: str) -> tuple[JaxProgram, tuple[Any, ...]]:
    if name not in recorded:
        raise RuntimeError(
            "as_torch: this graph was recorded in another process, whose JAX functions did not come along; record it "
            "here, or save it with torch.export, which takes them along"
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
def _loaded(program: str) -> JaxProgram:
    """Return the program that :meth:`JaxProgram.exported` wrote."""
    exported = jax.export.deserialize(bytearray(base64.b64decode(program)))
    return JaxProgram(lambda _constants, *arrays: exported.call(*arrays))


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
        # A derivative rule may give a gradient to what the function itself does not use.
        ruled = equation.primitive.name.startswith("custom_")
        uses = _used(inner[0]) if len(inner) == 1 and not ruled else [True] * len(equation.invars)
        needed.update(id(variable) for variable, use in zip(equation.invars, uses, strict=True) if use)
    return [id(variable) in needed for variable in jaxpr.invars]


def _jaxpr_of(parameter: Any) -> Any:
    """Return the traced function that a parameter of an operation is, if it is one."""
    parameter = getattr(parameter, "jaxpr", parameter)
    return parameter if hasattr(parameter, "eqns") else None


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


def _precision_of(tensors: Iterable[torch.Tensor]) -> contextlib.AbstractContextManager[Any]:
    """Return the context to compute in: 64-bit mode where a tensor needs it, else as things are."""
    enabled = jax.dtypes.canonicalize_dtype(np.float64) == np.float64
    if enabled or not any(tensor.dtype in _DOUBLES for tensor in tensors):
        return contextlib.nullcontext()
    return jax.enable_x64(True)


def _transfers_allowed() -> contextlib.AbstractContextManager[Any]:
    """Return the context in which JAX takes arrays that are not its own, also where a transfer guard is set."""
    guard = jax.config.jax_transfer_guard_host_to_device  # type: ignore[attr-defined]  # JAX makes its options at run time
    if guard in (None, "allow"):
        return contextlib.nullcontext()
    return jax.transfer_guard_host_to_device("allow")


def _is_recorded(tensors: Iterable[torch.Tensor]) -> bool:
    """Say whether torch does not compute: it compiles, exports, makes an FX graph, or asks for shapes alone."""
    return (
        torch.compiler.is_compiling()
        or any(map(_stands_in, tensors))
        or is_recorded()
        or active_fake_mode() is not None
    )


def _stands_in(tensor: torch.Tensor) -> bool:
    """Say whether the tensor stands for one in a trace, which ``is_compiling`` says only in newer releases of torch."""
    return type(tensor).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__


def _shape_of(tensor: torch.Tensor) -> jax.ShapeDtypeStruct:
    dtype = jax.dtypes.canonicalize_dtype(str(tensor.dtype).removeprefix("torch."))
    return jax.ShapeDtypeStruct(tuple(map(int, tensor.shape)), dtype)

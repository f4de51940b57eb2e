"""A torch function as an operation of JAX: the primitive ``torch_call``, and all that JAX asks of one.

A :class:`TorchProgram` is a torch function of flat tensors; ``program(*arrays)`` runs it on the host. Its derivatives
and its batched form are programs again, so that the rules below hold for derivatives of every order. Two programs
derive from a program and the choice of some inputs and outputs: ``jvp`` takes tangents of those inputs to tangents of
those outputs, ``vjp`` cotangents of those outputs to cotangents of those inputs. Both are linear in what they take,
and each is the other's transpose. JAX says which inputs move, and nothing is asked of torch for the others.

A callback must not wait for JAX. The CPU client runs callbacks, kernels and large copies in the same few threads,
so that a callback which waits for one of them may wait forever. Hence no callback touches ``jax.numpy``, and on
the CPU the callback is ``jax.experimental.buffer_callback``, which sees XLA's own buffers: ``jax.pure_callback``
copies its arguments to JAX arrays first, and on a machine with one core that hangs for arrays of 16 MB.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax.experimental.buffer_callback import buffer_callback
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.sharding import NamedSharding, PartitionSpec

from jaxact._dtypes import fits

from ._shard_map import varying_alike
from ._to_numpy import to_numpy
from ._to_torch import to_torch
from ._torch_modes import undisturbed

Shapes = list[jax.ShapeDtypeStruct]
Then = Callable[[list[torch.Tensor]], Any]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What holds for a program and for all that derives from it.

    Attributes:
        batched: Whether ``jax.vmap`` runs it once, under ``torch.func.vmap``, and not one by one.
        default_dtype: torch's default dtype while it runs.
    """

    batched: bool
    default_dtype: torch.dtype


@dataclasses.dataclass(frozen=True)
class Derivation:
    """How a program derives from another.

    Attributes:
        program: The program whose derivative it is.
        moving: Which of its inputs are differentiated.
        got: Which of its outputs are.
        forward: Whether it takes tangents of the inputs to those of the outputs, or cotangents the other way.
    """

    program: "TorchProgram"
    moving: tuple[bool, ...]
    got: tuple[bool, ...]
    forward: bool


class TorchProgram:
    """A torch function of flat tensors to a list of tensors.

    Every program that derives from it is made once, so that its compiled code is found again.

    Attributes:
        name: What it is called where JAX prints it.
        run: Runs the torch function on tensors, and returns what ``then`` makes of the results. All that follows from
            them is done in ``then``, because a backward pass may call the function again, as a checkpoint does.
        shapes_of: Returns the results' shapes and JAX dtypes for those of the arguments.
        settings: What it runs under.
        derivation: If it is a derivative, of what.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Sequence[torch.Tensor], Then], Any],
        shapes_of: Callable[..., Shapes],
        settings: Settings,
        derivation: Derivation | None = None,
    ) -> None:
        self.name = name
        self.run = run
        self.shapes_of = shapes_of
        self.settings = settings
        self.derivation = derivation
        self.jvp = functools.cache(self._jvp)
        self.vjp = functools.cache(self._vjp)
        self.vmap = functools.cache(self._vmap)

    def __repr__(self) -> str:
        return self.name

    # JAX's caches keep what can be called weakly, and everything else alive.
    def __call__(self, *arrays: jax.Array) -> list[jax.Array]:
        """Return the results, as an operation that JAX transforms."""
        return _torch_call.bind(*varying_alike(arrays), program=self)

    def _jvp(self, moving: tuple[bool, ...], got: tuple[bool, ...]) -> "TorchProgram":
        """Return the program of (inputs, tangents of the moving inputs) to the tangents of the outputs got.

        The gradient is linear in the cotangents, wherever they are; its own gradient with respect to them is
        what takes tangents forward. That is reverse mode alone, which torch has for more functions than forward
        mode, and at any depth.
        """

        def run(values: Sequence[torch.Tensor], then: Then) -> Any:
            def push(inputs: list[torch.Tensor], outputs: list[torch.Tensor]) -> Any:
                cotangents = [torch.zeros_like(output, requires_grad=True) for output in outputs]
                gradients = _gradients(outputs, inputs, cotangents, create_graph=True)
                return then(_gradients(gradients, cotangents, values[len(moving) :], _in_a_graph(values)))

            return self._run_in_a_graph(values, moving, got, push)

        def shapes_of(*values: jax.ShapeDtypeStruct) -> Shapes:
            return list(itertools.compress(self.shapes_of(*values[: len(moving)]), got))

        return TorchProgram(f"jvp({self})", run, shapes_of, self.settings, Derivation(self, moving, got, forward=True))

    def _vjp(self, moving: tuple[bool, ...], got: tuple[bool, ...]) -> "TorchProgram":
        """Return the program of (inputs, cotangents of the outputs got) to the cotangents of the moving inputs."""

        def run(values: Sequence[torch.Tensor], then: Then) -> Any:
            def pull(inputs: list[torch.Tensor], outputs: list[torch.Tensor]) -> Any:
                return then(_gradients(outputs, inputs, values[len(moving) :], _in_a_graph(values)))

            return self._run_in_a_graph(values, moving, got, pull)

        def shapes_of(*values: jax.ShapeDtypeStruct) -> Shapes:
            return list(itertools.compress(values, moving))

        return TorchProgram(f"vjp({self})", run, shapes_of, self.settings, Derivation(self, moving, got, forward=False))

    def _run_in_a_graph(
        self,
        values: Sequence[torch.Tensor],
        moving: tuple[bool, ...],
        got: tuple[bool, ...],
        then: Callable[[list[torch.Tensor], list[torch.Tensor]], Any],
    ) -> Any:
        """Run the function, and return what ``then`` makes of the moving inputs and the outputs got."""
        inputs = [
            value.detach().requires_grad_() if moves and not value.requires_grad else value
            for moves, value in zip(moving, values, strict=False)
        ]
        # Clones, because torch forbids writing into the leaves of a graph and the function may do that.
        clones = [value.clone() if moves else value for moves, value in zip(moving, inputs, strict=True)]
        moved = list(itertools.compress(inputs, moving))
        return self.run(clones, lambda outputs: then(moved, list(itertools.compress(outputs, got))))

    def _vmap(self, mapped: tuple[bool, ...], size: int) -> "TorchProgram":
        """Return the program over a batch of that size, which lies on the first axis of all outputs.

        Of the inputs it lies on the first axis of those mapped; a derivative maps all that :meth:`mapped_always`
        says.
        """
        if self.derivation is not None:
            # A derivative of the batch, where nothing that is differentiated is shared by its members.
            moving, got = self.derivation.moving, self.derivation.got
            of = self.derivation.program.vmap(mapped[: len(moving)], size)
            return of.jvp(moving, got) if self.derivation.forward else of.vjp(moving, got)

        in_dims = tuple(0 if maps else None for maps in mapped)

        def run(values: Sequence[torch.Tensor], then: Then) -> Any:
            return then(list(torch.func.vmap(lambda *one: self.run(one, tuple), in_dims)(*values)))

        def shapes_of(*values: jax.ShapeDtypeStruct) -> Shapes:
            one = [
                jax.ShapeDtypeStruct(value.shape[1:], value.dtype) if maps else value
                for maps, value in zip(mapped, values, strict=True)
            ]
            return [jax.ShapeDtypeStruct((size, *shape.shape), shape.dtype) for shape in self.shapes_of(*one)]

        return TorchProgram(f"vmap({self})", run, shapes_of, self.settings)

    def mapped_always(self) -> Iterator[bool]:
        """Yield for each input whether it must be mapped in a batch: those that are differentiated must.

        What is left over counts as not.
        """
        if self.derivation is None:
            return
        inner = itertools.chain(self.derivation.program.mapped_always(), itertools.repeat(False))
        yield from (moves or maps for moves, maps in zip(self.derivation.moving, inner, strict=False))
        yield from itertools.repeat(
            True, sum(self.derivation.moving if self.derivation.forward else self.derivation.got)
        )


def _in_a_graph(values: Iterable[torch.Tensor]) -> bool:
    """Say whether what is computed from these tensors is differentiated in turn."""
    return any(value.requires_grad for value in values)


def _gradients(
    outputs: Sequence[torch.Tensor],
    inputs: Sequence[torch.Tensor],
    cotangents: Sequence[torch.Tensor],
    create_graph: bool,
) -> list[torch.Tensor]:
    """Return the gradients of the inputs, zeros where no output depends on them."""
    pulled = [
        (output, cotangent) for output, cotangent in zip(outputs, cotangents, strict=True) if output.requires_grad
    ]
    if not pulled:
        return [torch.zeros_like(value) for value in inputs]
    outputs, cotangents = zip(*pulled, strict=True)
    return list(torch.autograd.grad(outputs, inputs, cotangents, create_graph=create_graph, materialize_grads=True))


# On the host


def _on_host(program: TorchProgram, shapes: Shapes, *arrays: Any) -> list[np.ndarray]:
    return undisturbed(program.settings.default_dtype, _in_torch, program, shapes, arrays)


def _in_torch(program: TorchProgram, shapes: Shapes, arrays: tuple[Any, ...]) -> list[np.ndarray]:
    """Run a program on NumPy arrays. They are copied, because torch functions may write into their arguments."""
    tensors = [to_torch(np.asarray(array), copy=True) for array in arrays]
    return program.run(
        tensors,
        lambda results: [_as_promised(result, shape) for result, shape in zip(results, shapes, strict=True)],
    )


def _as_promised(result: torch.Tensor, shape: jax.ShapeDtypeStruct) -> np.ndarray:
    """Return a result as the NumPy array that JAX waits for."""
    if tuple(result.shape) != shape.shape:
        raise ValueError(
            f"as_jax: fn returned a tensor of shape {tuple(result.shape)} where {shape.shape} was expected; its "
            "result's shape may not depend on values, or result_shape_dtypes is wrong"
        )
    array = to_numpy(result)
    if array.dtype == shape.dtype:
        return array
    if array.dtype.kind != np.dtype(shape.dtype).kind or not fits(array, shape.dtype):
        raise OverflowError(
            f"as_jax: fn returned {array.dtype} that {shape.dtype} cannot hold; enable jax_enable_x64, or convert "
            "the result in fn"
        )
    return array.astype(shape.dtype)


# In JAX

_torch_call = Primitive("torch_call")
_torch_call.multiple_results = True


@_torch_call.def_impl
def _run_now(*arrays: jax.Array, program: TorchProgram) -> list[jax.Array]:
    with jax.disable_jit(False):  # this is called where jit is disabled, and nowhere else
        return jax.jit(program)(*arrays)


@_torch_call.def_abstract_eval
def _abstract(*arrays: Any, program: TorchProgram) -> list[Any]:
    if program.derivation is not None and not program.derivation.forward:
        # Gradients are like what they are gradients of, as JAX wants them to be, sharding and all.
        return [array.update(weak_type=False) for array in itertools.compress(arrays, program.derivation.moving)]
    shapes = program.shapes_of(*map(shape_of, arrays))
    if not arrays:
        return [jax.core.ShapedArray(shape.shape, shape.dtype) for shape in shapes]
    # On the mesh of the arguments, of which a constant knows nothing, and in a shard_map as varying as they are.
    like = next((array for array in arrays if not array.sharding.mesh.empty), arrays[0])
    return [
        like.update(
            shape=shape.shape,
            dtype=shape.dtype,
            weak_type=False,
            sharding=NamedSharding(like.sharding.mesh, PartitionSpec(*[None] * len(shape.shape))),
        )
        for shape in shapes
    ]


def _through_buffers(*arrays: jax.Array, program: TorchProgram) -> list[jax.Array]:
    shapes = program.shapes_of(*map(shape_of, arrays))

    def into_buffers(_context: Any, results: list[Any], *buffers: Any) -> None:
        for buffer, result in zip(results, _on_host(program, shapes, *buffers), strict=True):
            np.asarray(buffer)[...] = result

    return buffer_callback(into_buffers, shapes)(*arrays)


def _through_copies(*arrays: jax.Array, program: TorchProgram) -> list[jax.Array]:
    shapes = program.shapes_of(*map(shape_of, arrays))
    return jax.pure_callback(functools.partial(_on_host, program, shapes), shapes, *arrays)


mlir.register_lowering(_torch_call, mlir.lower_fun(_through_copies, multiple_results=True))
mlir.register_lowering(_torch_call, mlir.lower_fun(_through_buffers, multiple_results=True), platform="cpu")


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, program: TorchProgram) -> tuple[list[Any], list[Any]]:
    results = program(*primals)
    moving = tuple(type(tangent) is not ad.Zero for tangent in tangents)
    got = tuple(map(_is_inexact, results))
    moved: Iterator[Any] = iter(())
    if any(got):
        moved = iter(program.jvp(moving, got)(*primals, *itertools.compress(tangents, moving)))
    return results, [
        next(moved) if here else ad.Zero(jax.typeof(result).to_tangent_aval())
        for here, result in zip(got, results, strict=True)
    ]


def _transpose(cotangents: Sequence[Any], *args: Any, program: TorchProgram) -> list[Any]:
    """Transpose a derivative, in what it is linear in and JAX asks for.

    A torch gradient is the complex conjugate of JAX's.
    """
    assert program.derivation is not None
    moving, got = program.derivation.moving, program.derivation.got
    inputs, linear = args[: len(moving)], args[len(moving) :]
    asked = [ad.is_undefined_primal(value) for value in linear]
    given = [type(cotangent) is not ad.Zero for cotangent in cotangents]
    if program.derivation.forward:
        transposed = program.derivation.program.vjp(_among(moving, asked), _among(got, given))
    else:
        transposed = program.derivation.program.jvp(_among(moving, given), _among(got, asked))
    results = iter(transposed(*inputs, *map(jnp.conj, itertools.compress(cotangents, given))))
    return [None] * len(inputs) + [jnp.conj(next(results)) if here else None for here in asked]


def _among(chosen: Iterable[bool], kept: Iterable[bool]) -> tuple[bool, ...]:
    """Return ``chosen`` with only those of its true places left that are kept."""
    keep = iter(kept)
    return tuple(here and next(keep) for here in chosen)


def _batch(
    arrays: Sequence[Any], axes: Sequence[int | None], *, program: TorchProgram
) -> tuple[list[jax.Array], list[int]]:
    mapped = [axis is not None for axis in axes]
    size = next(array.shape[axis] for array, axis in zip(arrays, axes, strict=True) if axis is not None)
    arrays = [array if axis is None else jnp.moveaxis(array, axis, 0) for array, axis in zip(arrays, axes, strict=True)]
    if program.settings.batched:
        always = itertools.chain(program.mapped_always(), itertools.repeat(False))
        for i, needs in enumerate(itertools.islice(always, len(arrays))):
            if needs and not mapped[i]:
                arrays[i] = jnp.broadcast_to(arrays[i], (size, *arrays[i].shape))
                mapped[i] = True
        results = program.vmap(tuple(mapped), size)(*arrays)
    else:

        def one(rows: list[Any]) -> list[jax.Array]:
            row = iter(rows)
            return program(*[next(row) if maps else x for maps, x in zip(mapped, arrays, strict=True)])

        results = jax.lax.map(one, list(itertools.compress(arrays, mapped)))
    return results, [0] * len(results)


ad.primitive_jvps[_torch_call] = _jvp
ad.primitive_transposes[_torch_call] = _transpose
batching.primitive_batchers[_torch_call] = _batch


def shape_of(array: Any) -> jax.ShapeDtypeStruct:
    """Return shape and dtype of an array, or of what stands for one."""
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


def _is_inexact(array: jax.Array) -> bool:
    return jnp.issubdtype(array.dtype, jnp.inexact)

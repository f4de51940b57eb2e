"""Torch functions in JAX: :func:`as_jax`.

What a call's arguments and results are is decided here; ``_torch_program`` runs the function and differentiates it.
"""

import copy
import dataclasses
import functools
import types
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from ._arguments import STATIC, Layout, lay_out
from ._return_types import is_named_result, named_tuple
from ._to_jax import to_jax
from ._torch_modes import undisturbed_thread
from ._torch_module import ModuleFunction, module_key
from ._torch_private import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    TorchDispatchMode,
)
from ._torch_program import Settings, Shapes, TorchProgram, shape_of

_ARRAYS = "arrays"


def as_jax(
    fn: Callable[..., Any], *, result_shape_dtypes: Any = None, vmap_method: str = "sequential"
) -> Callable[..., Any]:
    """Make a torch function or module a JAX function that can be jitted, differentiated and vmapped.

    The result works under ``jit``, ``grad``, ``vjp``, ``jvp``, ``linearize``, ``jacrev``, ``jacfwd``, ``hessian``,
    ``vmap``, ``scan`` and ``checkpoint``. Torch runs on the host in a callback, forward and backward. Derivatives of
    every order work in both modes, and torch computes all of them in reverse mode: it is asked for gradients of the
    arguments that are differentiated, and of no others, so that the weights of a loss need none. Forward mode takes
    the gradient of the gradient, and so about as long as two passes backward.

    JAX and NumPy arrays in the arguments, nested in anything that ``jax.tree`` knows, reach ``fn`` as CPU tensors;
    every other argument, a number or a string, reaches it as it is and must be hashable. Integer arrays have the
    dtype that they have in JAX; if ``fn`` fails on int8, int16 or int32, as torch does where it takes labels or
    indices, it is called with int64.

    Results are tensors in such a tree. They get the dtype that JAX has for theirs: with 64-bit mode off float64 is
    rounded to float32, and int64 becomes int32 or is an ``OverflowError`` if that cannot hold it. What torch names,
    such as the result of ``torch.max`` along an axis, is a named tuple of the same names. A dataclass or a dict of
    a class of its own, such as a ``ModelOutput``, must be registered with ``jax.tree_util``; the error says how.

    **Modules.** From a module comes a ``jax.tree_util.Partial``, a pytree whose leaves are the parameters that
    require grad: ``net(x)`` calls it, ``jax.grad(lambda net, x: loss(net(x)))(net, x)`` differentiates it, and
    ``jax.tree.map`` over it and its gradient is a step of training. ``net.func(params, x)`` and ``net.args[0]``, a dict
    by name, are the parts. The module is copied, so that later changes to it do not show; buffers and frozen
    parameters are constants.

    **Pure functions only.** JAX may call ``fn`` any number of times, and the backward pass calls it again. So a
    function that draws random numbers (dropout in training mode) and a module that updates its buffers (batch
    norm in training mode) are refused: call ``module.eval()``, or draw in JAX and pass the result as an argument.
    What ``fn`` closes over is a constant to JAX, and gets no gradient.

    **Modes of torch** have no effect, wherever the call is made: ``fn`` runs with gradients on, and without
    ``inference_mode``, autocast, a default device, modes of ``torch.overrides`` or transforms of ``torch.func``. The
    default dtype is the one there was when ``as_jax`` was called; if it is another by then, it is set for the time
    of the call, for all threads. What says how torch computes and not what, such as deterministic algorithms, the
    number of threads and anomaly detection, holds in ``fn`` as everywhere.

    **Shapes** are found by running ``fn`` on fake tensors, which have no data. If ``fn`` looks at values (``.item()``,
    ``.numpy()``, ``if x.sum() > 0``), give ``result_shape_dtypes``; then nothing is run ahead, and the checks
    for random numbers and for buffers do not take place.

    **One for all.** Called again with the same function, ``as_jax`` returns the same object. Equal modules, which
    differ in nothing but the values of trainable parameters, share ``net.func``, so that what ``jax.jit`` has compiled
    for one serves the next; a module that holds objects of which nobody knows what makes them equal has its own.
    The result can be pickled if ``fn`` can, and a module always with its weights.

    Args:
        fn: A function of tensors, or a ``torch.nn.Module``.
        result_shape_dtypes: The result as a tree of ``jax.ShapeDtypeStruct``, if it cannot be found.
        vmap_method: How ``jax.vmap`` runs a batch: ``"sequential"``, one by one, or ``"batched"``, in one call under
            ``torch.func.vmap``, which is faster but does not take every function (none that looks at values or
            uses ``torch.autograd`` itself).

    Returns:
        A function of the same arguments, with arrays in the place of tensors.

    Raises:
        TypeError: If ``fn`` is not callable or ``result_shape_dtypes`` no tree of shapes; when called, for a torch
            tensor, an argument that is neither array nor hashable, or a result that is no tensor.
        ValueError: If there is no such ``vmap_method``; when called, if ``fn`` draws random numbers, updates buffers,
            or needs ``result_shape_dtypes``.

    Example:
        >>> import jax, jax.numpy as jnp, torch
        >>> from jaxact.interop import as_jax
        >>> softplus = as_jax(torch.nn.functional.softplus)
        >>> print(jax.jit(jax.vmap(jax.grad(softplus)))(jnp.zeros(3)))
        [0.5 0.5 0.5]

        >>> net = as_jax(torch.nn.Linear(2, 1))
        >>> gradient = jax.grad(lambda net, x: net(x).sum())(net, jnp.ones((3, 2)))
        >>> print(gradient.args[0]["weight"])
        [[3. 3.]]

        >>> loss = as_jax(torch.nn.functional.cross_entropy)
        >>> hessian = jax.jit(jax.hessian(loss))(jnp.zeros((1, 2)), jnp.array([1]))
        >>> print(hessian.reshape(2, 2))
        [[ 0.25 -0.25]
         [-0.25  0.25]]

    See Also:
        :func:`jax.pure_callback`, :func:`torch.func.functional_call`
    """
    if vmap_method not in ("sequential", "batched"):
        raise ValueError(f"as_jax: vmap_method must be 'sequential' or 'batched', got {vmap_method!r}")
    if not callable(fn):
        raise TypeError(f"as_jax: fn must be a torch function or module, got {type(fn).__name__}")
    settings = Settings(vmap_method == "batched", torch.get_default_dtype())
    if isinstance(fn, torch.nn.Module):
        return _module_as_jax(fn, result_shape_dtypes, settings)
    return _jax_function(fn, result_shape_dtypes, settings)


class _JaxFunction:
    """A torch function as a jitted JAX function, traced once for each layout and set of shapes and dtypes.

    What JAX traces is in a :class:`_Traced`, which does not know the jitted function: that JAX forgets what it has
    compiled once nobody has the function.

    Attributes:
        fn: The torch function.
        result_shape_dtypes: The result as a tree of ``jax.ShapeDtypeStruct``, or None.
        settings: What it runs under.
    """

    def __init__(self, fn: Callable[..., Any], result_shape_dtypes: Any, settings: Settings) -> None:
        functools.update_wrapper(self, fn, updated=())
        self.fn = fn
        self.result_shape_dtypes = result_shape_dtypes
        self.settings = settings
        self.run = jax.jit(_Traced(fn, result_shape_dtypes, settings).run, static_argnums=0)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_dynamo_compiling():
            from . import _graph_break

            return _graph_break.call(self._call, *args, **kwargs)
        return self._call(*args, **kwargs)

    def _call(self, *args: Any, **kwargs: Any) -> Any:
        layout, values = lay_out("as_jax", args, kwargs, _kind)
        arrays = [to_jax(x) if isinstance(x, (np.ndarray, np.generic)) else x for x in values.get(_ARRAYS, ())]
        return self.run(layout, *arrays)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Bind as a method, as a function does."""
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        return f"as_jax({self.fn!r})"

    # It never changes, and to copy it is to trace again.
    def __copy__(self) -> "_JaxFunction":
        return self

    def __deepcopy__(self, memo: Any) -> "_JaxFunction":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _jax_function, (self.fn, self.result_shape_dtypes, self.settings)


class _Traced:
    """A torch function, with what was found out about it for each layout and set of shapes and dtypes."""

    def __init__(self, fn: Callable[..., Any], result_shape_dtypes: Any, settings: Settings) -> None:
        self.fn = fn
        self.result_shape_dtypes = result_shape_dtypes
        self.settings = settings
        self.widened: set[Layout] = set()
        self.results_of = functools.cache(self._results_of)
        self.program = functools.cache(self._program)

    def run(self, layout: Layout, *arrays: jax.Array) -> Any:
        """Return the function's result, with JAX arrays as its leaves."""
        structure, _ = self.results_of(layout, tuple(map(shape_of, arrays)))
        return jax.tree.unflatten(structure, self.program(layout)(*arrays))

    def _program(self, layout: Layout) -> TorchProgram:
        def shapes_of(*shapes: jax.ShapeDtypeStruct) -> Shapes:
            results = self.results_of(layout, shapes)[1]
            return [jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(dtype)) for shape, dtype in results]

        name = getattr(self.fn, "__name__", type(self.fn).__name__)

        def run(tensors: Sequence[torch.Tensor], then: Callable[[list[torch.Tensor]], Any]) -> Any:
            return self._run_in_torch(layout, tensors, lambda result: then(_tensors_of(result)[1]))

        return TorchProgram(name, run, shapes_of, self.settings)

    def _results_of(self, layout: Layout, shapes: tuple[jax.ShapeDtypeStruct, ...]) -> tuple[Any, list[Any]]:
        """Return the structure of the result, and shape and dtype of each leaf."""
        if self.result_shape_dtypes is not None:
            leaves, structure = jax.tree.flatten(self.result_shape_dtypes)
            return structure, [(leaf.shape, jnp.dtype(leaf.dtype)) for leaf in leaves]
        fn = functools.partial(self._run_in_torch, layout)
        return undisturbed_thread(self.settings.default_dtype, _shapes_without_data, fn, shapes)

    def _run_in_torch(self, layout: Layout, tensors: Sequence[torch.Tensor], then: Callable[[Any], Any]) -> Any:
        """Call the function on tensors, and return what ``then`` makes of the result.

        Where torch takes indices and labels it often wants int64, which JAX has in 64-bit mode only. So if the function
        fails on narrower integers, it is tried on int64, and if that is right it stays so.
        """
        narrow = [tensor.dtype in _NARROW_INTEGERS for tensor in tensors]
        if not any(narrow):
            return self._call(layout, tensors, then)
        wide = [tensor.long() if here else tensor for here, tensor in zip(narrow, tensors, strict=True)]
        if layout in self.widened:
            return self._call(layout, wide, then)
        try:
            # Clones, for what the function has written when it fails.
            return self._call(layout, [tensor.clone() for tensor in tensors], then)
        except (RuntimeError, IndexError):
            results = self._call(layout, wide, then)
            self.widened.add(layout)
            return results

    def _call(self, layout: Layout, tensors: Iterable[torch.Tensor], then: Callable[[Any], Any]) -> Any:
        args, kwargs = layout.fill(arrays=tensors)
        if isinstance(self.fn, ModuleFunction):
            return self.fn.call(then, *args, **kwargs)
        return then(self.fn(*args, **kwargs))


def _module_as_jax(module: torch.nn.Module, result_shape_dtypes: Any, settings: Settings) -> jax.tree_util.Partial:
    """Return a copy of ``module`` as a function of its trainable parameters, with their values bound."""
    with torch.inference_mode(False):  # a copy made in that mode could not be differentiated
        of_module = ModuleFunction(copy.deepcopy(module).cpu())
    trainable = {name: value for name, value in of_module.module.named_parameters() if name in of_module.names}
    return jax.tree_util.Partial(_jax_function(of_module, result_shape_dtypes, settings), to_jax(trainable))


# The functions in use, by what they compute, so that what was traced and compiled for one serves the next.
_in_use: weakref.WeakValueDictionary[Any, _JaxFunction] = weakref.WeakValueDictionary()


def _jax_function(fn: Any, result_shape_dtypes: Any, settings: Settings) -> _JaxFunction:
    """Return the JAX function of a torch function: one in use that is known to be equal, or a new one."""
    shapes, structure = jax.tree.flatten(result_shape_dtypes)
    for shape in shapes:
        if not (hasattr(shape, "shape") and hasattr(shape, "dtype")):
            raise TypeError(
                "as_jax: result_shape_dtypes must be a tree of jax.ShapeDtypeStruct, or of arrays like the result, got "
                f"{shape!r} in it"
            )
    same = (structure, tuple((tuple(shape.shape), jnp.dtype(shape.dtype)) for shape in shapes), settings)
    # A JAX function holds its torch function, whose id is no other's as long as it does.
    key = (module_key(fn) if isinstance(fn, ModuleFunction) else id(fn), same)
    return _in_use.get(key) or _in_use.setdefault(key, _JaxFunction(fn, result_shape_dtypes, settings))


_ONE = jax.tree.structure(0)
_NARROW_INTEGERS = (torch.int8, torch.int16, torch.int32)


class _RefuseRandom(TorchDispatchMode):
    """Raises where an operator draws random numbers."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # The fused attention kernels bear the tag even where they drop nothing, and on the CPU they never do.
        fused_attention = "scaled_dot_product" in func.name() or "fused_sdp" in func.name()
        if torch.Tag.nondeterministic_seeded in func.tags and not fused_attention:
            raise ValueError(
                f"as_jax: fn draws random numbers ({func.name()}); the backward pass would draw others than the "
                "forward pass; call module.eval(), or draw with jax.random and pass the result as an argument"
            )
        return func(*args, **(kwargs or {}))


def _shapes_without_data(run: Callable[..., Any], shapes: Iterable[jax.ShapeDtypeStruct]) -> tuple[Any, list[Any]]:
    """Run a function on fake tensors, and return the structure of the result, and shape and dtype of each leaf."""
    with FakeTensorMode(allow_non_fake_inputs=True), _RefuseRandom():
        try:
            fakes = [torch.empty(shape.shape, dtype=getattr(torch, shape.dtype.name)) for shape in shapes]
            structure, tensors = run(fakes, _tensors_of)
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise ValueError(
                f"as_jax: the shape of the result cannot be found without data, because fn looks at values ({error}); "
                "give result_shape_dtypes"
            ) from error
        except RuntimeError as error:
            error.add_note(
                "as_jax ran fn on fake tensors, which have no data, to find the shape of the result; if it is this "
                "that fn cannot do, give result_shape_dtypes"
            )
            raise
    return structure, [(tuple(tensor.shape), _jax_dtype(tensor)) for tensor in tensors]


def _tensors_of(result: Any) -> tuple[Any, list[torch.Tensor]]:
    """Return structure and leaves of what a torch function returned."""
    if isinstance(result, torch.Tensor):  # most do
        return _ONE, [result]
    leaves, structure = jax.tree.flatten(jax.tree.map(_as_named_tuple, result))
    for leaf in leaves:
        if not isinstance(leaf, torch.Tensor):
            raise TypeError(
                f"as_jax: fn must return torch tensors, or a tree of them, got a {type(leaf).__name__}{_help(leaf)}"
            )
    return structure, leaves


def _help(leaf: Any) -> str:
    """Return what to do about a result that JAX takes for no tree, or nothing."""
    name = type(leaf).__name__
    if isinstance(leaf, Mapping):
        return (
            "; JAX takes it for a tree after jax.tree_util.register_pytree_node("
            f"{name}, lambda d: (tuple(d.values()), tuple(d)), lambda keys, values: {name}(**dict(zip(keys, values))))"
        )
    if dataclasses.is_dataclass(leaf):
        return f"; JAX takes it for a tree after jax.tree_util.register_dataclass({name})"
    return ""


def _as_named_tuple(leaf: Any) -> Any:
    return named_tuple(leaf)(*leaf) if is_named_result(leaf) else leaf


def _kind(leaf: Any) -> str:
    if isinstance(leaf, (jax.Array, np.ndarray, np.generic)):
        return _ARRAYS
    if isinstance(leaf, torch.Tensor):
        raise TypeError(
            "as_jax: got a torch tensor where the function takes JAX or NumPy arrays; convert it with "
            "jaxact.interop.to_jax, or call the torch function itself"
        )
    return STATIC


def _jax_dtype(tensor: torch.Tensor) -> np.dtype:
    return jnp.dtype(str(tensor.dtype).removeprefix("torch."))

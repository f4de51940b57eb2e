"""Torch functions in JAX: :func:`as_jax`.

JAX calls back to the host, where torch runs; the backward pass is a second callback, which runs torch's autograd.

A callback must not wait for JAX. The CPU client runs callbacks, kernels and large copies in the same few threads,
so that a callback which waits for one of them may wait forever. Hence no callback touches ``jax.numpy``, and on
the CPU the callback is ``jax.experimental.buffer_callback``, which sees XLA's own buffers: ``jax.pure_callback``
copies its arguments to JAX arrays first, and on a machine with one core that hangs for arrays of 16 MB.
"""

import copy
import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax.experimental.buffer_callback import buffer_callback
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode

from jaxact._boundary import fits

from ._arguments import STATIC, Layout, lay_out
from .tensors import to_jax, to_numpy, to_torch

_ARRAYS = "arrays"


class _HostFunction:
    """A torch function of flat tensors to a list of tensors, callable from JAX with flat arrays.

    Attributes:
        fn: The torch function.
        shapes_of: Returns the results' shapes and JAX dtypes for those of the arguments.
        __call__: The JAX function, with a gradient.
    """

    def __init__(
        self,
        fn: Callable[..., list[torch.Tensor]],
        shapes_of: Callable[..., list[jax.ShapeDtypeStruct]],
    ) -> None:
        self.fn = fn
        self.shapes_of = shapes_of
        self.vjp = functools.cache(self._vjp)
        self.call = jax.custom_vjp(self._call)
        self.call.defvjp(self._forward, self._backward)

    def _call(self, *arrays: jax.Array) -> list[jax.Array]:
        shapes = self.shapes_of(*map(_shape_of, arrays))

        def into_buffers(_context: Any, results: list[Any], *buffers: Any) -> None:
            for buffer, result in zip(results, self._on_host(shapes, *buffers), strict=True):
                np.asarray(buffer)[...] = result

        return jax.lax.platform_dependent(
            *arrays,
            cpu=buffer_callback(into_buffers, shapes, vmap_method="sequential"),
            default=functools.partial(
                jax.pure_callback, functools.partial(self._on_host, shapes), shapes, vmap_method="sequential"
            ),
        )

    def _on_host(self, shapes: list[jax.ShapeDtypeStruct], *arrays: Any) -> list[np.ndarray]:
        """Run in torch. The arguments are copied, because torch functions may write into them."""
        tensors = [to_torch(np.asarray(array), copy=True) for array in arrays]
        with torch.enable_grad():
            results = self.fn(*tensors)
        return [_as_promised(result, shape) for result, shape in zip(results, shapes, strict=True)]

    def _forward(self, *arrays: jax.Array) -> tuple[list[jax.Array], tuple[jax.Array, ...]]:
        return self.call(*arrays), arrays

    def _backward(self, arrays: tuple[jax.Array, ...], cotangents: list[jax.Array]) -> tuple[Any, ...]:
        wanted = tuple(map(_is_inexact, arrays))
        # The cotangent of an integer result has no information: JAX gives it the dtype float0.
        inexact = [jnp.conj(cotangent) for cotangent in cotangents if cotangent.dtype != jax.dtypes.float0]
        gradients = iter(self.vjp(wanted).call(*arrays, *inexact))
        return tuple(
            jnp.conj(next(gradients)) if want else np.zeros(array.shape, jax.dtypes.float0)
            for want, array in zip(wanted, arrays, strict=True)
        )

    def _vjp(self, wanted: tuple[bool, ...]) -> "_HostFunction":
        """Return the function of (inputs, cotangents of the inexact outputs) to gradients of the wanted inputs.

        Where that function is differentiated in turn, its arguments require grad and the graph is kept.
        A torch gradient is the complex conjugate of JAX's.
        """

        def fn(*values: torch.Tensor) -> list[torch.Tensor]:
            again = any(value.requires_grad for value in values)
            inputs = [
                value.detach().requires_grad_() if want and not value.requires_grad else value
                for want, value in zip(wanted, values, strict=False)
            ]
            # Clones, because torch forbids writing into the leaves of a graph and fn may do that.
            outputs = self.fn(*[value.clone() if want else value for want, value in zip(wanted, inputs, strict=True)])
            inexact = [output for output in outputs if output.is_floating_point() or output.is_complex()]
            pulled = [
                (output, cotangent)
                for output, cotangent in zip(inexact, values[len(wanted) :], strict=True)
                if output.requires_grad
            ]
            differentiated = list(itertools.compress(inputs, wanted))
            if not pulled:
                return [torch.zeros_like(value) for value in differentiated]
            return list(
                torch.autograd.grad(
                    [output for output, _ in pulled],
                    differentiated,
                    [cotangent for _, cotangent in pulled],
                    create_graph=again,
                    materialize_grads=True,
                )
            )

        def shapes_of(*values: jax.ShapeDtypeStruct) -> list[jax.ShapeDtypeStruct]:
            return list(itertools.compress(values, wanted))

        return _HostFunction(fn, shapes_of)


def as_jax(fn: Callable[..., Any], *, result_shape_dtypes: Any = None) -> Callable[..., Any]:
    """Make a torch function or module a JAX function that can be jitted, differentiated and vmapped.

    The result works under ``jit``, ``grad``, ``vjp``, ``jacrev``, ``vmap``, ``scan`` and ``checkpoint``. Torch runs
    on the host in a callback, forward and backward. Gradients of gradients work in reverse mode;
    forward mode (``jvp``, ``jacfwd``, and ``hessian``, which uses it) is refused by JAX: write
    ``jacrev(jacrev(f))``. ``vmap`` runs the batch one by one.

    JAX and NumPy arrays in the arguments, nested in anything that ``jax.tree`` knows, reach ``fn`` as CPU tensors;
    every other argument, a number or a string, reaches it as it is and must be hashable. Results are tensors in such
    a tree. They get the dtype that JAX has for theirs: with 64-bit mode off float64 is rounded to float32, and
    int64 becomes int32 or is an ``OverflowError`` if that cannot hold it.

    **Modules.** From a module comes a ``jax.tree_util.Partial``, a pytree whose leaves are the parameters that
    require grad: ``net(x)`` calls it, ``jax.grad(lambda net, x: loss(net(x)))(net, x)`` differentiates it, and
    ``jax.tree.map`` over it and its gradient is a step of training. ``net.func(params, x)`` and ``net.args[0]``, a dict
    by name, are the parts. The module is copied, so that later changes to it do not show; buffers and frozen
    parameters are constants.

    **Pure functions only.** JAX may call ``fn`` any number of times, and the backward pass calls it again. So a
    function that draws random numbers (dropout in training mode) and a module that updates its buffers (batch
    norm in training mode) are refused: call ``module.eval()``, or draw in JAX and pass the result as an argument.
    What ``fn`` closes over is a constant to JAX, and gets no gradient.

    **Shapes** are found by running ``fn`` on fake tensors, which have no data. If ``fn`` looks at values (``.item()``,
    ``.numpy()``, ``if x.sum() > 0``), give ``result_shape_dtypes``; then nothing is run ahead, and the checks
    for random numbers and for buffers do not take place.

    Args:
        fn: A function of tensors, or a ``torch.nn.Module``.
        result_shape_dtypes: The result as a tree of ``jax.ShapeDtypeStruct``, if it cannot be found.

    Returns:
        A function of the same arguments, with arrays in the place of tensors.

    Raises:
        TypeError: If ``fn`` is not callable; when called, for a torch tensor, an argument that is neither
            array nor hashable, or a result that is no tensor.
        ValueError: When called, if ``fn`` draws random numbers, updates buffers, or needs ``result_shape_dtypes``.

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

    See Also:
        :func:`jax.pure_callback`, :func:`torch.func.functional_call`
    """
    if isinstance(fn, torch.nn.Module):
        return _module_as_jax(fn, result_shape_dtypes)
    if not callable(fn):
        raise TypeError(f"as_jax: fn must be a torch function or module, got {type(fn).__name__}")
    return functools.wraps(fn)(_function_as_jax(fn, result_shape_dtypes))


def _function_as_jax(fn: Callable[..., Any], result_shape_dtypes: Any) -> Callable[..., Any]:
    """Return ``fn`` as a jitted JAX function, traced once for each layout and set of shapes and dtypes."""

    @functools.cache
    def results_of(layout: Layout, shapes: tuple[jax.ShapeDtypeStruct, ...]) -> tuple[Any, list[Any]]:
        """Return the structure of the result, and shape and dtype of each leaf."""
        if result_shape_dtypes is not None:
            leaves, structure = jax.tree.flatten(result_shape_dtypes)
            return structure, [(leaf.shape, jnp.dtype(leaf.dtype)) for leaf in leaves]
        structure, tensors = _run_without_data(fn, layout, shapes)
        return structure, [(tuple(tensor.shape), _jax_dtype(tensor)) for tensor in tensors]

    @functools.cache
    def host_function(layout: Layout) -> _HostFunction:
        def flat(*tensors: torch.Tensor) -> list[torch.Tensor]:
            args, kwargs = layout.fill(arrays=tensors)
            return _tensors_of(fn(*args, **kwargs))[1]

        def shapes_of(*shapes: jax.ShapeDtypeStruct) -> list[jax.ShapeDtypeStruct]:
            results = results_of(layout, shapes)[1]
            return [jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(dtype)) for shape, dtype in results]

        return _HostFunction(flat, shapes_of)

    @functools.partial(jax.jit, static_argnums=0)
    def run(layout: Layout, *arrays: jax.Array) -> Any:
        structure, _ = results_of(layout, tuple(map(_shape_of, arrays)))
        return jax.tree.unflatten(structure, host_function(layout).call(*arrays))

    def call(*args: Any, **kwargs: Any) -> Any:
        layout, values = lay_out("as_jax", args, kwargs, _kind)
        arrays = [to_jax(x) if isinstance(x, (np.ndarray, np.generic)) else x for x in values.get(_ARRAYS, ())]
        return run(layout, *arrays)

    return call


def _module_as_jax(module: torch.nn.Module, result_shape_dtypes: Any) -> jax.tree_util.Partial:
    """Return a copy of ``module`` as a function of its trainable parameters, with their values bound."""
    module = copy.deepcopy(module).cpu()
    trainable = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}

    def apply(parameters: dict[str, torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        # Copies, so that a module that writes into its buffers is noticed, and this one stays as it is.
        buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
        result = torch.func.functional_call(module, {**parameters, **buffers}, args, kwargs)
        if changed := [name for name, buffer in buffers.items() if buffer._version > 0]:
            raise ValueError(
                f"as_jax: {type(module).__name__} updates its buffers {', '.join(changed)} when it is called, which a "
                "JAX function cannot; call module.eval() first"
            )
        return result

    apply.__name__ = type(module).__name__
    return jax.tree_util.Partial(_function_as_jax(apply, result_shape_dtypes), to_jax(trainable))


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


def _run_without_data(
    fn: Callable[..., Any], layout: Layout, shapes: Iterable[jax.ShapeDtypeStruct]
) -> tuple[Any, list[torch.Tensor]]:
    """Run ``fn`` on fake tensors of these shapes, and return the structure of the result and its fake tensors."""
    with FakeTensorMode(allow_non_fake_inputs=True), _RefuseRandom():
        args, kwargs = layout.fill(
            arrays=[torch.empty(shape.shape, dtype=getattr(torch, shape.dtype.name)) for shape in shapes]
        )
        try:
            return _tensors_of(fn(*args, **kwargs))
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


def _tensors_of(result: Any) -> tuple[Any, list[torch.Tensor]]:
    """Return structure and leaves of what a torch function returned."""
    leaves, structure = jax.tree.flatten(result)
    for leaf in leaves:
        if not isinstance(leaf, torch.Tensor):
            raise TypeError(f"as_jax: fn must return torch tensors, or a tree of them, got a {type(leaf).__name__}")
    return structure, leaves


def _kind(leaf: Any) -> str:
    if isinstance(leaf, (jax.Array, np.ndarray, np.generic)):
        return _ARRAYS
    if isinstance(leaf, torch.Tensor):
        raise TypeError(
            "as_jax: got a torch tensor where the function takes JAX or NumPy arrays; convert it with "
            "jaxact.interop.to_jax, or call the torch function itself"
        )
    return STATIC


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


def _is_inexact(array: jax.Array) -> bool:
    return jnp.issubdtype(array.dtype, jnp.inexact)


def _shape_of(array: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


def _jax_dtype(tensor: torch.Tensor) -> np.dtype:
    return jnp.dtype(str(tensor.dtype).removeprefix("torch."))

"""JAX's side of a comparison: what is called, as a pure function of its parameters and inputs."""

import dataclasses
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxact.interop._to_jax import to_jax
from jaxact.interop._to_numpy import to_numpy

from .inputs import is_inexact


@dataclasses.dataclass(frozen=True)
class JaxSide:
    """A JAX callable as a function of its parameters, and the inputs that it is called with.

    Attributes:
        function: Takes the parameters and the inputs.
        parameters: Its parameters, a tree of arrays; empty where it is a plain function.
        inputs: The inputs, with JAX arrays for leaves.
    """

    function: Callable[..., Any]
    parameters: Any
    inputs: list[Any]

    def outputs(self) -> dict[str, np.ndarray]:
        """Run it, and return its outputs by name."""
        inputs = jax.tree_util.tree_map(_copied, self.inputs)
        return {name: to_numpy(y, copy=True) for name, y in named_arrays(self.function(self.parameters, *inputs))}

    def gradients(
        self, cotangents: Mapping[str, np.ndarray], wrt: Sequence[int], paths: Sequence[str]
    ) -> list[np.ndarray]:
        """Return the gradients of the leaves of the inputs at ``wrt``, then of the parameters at ``paths``."""
        gradient, moving, given = self.gradient_function(cotangents, wrt, paths)
        # JAX's cotangents and gradients of complex numbers are the conjugates of torch's.
        return [to_numpy(g, copy=True).conj() for g in gradient(moving, [c.conj() for c in given])]

    def gradient_function(
        self, cotangents: Mapping[str, np.ndarray], wrt: Sequence[int], paths: Sequence[str]
    ) -> tuple[Callable[..., Any], list[jax.Array], list[jax.Array]]:
        """Return the gradient as a function of what moves and of the cotangents, and both."""
        leaves, structure = jax.tree_util.tree_flatten(self.inputs, is_leaf=lambda x: x is None)
        named, parameters = _paths(self.parameters)
        places = [list(named).index(path) for path in paths]

        def function(moving: list[Any]) -> list[Any]:
            moved, weights = list(leaves), list(named.values())
            for i, x in zip(wrt, moving[: len(wrt)], strict=True):
                moved[i] = x
            for i, x in zip(places, moving[len(wrt) :], strict=True):
                weights[i] = x
            inputs = jax.tree_util.tree_unflatten(structure, moved)
            result = self.function(jax.tree_util.tree_unflatten(parameters, weights), *inputs)
            return [y for name, y in named_arrays(result) if name in cotangents]

        def gradient(moving: list[Any], given: list[Any]) -> list[Any]:
            return jax.vjp(function, moving)[1](given)[0]

        moving = [_copied(leaves[i]) for i in wrt] + [_copied(named[path]) for path in paths]
        return gradient, moving, [to_jax(c) for c in cotangents.values()]

    def paths(self) -> dict[str, Any]:
        """Return the parameters by path, as ``blocks.0.fc.kernel``."""
        return _paths(self.parameters)[0]


def jax_side(function: Callable[..., Any], inputs: Sequence[Any]) -> JaxSide:
    """Return a JAX callable, such as a Flax or Equinox module or a partial, as a function of its parameters."""
    arrays = [jax.tree_util.tree_map(lambda x: to_jax(x) if isinstance(x, np.ndarray) else x, x) for x in inputs]
    pure, parameters = _pure(function)
    return JaxSide(pure, parameters, arrays)


def _pure(function: Callable[..., Any]) -> tuple[Callable[..., Any], Any]:
    if (nnx := sys.modules.get("flax.nnx")) is not None:
        owner = getattr(function, "__self__", function)
        if isinstance(owner, nnx.Module):
            # Split, so that no trace meets the variables of an outer one, and a call changes nothing of the user's.
            definition, state = nnx.split(owner)
            name = "__call__" if owner is function else function.__name__
            return lambda state, *xs: getattr(nnx.merge(definition, state), name)(*xs), state
    if (linen := sys.modules.get("flax.linen")) is not None and isinstance(function, linen.Module):
        if function.scope is None:
            raise TypeError("compare: a Linen module has no parameters of its own; bind them: module.bind(variables)")
        module, variables = function.unbind()
        return module.apply, variables
    if isinstance(function, functools.partial) and not isinstance(function, jax.tree_util.Partial):
        function = jax.tree_util.Partial(function.func, *function.args, **function.keywords)
    leaves, structure = jax.tree_util.tree_flatten(function)
    if len(leaves) == 1 and leaves[0] is function:  # no tree
        return lambda _, *xs: function(*xs), ()
    is_array = [isinstance(x, (jax.Array, np.ndarray)) for x in leaves]
    names = [_path(path) for path, _ in jax.tree_util.tree_flatten_with_path(function)[0]]
    parameters = {n: x for n, x, array in zip(names, leaves, is_array, strict=True) if array}

    def call(parameters: Mapping[str, Any], *xs: Any) -> Any:
        filled = [parameters[n] if array else x for n, x, array in zip(names, leaves, is_array, strict=True)]
        return jax.tree_util.tree_unflatten(structure, filled)(*xs)

    return call, parameters


def _copied(x: Any) -> Any:
    """Return a copy of an array: a function may have its arguments donated, which end with the call."""
    return jnp.copy(x) if isinstance(x, jax.Array) else x


def _paths(tree: Any) -> tuple[dict[str, Any], Any]:
    """Return the leaves of a tree by path, and its structure."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    return {_path(path): leaf for path, leaf in leaves}, structure


def _path(path: tuple[Any, ...]) -> str:
    parts = []
    for key in path:
        part = next(getattr(key, name) for name in ("name", "key", "idx") if hasattr(key, name))
        parts.append(str(part))
    return ".".join(part for part in parts if part != "value") or "[]"


def named_arrays(result: Any) -> list[tuple[str, jax.Array]]:
    """Return the arrays of what a JAX function returns, each with its path."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(result)
    return [(jax.tree_util.keystr(path), jnp.asarray(leaf)) for path, leaf in leaves]


def inexact_places(inputs: Sequence[Any]) -> list[int]:
    """Return the places, among the leaves of the inputs, of the arrays that gradients can be taken of."""
    leaves = jax.tree_util.tree_leaves(list(inputs), is_leaf=lambda x: x is None)
    return [i for i, x in enumerate(leaves) if is_inexact(x)]

"""How a call of a function of as_jax or as_torch is taken apart: array leaves by kind, static values, structure."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

STATIC = "static"


@dataclasses.dataclass(frozen=True)
class Static:
    """A value fixed when a function is traced.

    Attributes:
        kind: Its type, for 1, 1.0 and True are equal.
        key: What is compared: the value, or how it is written if it is a float, for 0.0 and -0.0 are equal.
        value: The value.
    """

    kind: type
    key: Any
    value: Any = dataclasses.field(compare=False)


@dataclasses.dataclass(frozen=True)
class Layout:
    """What of a call's arguments a traced function depends on; hashable, and so the key to find it again.

    Attributes:
        structure: The tree of ``(args, kwargs)``.
        leaves: For each leaf the kind that fills it, or a :class:`Static` value.
    """

    structure: Any
    leaves: tuple[Any, ...]

    def fill(self, **values: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return args and kwargs, with the leaves of each kind taken in order from the values of its name."""
        streams = {kind: iter(of_kind) for kind, of_kind in values.items()}
        leaves = [leaf.value if isinstance(leaf, Static) else next(streams[leaf]) for leaf in self.leaves]
        return jax.tree.unflatten(self.structure, leaves)


def static(caller: str, value: Any) -> Static:
    """Return ``value`` as a static one.

    Raises:
        TypeError: If it is not hashable.
    """
    try:
        hash(value)
    except TypeError:
        raise TypeError(
            f"{caller}: a {type(value).__name__} is no array, and as a static argument it would have to be hashable; "
            "pass an array, or register the class with jax.tree_util"
        ) from None
    return Static(type(value), repr(value) if isinstance(value, (float, complex)) else value, value)


def lay_out(
    caller: str, args: tuple[Any, ...], kwargs: dict[str, Any], kind_of: Callable[[Any], str]
) -> tuple[Layout, dict[str, list[Any]]]:
    """Take a call apart.

    Args:
        caller: The public function, for messages.
        args: Positional arguments; a :class:`Static` among them counts as a leaf.
        kwargs: Keyword arguments, likewise.
        kind_of: Says the kind of a leaf, ``STATIC`` for a static one.

    Returns:
        The layout, and for each kind its leaves in order.
    """
    leaves, structure = jax.tree.flatten((args, kwargs))
    by_kind: dict[str, list[Any]] = {}
    places: list[Any] = []
    for leaf in leaves:
        kind = STATIC if isinstance(leaf, Static) else kind_of(leaf)
        if kind == STATIC:
            places.append(leaf if isinstance(leaf, Static) else static(caller, leaf))
        else:
            places.append(kind)
            by_kind.setdefault(kind, []).append(leaf)
    return Layout(structure, tuple(places)), by_kind

"""The JAX function as one flat list of operations, each with the line of the user's code, which can be run in parts."""

import dataclasses
import os
import site
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal, jaxprs_in_params

from .fingerprints import Fingerprint, fingerprint

# What gives the elements of its operand, each once.
_SAME = frozenset({"reshape", "transpose", "squeeze", "expand_dims", "copy", "copy_p", "optimization_barrier", "pvary"})
# What moves elements as they are, and may leave some out or repeat them.
_MOVES = _SAME | {
    "rev",
    "slice",
    "dynamic_slice",
    "concatenate",
    "gather",
    "pad",
    "broadcast_in_dim",
    "dynamic_update_slice",
}
_KEPT_WEIGHT = 1 << 20  # bytes of what depends on weights alone and is kept; larger is computed again


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation of the program.

    Attributes:
        primitive: JAX's primitive.
        parameters: Its parameters.
        operands: The places of its operands among the values.
        results: The places of its results.
        lines: The user's lines that lead to it, outermost first.
    """

    primitive: Any
    parameters: Mapping[str, Any]
    operands: tuple[int, ...]
    results: tuple[int, ...]
    lines: tuple[str, ...]

    def run(self, values: list[Any]) -> list[Any]:
        """Compute its results."""
        given = self.primitive.get_bind_params(dict(self.parameters))
        functions, parameters = given if isinstance(given, tuple) else ((), given)  # a pair before JAX 0.10
        results = self.primitive.bind(*functions, *values, **parameters)
        return list(results) if self.primitive.multiple_results else [results]


class Program:
    """A JAX function at given inputs, flattened, with all its intermediate values.

    Loops of known length are unrolled, and functions that are called are put in their place, with the same lines; the
    branch of a ``cond`` is the one that these inputs take. What cannot be opened, as ``while``, stays one operation.

    Attributes:
        operations: The operations in order.
        values: The values by place; None for those that depend on weights alone and are large.
        outputs: The places of the outputs.
        maker: Which operation makes a value, by place; inputs and constants have none.
        depends: Whether a value depends on the inputs.
        prints: The fingerprints of the float values that depend on the inputs, by place, but of those that hold the
            elements of another in another shape.
        same: For such a value the place of that other.
        moved: The values that move elements of others.
    """

    def __init__(self, function: Callable[..., Any], inputs: list[Any], weights: list[Any]) -> None:
        """Flatten a function of a list of weights and a list of inputs, and run it."""
        with jax.disable_jit():
            closed = jax.make_jaxpr(function)(weights, inputs)
        self.operations: list[Operation] = []
        self.values: list[Any] = []
        self.maker: dict[int, int] = {}
        self.depends: list[bool] = []
        self.prints: dict[int, Fingerprint] = {}
        self.same: dict[int, int] = {}
        self._replaced: dict[Any, Any] = {}
        self.moved: set[int] = set()
        flat_weights, flat_inputs = jax.tree_util.tree_leaves(weights), jax.tree_util.tree_leaves(inputs)
        places = [self._new(x, False) for x in flat_weights] + [self._new(x, True) for x in flat_inputs]
        for i in places[len(flat_weights) :]:
            self._take_print(i)
        self.outputs = self._inline(closed.jaxpr, list(closed.consts), places, ())
        self.consumers: dict[int, list[int]] = {}
        for number, operation in enumerate(self.operations):
            for i in set(operation.operands):
                self.consumers.setdefault(i, []).append(number)

    def rerun(self, replaced: Mapping[Any, Any], stop: int | None = None) -> dict[int, Any]:
        """Run what follows from replaced values, and return all values that change, by place.

        Args:
            replaced: The new values: by place, or for one operation alone by its number and the place.
            stop: After how many changed values to stop.
        """
        changed = {i: x for i, x in replaced.items() if isinstance(i, int)}
        special = {key[0] for key in replaced if isinstance(key, tuple)}
        first = min([*(self.consumers.get(i, [len(self.operations)])[0] for i in changed), *special])
        kept = {**self._replaced, **replaced}  # what was put there before stays there
        alone = {key: x for key, x in kept.items() if isinstance(key, tuple)}
        for number in range(first, len(self.operations)):
            operation = self.operations[number]
            if number not in special and not any(i in changed for i in operation.operands):
                continue
            operands = [
                alone.get((number, i), changed[i] if i in changed else self.value(i)) for i in operation.operands
            ]
            results = operation.run(operands)
            changed.update({i: x for i, x in zip(operation.results, results, strict=True) if i not in kept})
            if stop is not None and len(changed) >= stop:
                break
        return changed

    def replace(self, key: Any, value: Any) -> None:
        """Put a value in the place of another for good, by a key as for :meth:`rerun`, and run what follows."""
        changed = self.rerun({key: value})
        self._replaced[key] = value
        for i, x in changed.items():
            self.values[i] = x
            if i in self.prints:
                self.prints[i] = fingerprint(np.asarray(x))

    def value(self, i: int) -> Any:
        """Return a value, computed again if it was not kept."""
        if self.values[i] is not None:
            return self.values[i]
        operation = self.operations[self.maker[i]]
        results = operation.run([self.value(j) for j in operation.operands])
        return results[operation.results.index(i)]

    def origin(self, i: int) -> int:
        """Return the value that this one holds the elements of."""
        while i in self.same:
            i = self.same[i]
        return i

    def lines(self, i: int) -> tuple[str, ...]:
        """Return the user's lines that make a value, outermost first."""
        return self.operations[self.maker[i]].lines if i in self.maker else ()

    def _new(self, x: Any, depends: bool) -> int:
        self.values.append(x)
        self.depends.append(depends)
        return len(self.values) - 1

    def _take_print(self, i: int) -> None:
        x = self.values[i]
        if self.depends[i] and np.size(x) > 2 and jax.numpy.issubdtype(jax.numpy.result_type(x), jax.numpy.floating):
            self.prints[i] = fingerprint(np.asarray(x))

    def _inline(self, jaxpr: Any, consts: list[Any], places: list[int], lines: tuple[str, ...]) -> list[int]:
        known: dict[Any, int] = dict(zip(jaxpr.invars, places, strict=True))
        known |= {v: self._new(x, False) for v, x in zip(jaxpr.constvars, consts, strict=True)}
        live = _live(jaxpr)

        def place(atom: Any) -> int:
            return self._new(atom.val, False) if isinstance(atom, Literal) else known[atom]

        for number, equation in enumerate(jaxpr.eqns):
            if not live[number]:
                continue
            operands = [place(x) for x in equation.invars]
            here = tuple(user_lines(equation.source_info.traceback)) or lines
            for variable, i in zip(equation.outvars, self._open(equation, operands, here), strict=True):
                known[variable] = i
        return [place(x) for x in jaxpr.outvars]

    def _open(self, equation: Any, operands: list[int], lines: tuple[str, ...]) -> list[int]:
        """Put what an equation calls in its place, or take the equation as one operation."""
        inner = list(jaxprs_in_params(equation.params))
        if equation.primitive.name == "cond" and inner:
            branch = inner[min(max(int(self.value(operands[0])), 0), len(inner) - 1)]
            inner, operands_of_it = [branch], operands[1:]
        else:
            operands_of_it = operands
        if inner and not inner[0].constvars and _is_call(equation, inner[0], len(operands) - len(operands_of_it)):
            return self._inline(inner[0], [], operands_of_it, lines)
        return self._operate(equation, operands, lines)

    def _operate(self, equation: Any, operands: list[int], lines: tuple[str, ...]) -> list[int]:
        depends = any(self.depends[i] for i in operands)
        operation = Operation(equation.primitive, equation.params, tuple(operands), (), lines)
        results = operation.run([self.value(i) for i in operands])
        places = []
        for x in results:
            kept = depends or getattr(x, "nbytes", 0) <= _KEPT_WEIGHT
            places.append(self._new(x if kept else None, depends))
            self.maker[places[-1]] = len(self.operations)
        self.operations.append(dataclasses.replace(operation, results=tuple(places)))
        name = equation.primitive.name
        if depends and name in _MOVES:
            self.moved.update(places)
        for i, x in zip(places, results, strict=True):
            if depends and self._holds_the_same(name, operands, x):
                self.same[i] = operands[0]
            else:
                self._take_print(i)
        return places

    def _holds_the_same(self, name: str, operands: list[int], x: Any) -> bool:
        if not self.depends[operands[0]]:
            return False
        if name in _SAME:
            return True
        taken = self.values[operands[0]]
        widens = (
            name == "convert_element_type"
            and _is_float(taken)
            and _is_float(x)
            and x.dtype.itemsize >= taken.dtype.itemsize
        )
        return widens or (name == "broadcast_in_dim" and np.size(x) == np.size(taken))


def _is_float(x: Any) -> bool:
    return hasattr(x, "dtype") and jax.numpy.issubdtype(x.dtype, jax.numpy.floating)


def _is_call(equation: Any, body: Any, skipped: int) -> bool:
    """Say whether an equation does no more than to run a function on its operands; a reduction runs one on elements."""
    if equation.primitive.name in ("while", "scan") or equation.primitive.name.startswith(("reduce", "scatter", "arg")):
        return False
    given, taken = equation.invars[skipped:], body.invars
    if len(given) != len(taken) or len(equation.outvars) != len(body.outvars):
        return False
    pairs = [*zip(given, taken, strict=True), *zip(equation.outvars, body.outvars, strict=True)]
    return all(a.aval.shape == b.aval.shape for a, b in pairs)


def _live(jaxpr: Any) -> list[bool]:
    """Say of each equation whether the outputs need it."""
    needed = {x for x in jaxpr.outvars if not isinstance(x, Literal)}
    live = []
    for equation in reversed(jaxpr.eqns):
        alive = bool(needed.intersection(equation.outvars)) or bool(equation.effects)
        if alive:
            needed.update(x for x in equation.invars if not isinstance(x, Literal))
        live.append(alive)
    return live[::-1]


def _foreign() -> tuple[str, ...]:
    paths = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders = [*paths, *site.getsitepackages(), os.path.dirname(jax.__file__), os.path.dirname(np.__file__)]
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # jaxact, or where it is developed
    ours = [here, os.path.dirname(os.path.abspath(sys.modules["jaxact"].__file__ or ""))]
    return tuple(os.path.join(folder, "") for folder in [*folders, *ours] if folder)


_FOREIGN = _foreign()


def user_lines(traceback: Any) -> Iterator[str]:
    """Yield the lines of a JAX traceback that are the user's, outermost first, as ``"model.py:42"``."""
    if traceback is None:
        return
    for frame in reversed(traceback.frames):
        if not frame.file_name.startswith((*_FOREIGN, "<frozen")):
            yield f"{os.path.basename(frame.file_name)}:{frame.line_num}"

"""``compare`` and ``assert_parity``: both sides are run, each array is judged, and what differs is searched for."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from .expected import Expected, equal
from .hints import hint, kink
from .inputs import is_inexact, is_key, prepared
from .jax_side import JaxSide, inexact_places, jax_side, named_arrays
from .judging import Reference, judge
from .nodes import Results
from .program import Program
from .report import Divergence, Report, Row, Step
from .search import Search

Parameters = Mapping[str, str | tuple[str, Sequence[int]]]


def compare(
    jax_fn: Callable[..., Any],
    torch_fn: Callable[..., Any],
    *inputs: Any,
    gradient: bool = True,
    parameters: Parameters | None = None,
    max_ulp: float | None = None,
    seed: int = 0,
) -> Report:
    """Compare a JAX port with the torch function or module that it was made from, and find where they part.

    Nothing is annotated and no tolerance is given: torch's function in float64 is the reference, and the port passes if
    each of its arrays is as near to it as rounding lets torch itself be (see the guide "Cross-check your port"). Where
    the port differs, torch's modules and the steps of the JAX program are searched for the first that differs.

    Args:
        jax_fn: The port: a function, a ``jax.jit`` of one, a Flax NNX module, a bound Linen module, an Equinox module.
        torch_fn: The torch function or ``torch.nn.Module``. It is run, and is afterwards as it was.
        *inputs: What both are called with: arrays of NumPy, JAX or torch, or trees of them; a ``jax.ShapeDtypeStruct``
            is drawn, from normal numbers or from 0 and 1. A PRNG key is given to ``jax_fn`` alone.
        gradient: Whether to compare the gradients of the inexact inputs, and of ``parameters``, for a random cotangent.
        parameters: The port's parameters by path (``"blocks.0.fc.kernel"``), each with torch's name of it, or with its
            name and the order of torch's axes in the port: ``("blocks.0.fc.weight", (1, 0))``.
        max_ulp: How many units in the last place the port may be from torch, instead of the rule above.
        seed: For the cotangents and for what is drawn.

    Returns:
        The report. ``print`` shows it.

    Raises:
        TypeError: If one of the two cannot be called, or an input is no array.
        ValueError: If a parameter is named that does not exist.

    Example:
        >>> import jax, torch
        >>> from jaxact.interop import compare
        >>> report = compare(jax.nn.gelu, torch.nn.functional.gelu, jax.ShapeDtypeStruct((64,), "float32"))
        >>> report.passed  # jax.nn.gelu is the tanh approximation unless told otherwise
        False
    """
    for name, function in (("jax_fn", jax_fn), ("torch_fn", torch_fn)):
        if not callable(function):
            raise TypeError(f"compare: {name} must be a function or a module, got {type(function).__name__}")
    mapping = {k: (v, None) if isinstance(v, str) else (v[0], tuple(v[1])) for k, v in (parameters or {}).items()}
    arrays, notes = prepared(inputs, seed)
    expected = Expected(torch_fn, [x for x in arrays if not is_key(x)], [name for name, _ in mapping.values()], seed)
    return _Comparison(jax_side(jax_fn, arrays), expected, arrays, mapping, gradient, max_ulp, notes).report()


def assert_parity(jax_fn: Callable[..., Any], torch_fn: Callable[..., Any], *inputs: Any, **options: Any) -> Report:
    """Raise an AssertionError with the printed report unless the port is equal to torch; see :func:`compare`.

    Args:
        jax_fn: The port.
        torch_fn: The torch function or module.
        *inputs: What both are called with.
        **options: The options of :func:`compare`.

    Returns:
        The report, which has passed.

    Raises:
        AssertionError: If the port differs, or cannot be compared.

    Example:
        >>> import jaxact, torch
        >>> from jaxact.interop import assert_parity
        >>> report = assert_parity(jaxact.gelu, torch.nn.functional.gelu, jax.ShapeDtypeStruct((64,), "float32"))
    """
    report = compare(jax_fn, torch_fn, *inputs, **options)
    if not report.passed:
        raise AssertionError(f"the port is not equal to torch\n{report}")
    return report


class _Comparison:
    """One comparison while it is made."""

    def __init__(
        self,
        ours: JaxSide,
        expected: Expected,
        inputs: list[Any],
        mapping: dict[str, Any],
        gradient: bool,
        max_ulp: float | None,
        notes: list[str],
    ) -> None:
        self.ours, self.expected, self.inputs, self.mapping = ours, expected, inputs, mapping
        self.max_ulp, self.notes = max_ulp, notes
        self.gradient = gradient and bool(expected.wrt or mapping)
        if gradient and not self.gradient:
            notes.append("no input is inexact, so there is no gradient to compare; give parameters= for theirs")

    def report(self) -> Report:
        """Compare, and say what came of it."""
        if (why := self.expected.refusal) is not None:
            return Report((), refusals=(why,), notes=tuple(self.notes))
        self.port = self.ours.outputs()
        if not equal(self.port, self.ours.outputs()):
            why = "jax_fn is not deterministic: two calls with the same inputs differ; turn off what draws at random"
            return Report((), refusals=(why,), notes=tuple(self.notes))
        theirs = self.expected.outputs
        self.pairs, structure = _paired(self.port, theirs)
        if structure or any(self.port[a].shape != theirs[b].shape for a, b in self.pairs):
            self.gradient = False
        gradients, refusals = self._port_gradients()
        self.arrays = [self.port[name] for name, _ in self.pairs] + gradients
        rows = [*structure, *self._judged()]
        found: list[Divergence] = []
        steps: list[Step] = []
        if self.max_ulp is None and not all(row.passed for row in rows):
            try:
                found, steps = self._searched(all(row.passed for row in rows if row.kind == "output"))
            except Exception as error:  # of any kind: what the search runs is the user's code
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                self.notes.append(f"the place could not be searched for: {reason}")
            if not any(divergence.hint for divergence in found):
                rows = self._hinted(rows)
        return Report(tuple(rows), tuple(found), tuple(steps), tuple(refusals), tuple(self.notes))

    def _port_gradients(self) -> tuple[list[np.ndarray], list[str]]:
        """Return the port's gradients, and why there are none where they cannot be taken."""
        if not self.gradient:
            return [], []
        unknown = [path for path in self.mapping if path not in self.ours.paths()]
        if unknown:
            raise ValueError(
                f"compare: jax_fn has no parameter {unknown[0]!r}; it has {', '.join(self.ours.paths()) or 'none'}"
            )
        try:
            return self.ours.gradients(self._cotangents(), inexact_places(self.inputs), list(self.mapping)), []
        except Exception as error:  # of any kind: it comes from the user's function
            self.gradient = False
            reason = (str(error).strip().splitlines() or [""])[0]
            return [], [
                f"the gradient of jax_fn cannot be taken ({type(error).__name__}: {reason}); its values alone are "
                "compared with gradient=False"
            ]

    def _cotangents(self) -> dict[str, np.ndarray]:
        """Return the cotangents of the port's outputs, in their dtypes."""
        given = self.expected.cotangents
        return {a: given[b].astype(self.port[a].dtype) for a, b in self.pairs if b in given}

    def _judged(self) -> list[Row]:
        """Return the rows: at once where rounding is not in question, else with what roundings do to each element."""
        expected, gradient = self.expected, self.gradient
        native, exact = self._in_order(expected.native(gradient)), self._in_order(expected.exact(gradient))
        rows = self._rows(native, exact, [np.zeros(y.shape) for y in exact])
        for more in (False, True):
            if self.max_ulp is None and not all(row.passed for row in rows):
                rows = self._rows(native, exact, self._in_order(expected.noise(gradient, more)))
        return rows

    def _rows(self, native: list[np.ndarray], exact: list[np.ndarray], noise: list[np.ndarray]) -> list[Row]:
        rows = []
        for (name, kind), y, *parts in zip(self._names(), self.arrays, native, exact, noise, strict=True):
            rows.append(judge(name, kind, y, Reference(*parts), self._like(y), self.max_ulp))
        return rows

    def _hinted(self, rows: list[Row]) -> list[Row]:
        """Return the rows with hints at the cause."""
        native = dict(
            zip([name for name, _ in self._names()], self._in_order(self.expected.native(self.gradient)), strict=True)
        )
        ours = dict(zip(native, self.arrays, strict=True))
        hinted = []
        for row in rows:
            if not row.passed and row.name in native:
                y, right, x = ours[row.name], native[row.name], self._like(ours[row.name])
                said = hint(y, right, x) if row.kind == "output" else kink(y, right, x) or hint(y, right)
                row = dataclasses.replace(row, hint=said)
            hinted.append(row)
        return hinted

    def _searched(self, backward: bool) -> tuple[list[Divergence], list[Step]]:
        """Return where the port parts from torch, and torch's modules in order."""
        search = self._search(backward=False)
        search.run()
        steps = search.steps()
        if backward and not search.divergences:
            search = self._search(backward=True)
            search.run()
        if search.divergences:
            return search.divergences, steps
        lines = search.tracks.program.lines(search.tracks.program.outputs[0])
        whole = Divergence(
            "", self.expected.kind, "the result", lines[-1] if lines else "", lines, "", backward=backward
        )
        return [whole], steps

    def _search(self, *, backward: bool) -> Search:
        """Return a search through the forward pass, or through the gradient."""
        computed = self.expected.computed(backward)
        if backward:
            places = inexact_places(self.inputs)
            gradient, moving, given = self.ours.gradient_function(self._cotangents(), places, list(self.mapping))
            program = Program(lambda _, xs: gradient(*xs), [moving, given], [])
            pairs = zip(computed.gradients, program.outputs, strict=True)
            outputs = [(i, place) for i, place in pairs if i is not None]
        else:
            program = Program(self._outputs, self.ours.inputs, self.ours.parameters)
            place = dict(zip(self.port, program.outputs, strict=True))
            outputs = [(computed.outputs[b], place[a]) for a, b in self.pairs if b in computed.outputs]
        return Search(computed, program, outputs, self.expected.modules(), backward=backward)

    def _outputs(self, weights: Any, inputs: list[Any]) -> list[jax.Array]:
        """Return the port's outputs, in the order of their names."""
        return [y for _, y in named_arrays(self.ours.function(weights, *inputs))]

    def _check_axes(self, gradients: list[np.ndarray]) -> None:
        for (name, axes), g in zip(self.mapping.values(), gradients[len(self.expected.wrt) :], strict=True):
            if axes is not None and sorted(axes) != list(range(g.ndim)):
                raise ValueError(
                    f"compare: the axes of {name!r} must be a permutation of {tuple(range(g.ndim))}, got {axes}"
                )

    def _in_order(self, results: Results) -> list[np.ndarray]:
        """Return torch's arrays in the order of the rows, those of parameters laid out as the port's."""
        arrays = [results.outputs[name] for _, name in self.pairs]
        if not self.gradient:
            return arrays
        self._check_axes(results.gradients)
        axes = [None] * len(self.expected.wrt) + [axes for _, axes in self.mapping.values()]
        pairs = zip(results.gradients, axes, strict=True)
        return arrays + [g if order is None else g.transpose(order) for g, order in pairs]

    def _names(self) -> list[tuple[str, str]]:
        """Return name and kind of each array."""
        names = [(f"output{ours or theirs}", "output") for ours, theirs in self.pairs]
        if not self.gradient:
            return names
        leaves = jax.tree_util.tree_flatten_with_path(self.expected.inputs, is_leaf=lambda x: x is None)[0]
        paths = [leaves[i][0] for i in self.expected.wrt]
        names += [(f"gradient of input {p[0].idx}{jax.tree_util.keystr(p[1:])}", "gradient") for p in paths]
        return names + [(f"gradient of {path}", "parameter gradient") for path in self.mapping]

    def _like(self, y: np.ndarray) -> np.ndarray | None:
        """Return the one inexact input, if there is one alone, and it has the shape of an array."""
        leaves = [x for x in jax.tree_util.tree_leaves(self.expected.inputs) if is_inexact(x)]
        return leaves[0] if len(leaves) == 1 and leaves[0].shape == y.shape else None


def _paired(port: dict[str, np.ndarray], torch: dict[str, np.ndarray]) -> tuple[list[tuple[str, str]], list[Row]]:
    """Return which output stands for which, and a row if one side has more of them."""
    if set(port) == set(torch):
        return [(name, name) for name in port], []
    pairs = list(zip(port, torch, strict=False))
    if len(port) == len(torch):
        return pairs, []
    verdict = f"{len(port)} outputs, torch has {len(torch)}"
    return pairs, [Row("outputs", "output", "", (), passed=False, verdict=verdict)]

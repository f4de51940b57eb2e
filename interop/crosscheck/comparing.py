"""``compare`` and ``assert_parity``: both sides are run, each array is judged, and what differs is searched for."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from .hints import hint, kink
from .inputs import cotangents as drawn_cotangents
from .inputs import is_inexact, is_key, prepared
from .jax_side import JaxSide, inexact_places, jax_side, named_arrays
from .judging import Reference, judge
from .matching import Matching
from .program import Program
from .report import Divergence, Report, Row
from .rounding import Rounding
from .search import Search
from .torch_side import Results, TorchSide, unready

# How many times torch is run with roundings at random, to see how far they move each element: first, and where an
# element seems to be off.
SAMPLES = (6, 18)

# How many bytes of torch's results are kept for the search; what is beyond is known by its fingerprint alone.
KEPT = 1 << 29

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
    mapping = {k: (v, None) if isinstance(v, str) else v for k, v in (parameters or {}).items()}
    arrays, notes = prepared(inputs, seed)
    theirs = TorchSide(torch_fn, [x for x in arrays if not is_key(x)], [name for name, _ in mapping.values()])
    if (why := unready(theirs)) is not None:
        return Report((), refusals=(why,))
    comparison = _Comparison(jax_side(jax_fn, arrays), theirs, arrays, mapping, gradient, max_ulp, seed, notes)
    return comparison.report()


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
        theirs: TorchSide,
        inputs: list[Any],
        mapping: dict[str, Any],
        gradient: bool,
        max_ulp: float | None,
        seed: int,
        notes: list[str],
    ) -> None:
        self.ours, self.theirs, self.inputs, self.mapping = ours, theirs, inputs, mapping
        self.max_ulp, self.seed, self.notes = max_ulp, seed, notes
        self.refusals: list[str] = []
        self.wrt = inexact_places(theirs.inputs) if gradient else []
        self.gradient = gradient and bool(self.wrt or mapping)
        if gradient and not self.gradient:
            notes.append("no input is inexact, so there is no gradient to compare; give parameters= for theirs")

    def report(self) -> Report:
        native, port = self._run_both()
        if self.refusals:
            return Report((), refusals=tuple(self.refusals), notes=tuple(self.notes))
        pairs, structure = _paired(port, native.outputs)
        fits = all(port[ours].shape == native.outputs[theirs].shape for ours, theirs in pairs)
        self.cotangents = drawn_cotangents({theirs: native.outputs[theirs] for _, theirs in pairs}, self.seed)
        if not fits or structure:
            self.gradient = False
        gradients = self._port_gradients(pairs, port) if self.gradient else []
        if self.gradient:
            native = self.theirs.run(self.cotangents, wrt=self.wrt)
        rows = [*structure, *self._judged(port, pairs, native, gradients)]
        found, steps = [], []
        if self.max_ulp is None and not all(row.passed for row in rows):
            rows = [self._hinted(row, port, pairs, native, gradients) for row in rows]
            try:
                found, steps = self._searched(pairs, port, rows)
            except Exception as error:  # of any kind: what the search runs is the user's code
                self.notes.append(
                    f"the place could not be searched for: {type(error).__name__}: {error}".splitlines()[0]
                )
        return Report(tuple(rows), tuple(found), tuple(steps), tuple(self.refusals), tuple(self.notes))

    def _run_both(self) -> tuple[Results, dict[str, np.ndarray]]:
        native, again = self.theirs.run(None), self.theirs.run(None)
        if not _equal(native.outputs, again.outputs):
            self.refusals.append(
                "the torch function is not deterministic: two calls with the same inputs differ; turn off what draws at "
                "random (.eval(), p=0), or seed it within the function"
            )
        port, port_again = self.ours.outputs(), self.ours.outputs()
        if not _equal(port, port_again):
            self.refusals.append(
                "jax_fn is not deterministic: two calls with the same inputs differ; turn off what draws at random"
            )
        return native, port

    def _port_gradients(self, pairs: list[tuple[str, str]], port: dict[str, np.ndarray]) -> list[np.ndarray]:
        given = {
            ours: self.cotangents[theirs].astype(port[ours].dtype)
            for ours, theirs in pairs
            if theirs in self.cotangents
        }
        wrt = inexact_places(self.inputs)
        try:
            return self.ours.gradients(given, wrt, list(self.mapping))
        except ValueError as error:
            if str(error).startswith("compare:"):
                raise
            self._cannot_be_differentiated("jax_fn", error)
        except Exception as error:  # of any kind: it comes from the user's function
            self._cannot_be_differentiated("jax_fn", error)
        return []

    def _cannot_be_differentiated(self, which: str, error: Exception) -> None:
        reason = (str(error).strip().splitlines() or [""])[0]
        self.refusals.append(
            f"the gradient of {which} cannot be taken ({type(error).__name__}: {reason}); "
            "its values alone are compared with gradient=False"
        )
        self.gradient = False

    def _judged(
        self, port: dict[str, np.ndarray], pairs: list[tuple[str, str]], native: Results, gradients: list[np.ndarray]
    ) -> list[Row]:
        exact = self._exact()
        names = self._names(pairs)
        ours = [port[name] for name, _ in pairs] + gradients
        kinds = ["output"] * len(pairs) + ["gradient"] * len(self.wrt) + ["parameter gradient"] * len(self.mapping)
        theirs = self._arrays(pairs, native), self._arrays(pairs, exact)
        like = self._like()

        def rows(noise: list[np.ndarray]) -> list[Row]:
            references = [Reference(*parts) for parts in zip(*theirs, noise, strict=True)]
            return [
                judge(
                    name, kind, y, reference, like if like is not None and like.shape == y.shape else None, self.max_ulp
                )
                for name, kind, y, reference in zip(names, kinds, ours, references, strict=False)
            ]

        judged = rows([np.zeros(y.shape) for y in theirs[1]])
        samples: list[list[np.ndarray]] = []
        for count in SAMPLES:
            if self.max_ulp is not None or all(row.passed for row in judged):
                break
            samples += [self._arrays(pairs, self._disturbed(len(samples) + i)) for i in range(count)]
            judged = rows([_noise(y, [s[i] for s in samples]) for i, y in enumerate(theirs[1])])
        return judged

    def _hinted(self, row: Row, port: Any, pairs: Any, native: Results, gradients: list[np.ndarray]) -> Row:
        """Return a row with a hint at the cause, found by trying."""
        ours = [port[name] for name, _ in pairs] + gradients
        theirs, like = self._arrays(pairs, native), self._like()
        place = next((i for i, name in enumerate(self._names(pairs)) if name == row.name), None)
        if row.passed or place is None or place >= len(ours):
            return row
        y, right = ours[place], theirs[place]
        x = like if like is not None and like.shape == y.shape else None
        said = kink(y, right, x) if row.kind != "output" else ""
        return dataclasses.replace(row, hint=said or hint(y, right, x if row.kind == "output" else None))

    def _searched(
        self, pairs: list[tuple[str, str]], port: dict[str, np.ndarray], rows: list[Row]
    ) -> tuple[list, list]:
        """Return where the port parts from torch, and torch's modules in order."""
        backward = all(row.passed for row in rows if row.kind == "output")
        search = self._search(pairs, port, backward=False)
        search.run()
        steps = search.steps()
        if backward and not search.divergences:
            search = self._search(pairs, port, backward=True)
            search.run()
        if search.divergences:
            return search.divergences, steps
        lines = search.program.lines(search.program.outputs[0]) if search.program.outputs else ()
        kind = type(self.theirs.function).__name__
        return [Divergence("", kind, "the result", lines[-1] if lines else "", lines, "", backward=backward)], steps

    def _search(self, pairs: list[tuple[str, str]], port: dict[str, np.ndarray], *, backward: bool) -> Search:
        """Return a search through the forward pass, or through the gradient."""
        given, wrt = (self.cotangents, self.wrt) if backward else (None, [])
        recording = self.theirs.record(given, wrt=wrt, keep=KEPT)
        eps = self.eps()
        disturbed = [self.theirs.record(given, wrt=wrt, keep=KEPT, rounding=Rounding(eps, seed)) for seed in range(2)]
        matching = Matching(recording, disturbed, eps)
        del disturbed
        if backward:
            ours = {a: self.cotangents[b].astype(port[a].dtype) for a, b in pairs if b in self.cotangents}
            gradient, moving, cotangents = self.ours.gradient_function(
                ours, inexact_places(self.inputs), list(self.mapping)
            )
            program = Program(lambda _, xs: gradient(*xs), [moving, cotangents], [])
            outputs = [
                (i, place) for i, place in zip(recording.gradients, program.outputs, strict=True) if i is not None
            ]
        else:
            function = lambda weights, xs: [y for _, y in named_arrays(self.ours.function(weights, *xs))]  # noqa: E731
            program = Program(function, self.ours.inputs, self.ours.parameters)
            names = list(port)
            outputs = [
                (recording.outputs[b], program.outputs[names.index(a)]) for a, b in pairs if b in recording.outputs
            ]
        modules = {n: m for prefix, root in self.theirs.modules.items() for n, m in root.named_modules(prefix=prefix)}
        return Search(recording, matching, program, outputs, modules, backward=backward)

    def _exact(self) -> Results:
        return self.theirs.run(self.cotangents if self.gradient else None, wrt=self.wrt, exact=True)

    def _disturbed(self, number: int) -> Results:
        eps = self.eps()
        return self.theirs.disturbed(self.cotangents if self.gradient else None, wrt=self.wrt, eps=eps, seed=number)

    def eps(self) -> float:
        """Return the coarsest rounding of the dtypes that torch computes in."""
        dtypes = [
            x.dtype
            for x in [*jax.tree_util.tree_leaves(self.theirs.inputs), *self.cotangents.values()]
            if is_inexact(x)
        ]
        weights = {p.dtype for m in self.theirs.modules.values() for p in m.parameters() if p.is_floating_point()}
        return max(*(float(jnp.finfo(d).eps) for d in dtypes), *(torch.finfo(d).eps for d in weights), 0.0, 0.0)

    def _arrays(self, pairs: list[tuple[str, str]], results: Results) -> list[np.ndarray]:
        """Return torch's arrays in the order of the rows, those of parameters laid out as the port's."""
        gradients = list(results.gradients)
        for i, (_, axes) in enumerate(self.mapping.values()):
            if gradients and axes is not None:
                place = len(self.wrt) + i
                gradients[place] = gradients[place].transpose(axes)
        return [results.outputs[name] for _, name in pairs] + gradients

    def _names(self, pairs: list[tuple[str, str]]) -> list[str]:
        outputs = [f"output{ours or theirs}" for ours, theirs in pairs]
        leaves = jax.tree_util.tree_flatten_with_path(self.theirs.inputs, is_leaf=lambda x: x is None)[0]
        places = [(path[0].idx, jax.tree_util.keystr(path[1:])) for path, _ in leaves]
        inputs = [f"gradient of input {places[i][0]}{places[i][1]}" for i in self.wrt]
        return [*outputs, *inputs, *(f"gradient of {path}" for path in self.mapping)]

    def _like(self) -> np.ndarray | None:
        """Return the one inexact input, if there is one alone."""
        leaves = [x for x in jax.tree_util.tree_leaves(self.theirs.inputs) if is_inexact(x)]
        return leaves[0] if len(leaves) == 1 else None


def _paired(port: dict[str, np.ndarray], torch: dict[str, np.ndarray]) -> tuple[list[tuple[str, str]], list[Row]]:
    """Return which output stands for which, and a row if one side has more of them."""
    if set(port) == set(torch):
        return [(name, name) for name in port], []
    pairs = list(zip(port, torch, strict=False))
    if len(port) == len(torch):
        return pairs, []
    verdict = f"{len(port)} outputs, torch has {len(torch)}"
    return pairs, [Row("outputs", "output", "", (), passed=False, verdict=verdict)]


def _equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(x.tobytes() == y.tobytes() for x, y in zip(a.values(), b.values(), strict=True))


def _noise(exact: np.ndarray, samples: list[np.ndarray]) -> np.ndarray:
    """Return by how much roundings move each element, by root mean square."""
    with np.errstate(all="ignore"):
        moved = sum(np.abs(sample - exact) ** 2 for sample in samples)
        noise = np.sqrt(moved / len(samples))
    return np.where(np.isfinite(noise), noise, 0)

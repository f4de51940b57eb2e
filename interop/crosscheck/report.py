"""The report of a comparison: a row an array, the places where the two sides part, and all of it as a table."""

import dataclasses
import math
import os
import textwrap
from collections.abc import Iterator
from typing import Any

import numpy as np

WIDTH = 100


@dataclasses.dataclass(frozen=True)
class Element:
    """The element of an array that is farthest beyond what rounding explains.

    Attributes:
        index: Its place.
        input: The input there, where one input alone has the array's shape; None otherwise.
        jax: The port's value.
        torch: torch's value in the same dtype.
        exact: torch's value in float64.
    """

    index: tuple[int, ...]
    input: float | None
    jax: float
    torch: float
    exact: float


@dataclasses.dataclass(frozen=True)
class Row:
    """One array of the port beside torch's.

    Attributes:
        name: Which one: ``output``, ``output[1]``, ``gradient of input 0``, ``gradient of fc.weight``.
        kind: "output", "gradient", or "parameter gradient".
        dtype: The port's dtype.
        shape: The port's shape.
        passed: Whether the port is right as far as rounding can tell.
        verdict: "equal", "nearer than torch", "within rounding", or what differs.
        ulps: The largest distance between the two, in units in the last place.
        absolute: The same as a difference.
        ratio: The port's largest error over torch's own, both against float64, or over the floor where that is larger.
        worst: The element that decides.
        hint: What the cause may be, or nothing.
    """

    name: str
    kind: str
    dtype: str
    shape: tuple[int, ...]
    passed: bool
    verdict: str
    ulps: float = 0.0
    absolute: float = 0.0
    ratio: float = 0.0
    worst: Element | None = None
    hint: str = ""


@dataclasses.dataclass(frozen=True)
class Divergence:
    """One place where the port does not follow torch.

    Attributes:
        module: The innermost torch module that does not follow, by its name in ``named_modules()``; "" is the whole.
        kind: Its class, as ``"GELU"``.
        operation: torch's operation, as ``"gelu"``.
        source: The line of the JAX code that computes the value, as ``"model.py:42"``; "" where none is known.
        calls: The lines that lead there, outermost first.
        torch_source: The line of the torch code.
        after: The last module before it whose result was found in the port.
        before: The next one whose result was found again, once the right value was put in the place of the wrong one.
        distance: The largest difference there, as a share of the largest value.
        sure: Whether it was tested: with torch's value in its place, the port follows torch again.
        backward: Whether it is a gradient of the module that differs.
        hint: What the cause may be, or nothing.
    """

    module: str
    kind: str
    operation: str
    source: str
    calls: tuple[str, ...]
    torch_source: str
    after: str = ""
    before: str = ""
    distance: float = 0.0
    sure: bool = False
    backward: bool = False
    hint: str = ""

    def __str__(self) -> str:
        what = "gradient of " if self.backward else ""
        where = f"{what}{self.module or 'the module itself'} ({self.kind}: {self.operation})"
        lines = [
            f"{where}, {self.source or 'no line of the port is known'}"
            + f"; torch: {self.torch_source}" * bool(self.torch_source)
        ]
        facts = [f"after {self.after}" * bool(self.after), f"before {self.before}" * bool(self.before)]
        facts.append(f"off by {self.distance:.1e} of the largest value" * (0 < self.distance < math.inf))
        if any(facts):
            lines.append("  " + ", ".join(filter(None, facts)))
        if len(self.calls) > 1:
            lines.append("  called from " + " > ".join(self.calls[:-1][-3:]))
        if not self.sure:
            lines.append("  not tested: no value of the port could be replaced such that what follows is right")
        return "\n".join([*lines, *([f"  hint: {self.hint}"] if self.hint else [])])


@dataclasses.dataclass(frozen=True)
class Step:
    """One result of a torch module, in the order of execution.

    Attributes:
        module: Its name.
        kind: Its class.
        found: Whether the port has the value, or has what follows from it.
    """

    module: str
    kind: str
    found: bool


@dataclasses.dataclass(frozen=True)
class Report:
    """What came of a comparison.

    Attributes:
        rows: One for each output, gradient, and gradient of a parameter.
        divergences: The places where the port does not follow torch, in the order of execution.
        steps: The torch modules in the order of execution, found or not; empty where no search was needed.
        refusals: Why nothing can be said, with the way out; a report with one has not passed.
        notes: What the reader should know of how it was compared.
    """

    rows: tuple[Row, ...]
    divergences: tuple[Divergence, ...] = ()
    steps: tuple[Step, ...] = ()
    refusals: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the port is equal to torch as far as rounding can tell."""
        return not self.refusals and bool(self.rows) and all(row.passed for row in self.rows)

    @property
    def divergence(self) -> Divergence | None:
        """The first place where the port does not follow torch, or None."""
        return self.divergences[0] if self.divergences else None

    def to_dict(self) -> dict[str, Any]:
        """Return it as lists, dicts, strings and numbers, as JSON has them: a number that is not finite is a string."""
        return plain({"passed": self.passed, **dataclasses.asdict(self)})

    def write_html(self, path: str | os.PathLike[str]) -> None:
        """Write it as a page, one file without requests to the network; needs the extra ``report``.

        Args:
            path: The file to write.

        Raises:
            ModuleNotFoundError: If jinja2 or matplotlib is missing.
            OSError: If the file cannot be written.
        """
        from .usage import html_writer

        html_writer()(self, path)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        failed = sum(not row.passed for row in self.rows)
        if self.refusals:
            yield "not compared"
        elif self.passed:
            yield f"passed: {len(self.rows)} arrays are equal to torch's as far as rounding can tell"
        else:
            yield f"FAILED: {failed} of {len(self.rows)} arrays differ"
        for refusal in self.refusals:
            yield from _wrapped("  ", refusal)
        if self.rows:
            yield ""
            yield from _table(self.rows)
        for row in self.rows:
            yield from _details(row)
        if self.divergences:
            yield ""
            yield "where it parts from torch:"
        for number, divergence in enumerate(self.divergences, 1):
            for i, line in enumerate(str(divergence).split("\n")):
                yield from _wrapped(f"{number:3}. " if i == 0 else "     ", line)
        for note in self.notes:
            yield from _wrapped("note: ", note)


COLUMNS = (("array", 28), ("dtype", 9), ("shape", 15), ("ULP", 8), ("absolute", 9), ("ratio", 7), ("verdict", 16))


def _table(rows: tuple[Row, ...]) -> Iterator[str]:
    yield _line([title for title, _ in COLUMNS])
    for row in rows:
        shape = "x".join(map(str, row.shape)) or "scalar"
        numbers = [
            f"{row.ulps:.0f}" if row.ulps < 1e7 else f"{row.ulps:.1e}",
            f"{row.absolute:.1e}",
            f"{row.ratio:.3g}" if row.ratio < 1e4 else f"{row.ratio:.0e}",
        ]
        verdict = row.verdict if row.passed else row.verdict.upper()
        yield _line([row.name, row.dtype, shape, *numbers, verdict])


def _line(cells: list[str]) -> str:
    padded = []
    for cell, (title, width) in zip(cells, COLUMNS, strict=True):
        cell = cell if len(cell) <= width or title == "verdict" else cell[: width - 1] + "…"
        padded.append(cell.rjust(width) if title in ("ULP", "absolute", "ratio") else cell.ljust(width))
    line = " ".join(padded).rstrip()
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"


def _details(row: Row) -> Iterator[str]:
    if row.passed:
        return
    if row.worst is None:
        yield from _wrapped("  ", f"{row.name}: {row.verdict}")
    if (worst := row.worst) is not None:
        index = ", ".join(map(str, worst.index))
        at = "" if worst.input is None else f" (input {worst.input:.9g})"
        values = f"{worst.jax:.9g} for torch's {worst.torch:.9g}, exactly {worst.exact:.9g}"
        yield from _wrapped("  ", f"{row.name}[{index}]{at}: {values}")
    if row.hint:
        yield from _wrapped("  ", f"hint: {row.hint}")


def _wrapped(indent: str, text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=" " * (len(indent) + 2)) or [indent]


def plain(x: Any) -> Any:
    """Return it as lists, dicts, strings and numbers; a number that is not finite is a string."""
    match x:
        case dict():
            return {key: plain(value) for key, value in x.items()}
        case list() | tuple():
            return [plain(value) for value in x]
        case np.generic():
            return plain(x.item())
        case float() if x != x or x in (float("inf"), float("-inf")):
            return str(x)
    return x

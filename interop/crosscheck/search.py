"""The search: where the port parts from torch, and what follows once the right value stands in the place of the wrong.

A result of torch is *found* if the port has it. It is *sound* if it is found or anything computed from it is: a port
may compute the same by other steps. The first result that is not sound, though all that fed it is, is where the port
parts from torch. Then torch's value is put in the place of one value of the port after the other, until what follows is
found again; that value is the wrong one, its line is the line of the mistake, and the search goes on behind it.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .fingerprints import HUGE, distance
from .hints import hint
from .nodes import Node, Pass
from .program import Program
from .repairs import Repair, Repairs
from .report import Divergence, Step
from .tracks import Tracks

# How many places are looked for.
MOST_DIVERGENCES = 16
# How many times as far as rounding explains a result must be off that is looked for because others are.
SUBTLE = 2.0


class Search:
    """One search.

    Attributes:
        divergences: What was found so far.
    """

    def __init__(
        self,
        computed: Pass,
        program: Program,
        outputs: list[tuple[int, int]],
        modules: Mapping[str, Any],
        *,
        backward: bool,
    ) -> None:
        """Prepare a search.

        Args:
            computed: What torch computed.
            program: The port.
            outputs: For each output or gradient the place of torch's result and that of the port's value.
            modules: Torch's modules by name, for hints.
            backward: Whether the program is that of the gradient, which has forward results where it needs them alone.
        """
        self.tracks = Tracks(computed, program, [node for node, _ in outputs])
        self.repairs = Repairs(self.tracks, outputs)
        self.modules, self.backward = modules, backward
        self.divergences: list[Divergence] = []
        self.excluded: set[int] = set()

    def run(self) -> None:
        """Find the divergences, one after the other."""
        for _ in range(MOST_DIVERGENCES):
            first = self._first()
            if self._take_near_miss(len(self.tracks.nodes) if first is None else first):
                continue
            if first is None:
                return
            repair = self.repairs.find(first)
            if repair is None or not repair.works:
                self.excluded |= self.tracks.descendants(first)
            if repair is None:
                self._note(self._described(first, repair))
            else:
                self._take(first, repair)

    def _take_near_miss(self, end: int) -> bool:
        """Note a result before this one, if there is one, that is off by so little that it drowns in what follows."""
        for i in self.tracks.judged:
            if i >= end:
                return False
            if (
                i in self.tracks.found
                or i in self.excluded
                or not self.tracks.nodes[i].parents
                or (self.backward and not self.tracks.nodes[i].backward)
            ):
                continue
            if self._is_near_miss(i):
                self.excluded.add(i)
                if (repair := self.repairs.find(i)) is not None and repair.works:
                    self._take(i, repair)
                    return True
        return False

    def _is_near_miss(self, i: int) -> bool:
        return self.tracks.matching.near(i, self.tracks.program.prints, self.tracks.program.value) > SUBTLE

    def _note(self, divergence: Divergence) -> None:
        """Note a divergence, one for a module and a line: a loop passes there more than once."""
        noted = {(d.module, d.source, d.backward) for d in self.divergences}
        if (divergence.module, divergence.source, divergence.backward) not in noted:
            self.divergences.append(divergence)

    def _take(self, first: int, repair: Repair) -> None:
        """Note a divergence, and go on with the right value."""
        self._note(self._described(first, repair))
        self.tracks.found[repair.node] = -1  # no place: the value was put there
        self.tracks.program.replace(repair.key, repair.value)
        self.tracks.refresh()

    def steps(self) -> list[Step]:
        """Return torch's modules in the order of execution, found or not."""
        sound = self.tracks.sound()
        last: dict[tuple[str, str], int] = {}
        for i in self.tracks.judged:
            place = self.tracks.nodes[i].place
            if place.module and not self.tracks.nodes[i].backward:
                last[place.module, place.kind] = i
        return [Step(module, kind, i in sound) for (module, kind), i in last.items()]

    def _first(self) -> int | None:
        sound, judged = self.tracks.sound(), set(self.tracks.judged)
        good: dict[int, bool] = {}
        for i, node in enumerate(self.tracks.nodes):
            fed = all(good[p] for p in node.parents)
            if (
                i in sound
                or not node.parents
                or not node.depends
                or i in self.excluded
                or (self.backward and not node.backward)
            ):
                good[i] = True
            elif i in judged:
                if fed:
                    return i
                good[i] = False
            else:
                good[i] = fed
        return None

    def _described(self, first: int, repair: Repair | None) -> Divergence:
        node = self.tracks.nodes[first if repair is None or not repair.works else repair.node]
        sound = self.tracks.sound()
        before = [self.tracks.nodes[i].place.module for i in self.tracks.judged if i < first and i in sound]
        after = [name for name in before if name != node.place.module]
        lines, off = (repair.lines, self._off(repair)) if repair else self._guess(first)
        module, kind = node.place.module, node.place.kind
        if repair is not None and repair.module is not None:
            module = repair.module
            while type(self.modules.get(module)).__name__ in ("ModuleList", "ModuleDict"):  # which compute nothing
                module = module.rpartition(".")[0]
            kind = type(self.modules.get(module)).__name__
        return Divergence(
            module=module,
            kind=kind,
            operation=node.operation,
            source=lines[-1] if lines else "",
            calls=lines,
            torch_source=node.place.line,
            after=after[-1] if after else "",
            before=self.tracks.nodes[repair.next].place.module if repair and repair.next is not None else "",
            distance=off,
            sure=repair is not None and repair.works,
            backward=node.backward,
            hint=self._hint(node, repair) if repair else "",
        )

    def _hint(self, node: Node, repair: Repair) -> str:
        """Return what explains the difference."""
        value = np.asarray(self.tracks.program.value(repair.place))
        feeding = [place for i in self.tracks.feeding(repair.node) if (place := self.tracks.found[i]) >= 0]
        one = len(feeding) == 1 and not self.tracks.nodes[repair.node].moves
        x = np.asarray(self.tracks.program.value(feeding[0])) if one else None
        if x is not None and x.size == value.size:
            x = x.reshape(value.shape)
        if isinstance(repair.key, tuple) or repair.place in feeding:
            return "the step is left out: the port has its input here"
        return hint(value, np.asarray(repair.value), x, self.modules.get(node.place.module))

    def _off(self, repair: Repair) -> float:
        ours, right = (
            np.asarray(self.tracks.program.value(repair.place), np.float64),
            np.asarray(repair.value, np.float64),
        )
        with np.errstate(all="ignore"):
            small = (np.abs(ours) < HUGE) & (np.abs(right) < HUGE)
            off = np.abs(ours - right)[small].max(initial=0.0) / max(np.abs(right[small]).max(initial=0.0), 1e-300)
        return float(off) or math.inf  # what is equal where both are finite differs in what is masked

    def _guess(self, first: int) -> tuple[tuple[str, ...], float]:
        """Return the lines of the value that is nearest, and how far it is."""
        program, wanted = self.tracks.program, self.tracks.nodes[first].print
        if wanted is None:
            return (), math.inf
        taken = set(self.tracks.found.values())
        near = [(distance(p, wanted), i) for i, p in program.prints.items() if p.size == wanted.size and i not in taken]
        if not near:
            return (program.lines(program.outputs[0]) if program.outputs else ()), math.inf
        apart, place = min(near)
        return program.lines(place), apart

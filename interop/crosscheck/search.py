"""The search: where the port parts from torch, and what follows once the right value stands in the place of the wrong.

A result of torch is *found* if the port has it. It is *sound* if it is found or anything computed from it is: a port may
compute the same by other steps. The first result that is not sound, though all that fed it is, is where the port parts
from torch. Then torch's value is put in the place of one value of the port after the other, until what follows is found
again; that value is the wrong one, its line is the line of the mistake, and the search goes on behind it.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from .fingerprints import HUGE, arrangements, distance
from .hints import hint
from .matching import Match, Matching, prints_of
from .nodes import Node, Pass
from .program import Program
from .report import Divergence, Step

# How many are looked for.
MOST_DIVERGENCES = 16
# How many results of torch behind the one that differs are tried; how many values of the port in each one's place, the
# first in the program and the nearest by value; and how many values are computed anew to see what is found then.
# The share of its values that a value in another order has in common with the right one, at least.
MOVED = 0.45
# How many times as far as rounding explains a result must be off that is looked for because others are.
SUBTLE = 2.0
REGION, TRIALS, NEAREST, AHEAD = 8, 24, 8, 120


@dataclasses.dataclass(frozen=True)
class Repair:
    """Torch's value in the place of one of the port's.

    Attributes:
        node: Torch's result.
        key: The place in the program, or an operation's number and the place for this operation alone.
        value: The value.
        lines: The lines of the code that is wrong.
        gain: How many results of torch are found then that were not.
        next: The first of them.
        module: The module to name, if it is not that of torch's result.
    """

    node: int
    key: Any
    value: Any
    lines: tuple[str, ...]
    gain: float
    next: int | None
    module: str | None = None


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
        self.nodes, self.matching, self.program, self.backward = computed.nodes, Matching(computed), program, backward
        self.outputs, self.modules = outputs, modules
        self.divergences: list[Divergence] = []
        needed = self._ancestors([node for node, _ in outputs])
        self.judged = [i for i in computed.slack if i in needed]
        self.children: dict[int, list[int]] = {}
        for i in sorted(needed):
            for parent in self.nodes[i].parents:
                self.children.setdefault(parent, []).append(i)
        self.found: dict[int, Match] = {}
        self.excluded: set[int] = set()
        self._refresh()

    def run(self) -> None:
        """Find the divergences, one after the other."""
        for _ in range(MOST_DIVERGENCES):
            first = self._first()
            if self._take_near_miss(len(self.nodes) if first is None else first):
                continue
            if first is None:
                return
            repair = self._repair(first)
            if repair is None or repair.gain < 1:
                self.excluded |= self._descendants(first)
            if repair is None:
                self._note(self._described(first, repair))
            else:
                self._take(first, repair)

    def _take_near_miss(self, end: int) -> bool:
        """Note a result before this one that is off by little more than rounding, and drowns in what follows, if there is one."""
        for i in self.judged:
            if i >= end:
                return False
            if i in self.found or i in self.excluded or (self.backward and not self.nodes[i].backward):
                continue
            if self._is_near_miss(i):
                self.excluded.add(i)
                if (repair := self._repair(i)) is not None and repair.gain >= 1:
                    self._take(i, repair)
                    return True
        return False

    def _is_near_miss(self, i: int) -> bool:
        return self.matching.near(i, self.program.prints, self.program.value) > SUBTLE

    def _note(self, divergence: Divergence) -> None:
        """Note a divergence, one for a module and a line: a loop passes there more than once."""
        noted = {(d.module, d.source, d.backward) for d in self.divergences}
        if (divergence.module, divergence.source, divergence.backward) not in noted:
            self.divergences.append(divergence)

    def _take(self, first: int, repair: Repair) -> None:
        """Note a divergence, and go on with the right value."""
        self._note(self._described(first, repair))
        self.found[repair.node] = Match(-1, True)
        self.program.adopt(self.program.rerun({repair.key: repair.value}))
        self._refresh()

    def steps(self) -> list[Step]:
        """Return torch's modules in the order of execution, found or not."""
        sound = self._sound()
        last: dict[tuple[str, str], int] = {}
        for i in self.judged:
            place = self.nodes[i].place
            if place.module and not self.nodes[i].backward:
                last[place.module, place.kind] = i
        return [Step(module, kind, i in sound) for (module, kind), i in last.items()]

    def _refresh(self) -> None:
        wanted = [i for i in self.judged if i not in self.found or not self.found[i].ordered]
        self.found |= self.matching.find(wanted, self.program.prints, self.program.value)

    def _sound(self) -> set[int]:
        """Return torch's results that are found, or that something sound is computed from."""
        sound: set[int] = set()
        for i in range(len(self.nodes) - 1, -1, -1):
            match = self.found.get(i)
            if (match is not None and match.ordered) or any(c in sound for c in self.children.get(i, ())):
                sound.add(i)
            elif match is not None and not any(self.nodes[c].is_judged for c in self._descendants(i) - {i}):
                continue  # in another order, and nothing that follows is found
        return sound

    def _first(self) -> int | None:
        sound, judged = self._sound(), set(self.judged)
        good: dict[int, bool] = {}
        for i, node in enumerate(self.nodes):
            fed = all(good[p] for p in node.parents)
            if i in sound or not node.depends or i in self.excluded or (self.backward and not node.backward):
                good[i] = True
            elif i in judged:
                if fed:
                    return i
                good[i] = False
            else:
                good[i] = fed
        return None

    def _repair(self, first: int) -> Repair | None:
        """Return the value of the port that is wrong, and what is right; None if none could be told."""
        if (repair := self._reordering(first) or self._extra(first)) is not None:
            return repair
        best: Repair | None = None
        for node in self._region(first):
            for repair in self._trials(node):
                if best is None or repair.gain > best.gain:
                    best = repair
            if best is not None and best.gain >= 1:
                return best
        return best

    def _reordering(self, first: int) -> Repair | None:
        """Return the value of the port that is out of order, where torch only moves numbers; None if there is none."""
        for node in self._moved(first):
            for repair in self._trials(node):
                if repair.gain >= 1:
                    return repair
        return None

    def _extra(self, first: int) -> Repair | None:
        """Return the value of a step that the port has and torch has not; None if there is none."""
        program = self.program
        taken = {match.place for match in self.found.values() if match.ordered}
        behind_first = self._descendants(first)
        for i in self._feeding(first):
            place, node = self.found[i].place, self.nodes[i]
            if place < 0 or node.array is None:
                continue
            behind = [j for j in self._soon_after(place) if j in program.prints and j not in taken]
            for j in (j for j in behind if np.size(program.value(j)) == node.array.size):
                for repair in self._tried(
                    first, j, j, program.lines(j), np.asarray(program.value(place)), behind_first
                ):
                    if repair.next == first:
                        # What stands on the line of torch's last result belongs to that; else it is between the two.
                        together = program.lines(j) == program.lines(place)
                        return dataclasses.replace(repair, module=self._between(i, i if together else first))
        return None

    def _between(self, i: int, j: int) -> str:
        """Return the innermost module that two results are in."""
        a, b = (self.nodes[k].place.module.split(".") for k in (i, j))
        return ".".join(x for x, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))

    def _soon_after(self, place: int) -> list[int]:
        """Return what the program computes from a value in three operations at most."""
        behind, last = [], [place]
        for _ in range(3):
            last = [j for i in last for number, _ in self._users(i) for j in self.program.operations[number].results]
            behind += last
        return sorted(set(behind))

    def _moved(self, first: int) -> list[int]:
        """Return the results that only move numbers, between what is found and the first that is not.

        The last come first, and those within the modules on both sides last: a layer that flattens its input makes no
        mistake in that.
        """
        moved, fed, pending = set(), set(), list(self.nodes[first].parents)
        while pending:
            i = pending.pop()
            if i in self.found:
                fed.add(self.nodes[i].place.module)
            elif i not in moved and self.nodes[i].moves and self.nodes[i].depends:
                moved.add(i)
                pending += self.nodes[i].parents
        within = {self.nodes[first].place.module, *fed}
        inner = {self.nodes[i].place.module for i in self.judged}
        within = {name for name in within if not any(other.startswith(f"{name}.") for other in inner)}
        order = sorted(moved, key=lambda i: (self.nodes[i].place.module in within, -i))
        return [i for i in order if self.nodes[i].array is not None]

    def _region(self, first: int) -> list[int]:
        """Return the results that are not sound, from the first on, in the order of execution."""
        sound, behind = self._sound(), self._descendants(first)
        return [first, *(i for i in self.judged if i in behind and i not in sound and i != first)][:REGION]

    def _trials(self, node: int) -> Iterator[Repair]:
        array = self.nodes[node].array
        if array is None:
            return
        for key, place, lines in self._candidates(node):
            for repair in self._tried(node, key, place, lines, array, self._descendants(node) - {node}):
                yield repair
                if repair.gain >= 3:
                    return

    def _tried(
        self, node: int, key: Any, place: int, lines: tuple[str, ...], array: np.ndarray, behind: set[int]
    ) -> Iterator[Repair]:
        """Yield what is found of what is behind with an array in the place of a value, in the arrangements that are likely."""
        ahead = [i for i in self.judged if i in behind and i not in self.found][:25]
        value = self.program.value(place)
        for arranged in self._arranged(array, np.asarray(value)):
            put = jnp.asarray(arranged).astype(value.dtype)
            changed = self.program.rerun({key: put}, stop=AHEAD)
            prints = {i: p for i, p in prints_of(self.program, changed).items() if i != key}
            gained = self.matching.find(ahead, prints, changed.__getitem__)
            ordered = sorted(i for i, match in gained.items() if match.ordered)
            gain = len(ordered) or (0.5 if self._is_output(node, key) else 0)
            if gain:
                yield Repair(node, key, put, lines, gain, ordered[0] if ordered else None)

    def _candidates(self, node: int) -> list[tuple[Any, int, tuple[str, ...]]]:
        """Return the values that may be the wrong ones: the key, the place, and the lines of each."""
        program, size = self.program, self.nodes[node].array.size
        nodes = {self.found[i].place: i for i in self._feeding(node) if self.found[i].place >= 0}
        feeding = list(nodes)
        fed = self._fed(feeding)
        taken = {match.place for match in self.found.values() if match.ordered}
        if self.nodes[node].moves:
            chosen = {i for place in feeding if np.size(program.value(place)) > size for i in self._soon_after(place)}
            moved = {i for i in fed if i in program.moved or i in program.prints} | chosen
            moved = [i for i in sorted(moved - taken) if np.size(program.value(i)) == size]
            shares = lambda i: _shared(np.asarray(program.value(i)), self.nodes[node].array) > MOVED  # noqa: E731
            moved = [i for i in moved[: 2 * TRIALS] if i in chosen or shares(i)]
            return [(i, i, program.lines(i)) for i in moved]
        wrong = [i for i, p in program.prints.items() if p.size == size and i in fed and i not in taken]
        wrong.sort(key=lambda i: (-fed[i], program.maker.get(i, -1)))
        wanted = self.nodes[node].print
        nearest = [] if wanted is None else sorted(wrong, key=lambda i: distance(program.prints[i], wanted))[:NEAREST]
        candidates = [(i, i, program.lines(i)) for i in dict.fromkeys([*wrong[:TRIALS], *nearest])]
        for place in feeding:  # a step that the port leaves out: its operand goes on as it is
            users = self._users(place) if np.size(program.value(place)) == size else []
            # What torch does on one line stands on one line of the port; else it is missing where the operand is used.
            together = self.nodes[nodes[place]].place.line == self.nodes[node].place.line and place in program.maker
            for number, i in users:
                lines = program.lines(place) if together else program.operations[number].lines
                candidates += [(place, place, lines)] * (number == users[0][0]) + [((number, i), i, lines)] * (
                    len(users) > 1
                )
        return candidates

    def _users(self, place: int) -> list[tuple[int, int]]:
        """Return the operations that use a value, or the same in another shape, with the place that each uses."""
        users = []
        for number in self.program.consumers.get(place, ()):
            results = [i for i in self.program.operations[number].results if self.program.same.get(i) == place]
            users += [user for i in results for user in self._users(i)] if results else [(number, place)]
        return users

    def _feeding(self, node: int) -> list[int]:
        """Return the nearest results before this one that are found."""
        feeding, pending, seen = [], list(self.nodes[node].parents), set()
        while pending:
            i = pending.pop()
            if i in seen:
                continue
            seen.add(i)
            if i in self.found:
                feeding.append(i)
            else:
                pending += self.nodes[i].parents
        return sorted(feeding)

    def _fed(self, places: list[int]) -> dict[int, int]:
        """Return what the program computes from values, each with the number of them; everything if there are none."""
        if not places:
            return dict.fromkeys(self.program.prints, 0)
        sources = {place: {place} for place in places}
        for operation in self.program.operations:
            taken = set().union(*(sources[i] for i in operation.operands if i in sources))
            if taken:
                sources.update(dict.fromkeys((i for i in operation.results if i not in places), taken))
        return {i: len(taken) for i, taken in sources.items() if i not in places}

    def _arranged(self, array: np.ndarray, value: np.ndarray) -> list[np.ndarray]:
        """Return torch's values in the shape of the port's: in the order of axes that is nearest, and the next."""
        if array.shape == value.shape:
            return [array]
        with np.errstate(all="ignore"):
            found = list(arrangements(array, value.shape))
            nearest = sorted(found[1:], key=lambda x: float(np.nanmean(np.abs(x - value))))
        return [*found[:1], *nearest[:2]]

    def _is_output(self, node: int, key: Any) -> bool:
        """Say whether a result of torch is an output, but for its shape, and the value of the port is the same one."""
        for output, place in self.outputs:
            i = output
            while i != node and self.nodes[i].moves and len(self.nodes[i].parents) == 1:
                (i,) = self.nodes[i].parents
            if i == node and self.program.origin(place) == key:
                return True
        return False

    def _described(self, first: int, repair: Repair | None) -> Divergence:
        node = self.nodes[first if repair is None or repair.gain < 1 else repair.node]
        sound = self._sound()
        before = [self.nodes[i].place.module for i in self.judged if i < first and i in sound]
        after = [name for name in before if name != node.place.module]
        lines, off = (repair.lines, self._off(repair)) if repair else self._guess(first)
        module, kind = node.place.module, node.place.kind
        if repair is not None and repair.module is not None:
            module, kind = repair.module, type(self.modules.get(repair.module)).__name__
        return Divergence(
            module=module,
            kind=kind,
            operation=node.operation,
            source=lines[-1] if lines else "",
            calls=lines,
            torch_source=node.place.line,
            after=after[-1] if after else "",
            before=self.nodes[repair.next].place.module if repair and repair.next is not None else "",
            distance=off,
            sure=repair is not None and repair.gain >= 1,
            backward=node.backward,
            hint=self._hint(node, repair) if repair else "",
        )

    def _hint(self, node: Node, repair: Repair) -> str:
        """Return what explains the difference."""
        value = np.asarray(self.program.value(self._place(repair)))
        feeding = [self.found[i].place for i in self._feeding(repair.node) if self.found[i].place >= 0]
        one = len(feeding) == 1 and not self.nodes[repair.node].moves
        x = np.asarray(self.program.value(feeding[0])) if one else None
        if x is not None and x.size == value.size:
            x = x.reshape(value.shape)
        if isinstance(repair.key, tuple) or self._place(repair) in feeding:
            return "the step is left out: the port has its input here"
        return hint(value, np.asarray(repair.value), x, self.modules.get(node.place.module))

    @staticmethod
    def _place(repair: Repair) -> int:
        return repair.key if isinstance(repair.key, int) else repair.key[1]

    def _off(self, repair: Repair) -> float:
        ours, right = (
            np.asarray(self.program.value(self._place(repair)), np.float64),
            np.asarray(repair.value, np.float64),
        )
        with np.errstate(all="ignore"):
            small = (np.abs(ours) < HUGE) & (np.abs(right) < HUGE)
            off = np.abs(ours - right)[small].max(initial=0.0) / max(np.abs(right[small]).max(initial=0.0), 1e-300)
        return float(off) or float("inf")  # what is equal where both are finite differs in what is masked

    def _guess(self, first: int) -> tuple[tuple[str, ...], float]:
        """Return the lines of the value that is nearest, and how far it is."""
        program, wanted = self.program, self.nodes[first].print
        taken = {match.place for match in self.found.values() if match.ordered}
        near = [(distance(p, wanted), i) for i, p in program.prints.items() if p.size == wanted.size and i not in taken]
        if not near:
            return (program.lines(program.outputs[0]) if program.outputs else ()), float("inf")
        apart, place = min(near)
        return program.lines(place), apart

    def _ancestors(self, places: list[int]) -> set[int]:
        found, pending = set(), list(places)
        while pending:
            i = pending.pop()
            if i not in found:
                found.add(i)
                pending += self.nodes[i].parents
        return found

    def _descendants(self, place: int) -> set[int]:
        found, pending = set(), [place]
        while pending:
            i = pending.pop()
            if i not in found:
                found.add(i)
                pending += self.children.get(i, ())
        return found


def _shared(x: np.ndarray, y: np.ndarray) -> float:
    """Return the share of values that two arrays have in common."""
    x, y = np.sort(x, axis=None), np.sort(y, axis=None)
    place = np.clip(np.searchsorted(y, x), 1, len(y) - 1) if len(y) > 1 else np.zeros(x.shape, int)
    with np.errstate(all="ignore"):
        near = np.minimum(np.abs(y[place] - x), np.abs(y[place - 1] - x)) <= 1e-5 * np.abs(x) + 1e-12
    return float(np.mean(near))

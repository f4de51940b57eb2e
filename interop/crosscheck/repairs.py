"""Repairs: torch's value in the place of one of the port's, such that what follows is found again."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from .fingerprints import arrangements, distance
from .matching import prints_of
from .tracks import Tracks

# How many results of torch behind the one that differs are tried; how many values of the port in each one's place, the
# first in the program and the nearest by value; and how many values are computed anew to see what is found then.
REGION, TRIALS, NEAREST, AHEAD = 8, 24, 8, 120
# How many results must follow where another layer of the same kind may give the first few.
CERTAIN = 8
# The share of its values that a value in another order has in common with the right one, at least.
MOVED = 0.45


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

    @property
    def place(self) -> int:
        """The place of the value."""
        return self.key if isinstance(self.key, int) else self.key[1]

    @property
    def works(self) -> bool:
        """Whether what follows is found."""
        return self.gain >= 1


class Repairs:
    """Tries repairs."""

    def __init__(self, tracks: Tracks, outputs: list[tuple[int, int]]) -> None:
        self.tracks, self.outputs = tracks, outputs

    def find(self, first: int) -> Repair | None:
        """Return the value of the port that is wrong, and what is right; None if none could be told."""
        if (repair := self._reordering(first) or self._extra(first)) is not None:
            return repair
        best: Repair | None = None
        for node in self._region(first):
            for repair in self._trials(node):
                if best is None or repair.gain > best.gain:
                    best = repair
            if best is not None and best.works:
                return best
        return best

    def _reordering(self, first: int) -> Repair | None:
        """Return the value of the port that is out of order, where torch only moves numbers; None if there is none."""
        for node in self._moved(first):
            for repair in self._trials(node):
                if repair.works:
                    return repair
        return None

    def _extra(self, first: int) -> Repair | None:
        """Return the value of a step that the port has and torch has not; None if there is none."""
        program = self.tracks.program
        taken = set(self.tracks.found.values())
        behind_first = self.tracks.descendants(first)
        ahead = sum(k in behind_first and k not in self.tracks.found for k in self.tracks.judged)
        for i in self.tracks.feeding(first):
            place, node = self.tracks.found[i], self.tracks.nodes[i]
            if place < 0 or node.array is None:
                continue
            behind = [j for j in self.tracks.soon_after(place) if j in program.prints and j not in taken]
            for j in (j for j in behind if np.size(program.value(j)) == node.array.size):
                for repair in self._tried(
                    first, j, j, program.lines(j), np.asarray(program.value(place)), behind_first
                ):
                    if repair.next == first and repair.gain >= min(CERTAIN, ahead):
                        # What stands on the line of torch's last result belongs to that; else it is between the two.
                        together = program.lines(j) == program.lines(place)
                        return dataclasses.replace(repair, module=self._between(i, i if together else first))
        return None

    def _between(self, i: int, j: int) -> str:
        """Return the innermost module that two results are in."""
        a, b = (self.tracks.nodes[k].place.module.split(".") for k in (i, j))
        return ".".join(x for x, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))

    def _moved(self, first: int) -> list[int]:
        """Return the results that only move numbers, between what is found and the first that is not.

        The last come first, and those within the modules on both sides last: a layer that flattens its input makes no
        mistake in that.
        """
        moved, fed, pending = set(), set(), list(self.tracks.nodes[first].parents)
        while pending:
            i = pending.pop()
            if i in self.tracks.found:
                fed.add(self.tracks.nodes[i].place.module)
            elif i not in moved and self.tracks.nodes[i].moves and self.tracks.nodes[i].depends:
                moved.add(i)
                pending += self.tracks.nodes[i].parents
        within = {self.tracks.nodes[first].place.module, *fed}
        inner = {self.tracks.nodes[i].place.module for i in self.tracks.judged}
        within = {name for name in within if not any(other.startswith(f"{name}.") for other in inner)}
        order = sorted(moved, key=lambda i: (self.tracks.nodes[i].place.module in within, -i))
        return [i for i in order if self.tracks.nodes[i].array is not None]

    def _region(self, first: int) -> list[int]:
        """Return the results that are not sound, from the first on, in the order of execution."""
        sound, behind = self.tracks.sound(), self.tracks.descendants(first)
        return [first, *(i for i in self.tracks.judged if i in behind and i not in sound and i != first)][:REGION]

    def _trials(self, node: int) -> Iterator[Repair]:
        array = self.tracks.nodes[node].array
        if array is None:
            return
        behind = self.tracks.descendants(node) - {node}
        for key, place, lines in self._candidates(node):
            for repair in self._tried(node, key, place, lines, array, behind):
                yield repair
                if repair.gain >= 3:
                    return

    def _tried(
        self, node: int, key: Any, place: int, lines: tuple[str, ...], array: np.ndarray, behind: set[int]
    ) -> Iterator[Repair]:
        """Yield what of the results behind is found with an array in the place of a value, as it may be arranged."""
        ahead = [i for i in self.tracks.judged if i in behind and i not in self.tracks.found][:25]
        value = self.tracks.program.value(place)
        for arranged in self._arranged(array, np.asarray(value)):
            put = jnp.asarray(arranged).astype(value.dtype)
            changed = self.tracks.program.rerun({key: put}, stop=AHEAD)
            prints = {i: p for i, p in prints_of(self.tracks.program, changed).items() if i != key}
            gained = self.tracks.matching.find(ahead, prints, changed.__getitem__)
            gain = len(gained) or (0.5 if self._is_output(node, key) else 0)
            if gain:
                yield Repair(node, key, put, lines, gain, min(gained, default=None))

    def _candidates(self, node: int) -> list[tuple[Any, int, tuple[str, ...]]]:
        """Return the values that may be the wrong ones: the key, the place, and the lines of each."""
        program, array = self.tracks.program, self.tracks.nodes[node].array
        if array is None:
            return []
        size = array.size
        nodes = {self.tracks.found[i]: i for i in self.tracks.feeding(node) if self.tracks.found[i] >= 0}
        feeding = list(nodes)
        fed = self.tracks.fed(feeding)
        taken = set(self.tracks.found.values())
        if self.tracks.nodes[node].moves:
            chosen = {
                i for place in feeding if np.size(program.value(place)) > size for i in self.tracks.soon_after(place)
            }
            among = {i for i in fed if i in program.moved or i in program.prints} | chosen
            sized = [i for i in sorted(among - taken) if np.size(program.value(i)) == size][: 2 * TRIALS]
            values = {i: np.asarray(program.value(i)) for i in sized}
            moved = [i for i in sized if i in chosen or _shared(values[i], array) > MOVED]
            return [(i, i, program.lines(i)) for i in moved]
        wrong = [i for i, p in program.prints.items() if p.size == size and i in fed and i not in taken]
        wrong.sort(key=lambda i: (-fed[i], program.maker.get(i, -1)))
        wanted = self.tracks.nodes[node].print
        nearest = [] if wanted is None else sorted(wrong, key=lambda i: distance(program.prints[i], wanted))[:NEAREST]
        candidates: list[tuple[Any, int, tuple[str, ...]]] = []
        candidates += [(i, i, program.lines(i)) for i in dict.fromkeys([*wrong[:TRIALS], *nearest])]
        for place in feeding:  # a step that the port leaves out: its operand goes on as it is
            users = self.tracks.users(place) if np.size(program.value(place)) == size else []
            # What torch does on one line stands on one line of the port; else it is missing where the operand is used.
            together = (
                self.tracks.nodes[nodes[place]].place.line == self.tracks.nodes[node].place.line
                and place in program.maker
            )
            for number, i in users:
                lines = program.lines(place) if together else program.operations[number].lines
                candidates += [(place, place, lines)] * (number == users[0][0]) + [((number, i), i, lines)] * (
                    len(users) > 1
                )
        return candidates

    def _arranged(self, array: np.ndarray, value: np.ndarray) -> list[np.ndarray]:
        """Return torch's values in the shape of the port's: in the order of axes that is nearest, and the next."""
        long = [n for n in value.shape if n > 1]
        if array.shape == value.shape and len(set(long)) == len(long):
            return [array]
        with np.errstate(all="ignore"):
            found = list(arrangements(array, value.shape))
            nearest = sorted(found[1:], key=lambda x: float(np.nanmean(np.abs(x - value))))
        return [*found[:1], *nearest[:2]]

    def _is_output(self, node: int, key: Any) -> bool:
        """Say whether a result of torch is an output, but for its shape, and the value of the port is the same one."""
        for output, place in self.outputs:
            i = output
            while i != node and self.tracks.nodes[i].moves and len(self.tracks.nodes[i].parents) == 1:
                (i,) = self.tracks.nodes[i].parents
            if i == node and self.tracks.program.origin(place) == key:
                return True
        return False


def _shared(x: np.ndarray, y: np.ndarray) -> float:
    """Return the share of values that two arrays have in common."""
    x, y = np.sort(x, axis=None), np.sort(y, axis=None)
    place = np.clip(np.searchsorted(y, x), 1, len(y) - 1) if len(y) > 1 else np.zeros(x.shape, int)
    with np.errstate(all="ignore"):
        near = np.minimum(np.abs(y[place] - x), np.abs(y[place - 1] - x)) <= 1e-5 * np.abs(x) + 1e-12
    return float(np.mean(near))

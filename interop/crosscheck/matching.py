"""Which of torch's results the port has: by their sorted values, and then by their order."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .fingerprints import Fingerprint, aligned, apart, fingerprint
from .nodes import Pass
from .program import Program

# What is within this share of the largest value is the same result, if not quite.
NEAR = 1e-3


class Matching:
    """Finds torch's results among the port's values."""

    def __init__(self, computed: Pass) -> None:
        self._nodes, self._slack, self._rms = computed.nodes, computed.slack, computed.rms

    def find(self, wanted: list[int], prints: dict[int, Fingerprint], values: Callable[[int], Any]) -> dict[int, int]:
        """Return which of torch's results are among the port's values, each with the place of the value.

        Args:
            wanted: The places of torch's results.
            prints: The port's fingerprints by place.
            values: Gives the port's value at a place.
        """
        groups: dict[int, tuple[list[int], np.ndarray]] = {}
        by_count: dict[int, list[int]] = {}
        for place, p in prints.items():
            by_count.setdefault(p.count, []).append(place)
        found = {}
        for i in wanted:
            wanted_print = self._nodes[i].print
            if wanted_print is None or (count := wanted_print.count) not in by_count:
                continue
            if count not in groups:
                groups[count] = by_count[count], np.stack([prints[place].values for place in by_count[count]])
            places, table = groups[count]
            near = np.flatnonzero((np.abs(table - wanted_print.values) <= self._slack[i]).all(axis=1))
            if (match := self._ordered(i, [places[k] for k in near], values)) is not None:
                found[i] = match
        return found

    def _ordered(self, i: int, places: list[int], values: Callable[[int], Any]) -> int | None:
        """Return the first of the places that has torch's result in its order, but for the order of the axes."""
        for place in places[:8]:
            if self._nodes[i].array is None or self.arranged(i, np.asarray(values(place))) is not None:
                return place
        return None

    def near(self, i: int, prints: dict[int, Fingerprint], values: Callable[[int], Any]) -> float:
        """Return how far the port's nearest value is off, in units of what it may be; 0 if none is near."""
        wanted, node = self._nodes[i].print, self._nodes[i]
        if node.array is None or wanted is None:
            return 0.0
        loose = NEAR * wanted.scale
        for place, p in prints.items():
            if p.count == wanted.count and p.size == wanted.size and np.abs(p.values - wanted.values).max() <= loose:
                value = np.asarray(values(place))
                if (arranged := aligned(node.array, value, loose, np.inf)) is not None:
                    return apart(arranged, value) / self._rms[i]
        return 0.0

    def arranged(self, i: int, value: np.ndarray) -> np.ndarray | None:
        """Return torch's result arranged as the port's value, if they agree in some order of axes."""
        node = self._nodes[i]
        if node.array is None or node.array.size != value.size:
            return None
        return aligned(node.array, value, float(self._slack[i].max()), self._rms[i])


def prints_of(program: Program, changed: dict[int, Any]) -> dict[int, Fingerprint]:
    """Return the fingerprints of changed values."""
    return {i: fingerprint(np.asarray(x)) for i, x in changed.items() if i in program.prints}

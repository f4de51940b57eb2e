"""How torch and the port hang together: what of torch is found in the port, and what either computes from what."""

from collections.abc import Iterable

from .matching import Matching
from .nodes import Pass
from .program import Program

# A mean may be right where what it is taken of is not.
REDUCTIONS = ("var", "mean", "sum", "std", "amax", "amin", "norm", "logsumexp", "prod")


class Tracks:
    """Torch's results and the port's values, side by side.

    Attributes:
        nodes: Torch's results.
        judged: The places of those that the port must have, or have what follows from them.
        children: What is computed from each.
        found: Those that the port has, each with the place of the value; -1 for one that was put there.
        matching: Finds them.
        program: The port.
    """

    def __init__(self, computed: Pass, program: Program, outputs: Iterable[int]) -> None:
        """Find what is to be found.

        Args:
            computed: What torch computed.
            program: The port.
            outputs: The places of torch's outputs.
        """
        self.nodes, self.matching, self.program = computed.nodes, Matching(computed), program
        self.children: dict[int, list[int]] = {}
        needed = self.ancestors(outputs)
        self.judged = [i for i in computed.slack if i in needed]
        for i in sorted(needed):
            for parent in self.nodes[i].parents:
                self.children.setdefault(parent, []).append(i)
        self.found: dict[int, int] = {}
        self.refresh()

    def refresh(self) -> None:
        """Find again, after the program's values have changed."""
        wanted = [i for i in self.judged if i not in self.found]
        self.found |= self.matching.find(wanted, self.program.prints, self.program.value)

    def sound(self) -> set[int]:
        """Return torch's results that are found, or that something sound is computed from other than by a mean."""
        sound: set[int] = set()
        for i in range(len(self.nodes) - 1, -1, -1):
            children = (c for c in self.children.get(i, ()) if not self.nodes[c].operation.startswith(REDUCTIONS))
            if i in self.found or any(c in sound for c in children):
                sound.add(i)
        return sound

    def ancestors(self, places: Iterable[int]) -> set[int]:
        """Return results, and all that they are computed from."""
        found, pending = set(), list(places)
        while pending:
            i = pending.pop()
            if i not in found:
                found.add(i)
                pending += self.nodes[i].parents
        return found

    def descendants(self, place: int) -> set[int]:
        """Return a result, and all that is computed from it."""
        found, pending = set(), [place]
        while pending:
            i = pending.pop()
            if i not in found:
                found.add(i)
                pending += self.children.get(i, ())
        return found

    def feeding(self, node: int) -> list[int]:
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

    def fed(self, places: list[int]) -> dict[int, int]:
        """Return what the program computes from values, each with the number of them; everything if there are none."""
        if not places:
            return dict.fromkeys(self.program.prints, 0)
        sources = {place: {place} for place in places}
        for operation in self.program.operations:
            taken = set().union(*(sources[i] for i in operation.operands if i in sources))
            if taken:
                sources.update(dict.fromkeys((i for i in operation.results if i not in places), taken))
        return {i: len(taken) for i, taken in sources.items() if i not in places}

    def users(self, place: int) -> list[tuple[int, int]]:
        """Return the operations that use a value, or the same in another shape, with the place that each uses."""
        users = []
        for number in self.program.consumers.get(place, ()):
            results = [i for i in self.program.operations[number].results if self.program.same.get(i) == place]
            users += [user for i in results for user in self.users(i)] if results else [(number, place)]
        return users

    def soon_after(self, place: int) -> list[int]:
        """Return what the program computes from a value in three operations at most."""
        behind, last = [], [place]
        for _ in range(3):
            last = [j for i in last for number, _ in self.users(i) for j in self.program.operations[number].results]
            behind += last
        return sorted(set(behind))

"""What torch computed: its results in the order of execution, and how far the port may be from each."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from .fingerprints import Fingerprint


@dataclasses.dataclass(frozen=True)
class Results:
    """What one run of the torch function gave.

    Attributes:
        outputs: The outputs by name.
        gradients: The gradients of the inputs, then of the parameters that were asked for; zeros where the outputs do
            not depend on one.
    """

    outputs: dict[str, np.ndarray]
    gradients: list[np.ndarray]


@dataclasses.dataclass(frozen=True)
class Place:
    """Where in the torch code something is computed.

    Attributes:
        module: The innermost module, by name.
        kind: Its class.
        line: The line of the code that is not torch's own, as ``"model.py:42"``.
    """

    module: str
    kind: str
    line: str


@dataclasses.dataclass
class Node:
    """One result of one operation.

    Attributes:
        operation: The operation.
        place: Where it is computed.
        parents: The places, in the recording, of the results that it is computed from.
        backward: Whether it belongs to the backward pass.
        moves: Whether the operation moves numbers and computes none.
        depends: Whether it depends on the inputs, and not on weights alone.
        print: Its fingerprint, if it computes floats.
        array: Its values, where they were to be kept.
    """

    operation: str
    place: Place
    parents: tuple[int, ...]
    backward: bool
    moves: bool
    depends: bool
    print: Fingerprint | None = None
    array: np.ndarray | None = None

    @property
    def is_judged(self) -> bool:
        """Whether the port must have it, or what follows from it."""
        return self.depends and not self.moves and self.print is not None and self.print.is_telling


@dataclasses.dataclass(frozen=True)
class Pass:
    """What torch computes in a forward pass, or in one and the backward pass after it.

    Attributes:
        nodes: Its results.
        outputs: The places of the outputs among them, by name.
        gradients: The places of the gradients; None for one that is no result of any operation.
        slack: How far each sorted value of the port may be from torch's, by place; of what is judged.
        rms: How far all together may be, by root mean square.
    """

    nodes: list[Node]
    outputs: Mapping[str, int]
    gradients: list[int | None]
    slack: dict[int, np.ndarray]
    rms: dict[int, float]

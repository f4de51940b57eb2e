"""What came of PyTorch's test inputs, counted."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from conformance_judging import Comparison


@dataclass
class Tally:
    """What came of the inputs for one function at one dtype.

    Attributes:
        name: The function.
        dtype: The dtype of the inputs.
        samples: How many inputs both took.
        refused: How many neither took.
        outputs: How many arrays were compared as outputs,
        gradients: and how many as gradients.
        numbers: How many numbers they hold,
        unjudged: and of how many of these it is not known whether they are right: see MOST. The next four are about
            those of less precision than float64.
        nearer: How often jaxact is nearer to the exact result than torch,
        farther: and how often farther.
        torch_wrong: How often torch is NaN where the exact result is not, or 0 where it is a normal number. This
            is counted only where each number comes from one,
        jaxact_wrong: and so is how often jaxact is.
        noted: How many inputs were left out or changed, by the reason.
        misses: A line for each array that is not right.
    """

    name: str
    dtype: str
    samples: int = 0
    refused: int = 0
    outputs: int = 0
    gradients: int = 0
    numbers: int = 0
    unjudged: int = 0
    nearer: int = 0
    farther: int = 0
    torch_wrong: int = 0
    jaxact_wrong: int = 0
    noted: dict[str, int] = field(default_factory=dict)
    misses: list[str] = field(default_factory=list)

    def note(self, reason: str) -> None:
        """Count an input that is left out or changed."""
        self.noted[reason] = self.noted.get(reason, 0) + 1

    def add(self, comparison: "Comparison") -> None:
        """Count which library is nearer to the exact results, and which is wrong."""
        ours, theirs = comparison.ulps
        self.nearer += int(np.count_nonzero(ours < theirs))
        self.farther += int(np.count_nonzero(ours > theirs))
        if comparison.alone:
            self.torch_wrong += int(np.count_nonzero(comparison.lost(comparison.theirs)))
            self.jaxact_wrong += int(np.count_nonzero(comparison.lost(comparison.ours)))

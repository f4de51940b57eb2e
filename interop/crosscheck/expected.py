"""What the port is compared with: torch's function, run as often as it takes."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .fingerprints import RMS_NOISE_FACTOR, RMS_ROUNDINGS, apart, slack
from .inputs import cotangents, is_inexact
from .jax_side import inexact_places
from .nodes import Pass, Results
from .rounding import Rounding
from .torch_side import TorchSide, unready

# How many times torch is run with roundings at random, to see how far they move each element: first, and more where an
# element seems to be off then. And how many times to see how far they move every result on the way.
SAMPLES = (6, 24)
PASSES = 2
# How many bytes of torch's results are kept for the search; what is beyond is known by its fingerprint alone.
KEPT = 1 << 29


class Expected:
    """What torch gives for certain inputs; the function is run when it is asked.

    Attributes:
        kind: The class of the module, or the function's name.
        inputs: The inputs, trees of NumPy arrays.
        wrt: The places of the inputs whose gradients there are, among their leaves.
    """

    def __init__(self, function: Any, inputs: list[Any], parameters: Sequence[str], seed: int) -> None:
        self._side = TorchSide(function, inputs, parameters)
        self._seed = seed
        self._unready = unready(self._side)
        self.kind, self.inputs, self.wrt = self._side.name, inputs, inexact_places(inputs)
        self._exact: dict[bool, Results] = {}
        self._samples: dict[bool, list[Results]] = {True: [], False: []}

    @functools.cached_property
    def refusal(self) -> str | None:
        """Why nothing can be compared with it, or None."""
        if self._unready is not None:
            return self._unready
        again = self._side.run(None, seed=1).outputs
        if equal(self.outputs, again):
            return None
        return (
            "the torch function is not deterministic: two calls with the same inputs differ; turn off what draws at "
            "random (.eval(), p=0), or seed it within the function"
        )

    @functools.cached_property
    def outputs(self) -> dict[str, np.ndarray]:
        """The outputs by name, in the dtype that torch computes them in."""
        return self._side.run(None).outputs

    @functools.cached_property
    def cotangents(self) -> dict[str, np.ndarray]:
        """A random cotangent for each inexact output by name."""
        return cotangents(self.outputs, self._seed)

    def native(self, gradient: bool) -> Results:
        """Return the results, with gradients or without."""
        return self._side.run(self.cotangents, wrt=self.wrt) if gradient else Results(self.outputs, [])

    def exact(self, gradient: bool) -> Results:
        """Return the results in float64."""
        if gradient not in self._exact:
            self._exact[gradient] = self._side.run(self.cotangents if gradient else None, wrt=self.wrt, exact=True)
        return self._exact[gradient]

    def noise(self, gradient: bool, more: bool) -> Results:
        """Return how far roundings move each element, by root mean square: from a few samples, or from more."""
        samples, exact = self._samples[gradient], self.exact(gradient)
        given = self.cotangents if gradient else None
        while len(samples) < SAMPLES[more]:
            samples.append(self._side.disturbed(given, wrt=self.wrt, eps=self._eps, seed=len(samples)))
        outputs = {name: _noise(y, [s.outputs[name] for s in samples]) for name, y in exact.outputs.items()}
        return Results(outputs, [_noise(g, [s.gradients[i] for s in samples]) for i, g in enumerate(exact.gradients)])

    def computed(self, backward: bool) -> Pass:
        """Return what torch computes on the way to the outputs, or to the gradients."""
        given, wrt = (self.cotangents, self.wrt) if backward else (None, [])
        made = self._side.record(given, wrt=wrt, keep=KEPT)
        roundings = [Rounding(self._eps, seed) for seed in range(PASSES)]
        disturbed = [self._side.record(given, wrt=wrt, keep=KEPT, rounding=r).nodes for r in roundings]
        computed = Pass(made.nodes, made.outputs, made.gradients, {}, {})
        for i, node in enumerate(made.nodes):
            if node.is_judged and node.print is not None:
                others = [nodes[i] for nodes in disturbed if len(nodes) == len(made.nodes)]
                computed.slack[i] = slack(node.print, [x.print for x in others if x.print is not None], self._eps)
                computed.rms[i] = np.inf
                if node.array is not None:
                    noise = [apart(x.array, node.array) for x in others if x.array is not None]
                    own = RMS_ROUNDINGS * self._eps * apart(node.array, np.zeros_like(node.array))
                    computed.rms[i] = RMS_NOISE_FACTOR * max(noise, default=0.0) + own + 1e-37
        return computed

    def modules(self) -> Mapping[str, Any]:
        """Return the modules by name."""
        return self._side.named_modules()

    @functools.cached_property
    def _eps(self) -> float:
        """The coarsest rounding of the dtypes that torch computes in."""
        arrays = [*jax.tree_util.tree_leaves(self.inputs), *self.outputs.values()]
        return max(
            [float(jnp.finfo(x.dtype).eps) for x in arrays if is_inexact(x)] + self._side.roundings(), default=0.0
        )


def equal(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> bool:
    """Say whether two runs gave the same, bit for bit."""
    return a.keys() == b.keys() and all(a[name].tobytes() == b[name].tobytes() for name in a)


def _noise(exact: np.ndarray, samples: list[np.ndarray]) -> np.ndarray:
    with np.errstate(all="ignore"):
        noise = np.sqrt(sum(np.abs(sample - exact) ** 2 for sample in samples) / len(samples))
    return np.where(np.isfinite(noise), noise, 0)

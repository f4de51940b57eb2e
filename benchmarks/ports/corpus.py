"""What a port is: a JAX program, the torch module that it was written after, and mistakes that can be put into it."""

import contextlib
import dataclasses
import inspect
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np
import torch
from torch import nn

from jaxact.interop import to_jax


@dataclasses.dataclass(frozen=True)
class Wrong:
    """The mistakes that are switched on: ``wrong("eps")`` everywhere, ``wrong("eps", 3)`` that or in block 3 alone."""

    names: frozenset[str] = frozenset()

    def __call__(self, name, block=None):
        return name in self.names or f"{name}@{block}" in self.names


@dataclasses.dataclass(frozen=True)
class Port:
    """A right port, and how to make it a wrong one.

    A mistake is called ``"eps"`` where it is made in every block, and ``"eps@3"`` where it is made in block 3 alone.
    """

    name: str
    make: Callable[[int, Wrong, str], tuple]
    # By mistake, the torch modules that may be named for it, the innermost first: "" is the model itself. A module is
    # here if the mistake is in what its own forward does.
    mistakes: Mapping[str, tuple[str, ...]]
    gradients_only: frozenset[str] = frozenset()
    pairs: tuple[str, ...] = ()

    def build(self, seed, mistake=None, dtype="float32"):
        """Return the JAX function, the torch module and the inputs as NumPy arrays; "a+b" makes two mistakes."""
        names = frozenset(mistake.split("+")) if mistake else frozenset()
        if unknown := names - self.mistakes.keys():
            raise ValueError(f"{self.name} has no mistake {sorted(unknown)}")
        return self.make(seed, Wrong(names), dtype)

    def lines_of(self, mistake):
        """Return file and line of the JAX code that computes what is wrong, by ``# mistake:``, and of what causes it.

        The cause is where weights are moved or layers are made, by ``# cause:``, if the mistake is made there and the
        line that computes looks right. Where something is left out, nothing is computed on its line, and the next line
        is marked, too; where a gradient of its own is wrong, so is the line that calls the function.
        """
        name = re.escape(mistake.partition("@")[0])
        path = inspect.getfile(self.make)
        lines = Path(path).read_text().splitlines()

        def marked(word):
            mark = re.compile(rf"# {word}: (.+, )?{name}(,|$)")
            return [(path, number) for number, line in enumerate(lines, 1) if mark.search(line)]

        return marked("mistake"), marked("cause")

    def line_of(self, mistake):
        """Return file and line of the JAX code where a mistake shows first."""
        return self.lines_of(mistake)[0][0]


@contextlib.contextmanager
def defaults():
    """Run with JAX's own promotion of dtypes and ranks, which users' models are written for."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def randomised(module, seed, dtype="float32"):
    """Return a torch module in eval mode with random weights, none of them 0 or 1, and random running statistics."""
    rng = np.random.default_rng([seed, 1])
    for layer in module.modules():
        named = [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]
        for name, old in named:
            if name == "running_var":
                new = rng.uniform(0.5, 2, old.shape)
            elif old.ndim == 1 and name in ("weight", "gamma"):
                new = rng.uniform(0.5, 1.5, old.shape)
            elif isinstance(old, nn.Parameter) and "weight" in name and not isinstance(layer, nn.Embedding):
                new = rng.standard_normal(old.shape) / math.sqrt(math.prod(old.shape[1:]))
            elif isinstance(old, nn.Parameter) or name == "running_mean":
                new = 0.3 * rng.standard_normal(old.shape)
            else:
                continue
            old.data = torch.from_numpy(new).to(old.dtype)
    return module.eval().to(getattr(torch, dtype))


def weights_of(module):
    """Return the weights of a torch module as JAX arrays, by name."""
    return to_jax(dict(module.state_dict()))


def normal(seed, shape, dtype="float32", scale=1.0):
    """Return random numbers for an input."""
    return (scale * np.random.default_rng([seed, 2]).standard_normal(shape)).astype(jax.numpy.dtype(dtype))


def integers(seed, high, shape, dtype="int32"):
    """Return random token ids for an input."""
    return np.random.default_rng([seed, 3]).integers(0, high, shape).astype(dtype)

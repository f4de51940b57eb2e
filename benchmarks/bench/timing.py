"""Timing several ways to do one job side by side, so that what else the machine does slows all of them alike."""

import random
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from .results import Times

# Measuring one job stops after so many seconds, once each contender has had so many rounds.
PATIENCE = 5.0
FEWEST_ROUNDS = 10

# One way to do a job: it does the job so many times, and waits until that is done.
Contender = Callable[[int], None]


def interleaved(contenders: Mapping[str, Contender], rounds: int, calls: int = 1) -> Times:
    """Return the median time of one call of each contender, in seconds.

    Args:
        contenders: What to time. In every round they come in another order.
        rounds: How many rounds; FEWEST_ROUNDS will do where they take long.
        calls: How many calls to time at once.
    """
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for contender in contenders.values():
        contender(calls)
    order = list(contenders)
    rng = random.Random(0)
    begin = time.perf_counter()
    for done in range(rounds):
        if done >= FEWEST_ROUNDS and time.perf_counter() - begin > PATIENCE:
            break
        rng.shuffle(order)
        for name in order:
            start = time.perf_counter()
            contenders[name](calls)
            samples[name].append((time.perf_counter() - start) / calls)
    return {name: statistics.median(seconds) for name, seconds in samples.items()}


def microseconds(functions: Mapping[str, Callable[[], Any]], rounds: int) -> Times:
    """Return the median microseconds of a call of each function, which are called a hundred times in a row."""

    def contender(function: Callable[[], Any]) -> Contender:
        def run(calls: int) -> None:
            for _ in range(calls):
                out = function()
            jax.block_until_ready(out)

        return run

    times = interleaved({name: contender(function) for name, function in functions.items()}, rounds, calls=100)
    return {name: 1e6 * seconds for name, seconds in times.items()}

"""What to measure, and a run that measures all of it."""

import datetime
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
import torch

import jaxact

from .calls import eager_call
from .conversions import conversions
from .imports import imports
from .kernels import DTYPES, kernel
from .memory import temporaries
from .results import COMPUTED, Results
from .workloads import normal, on_gpu, workloads


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        functions: Names of workloads.
        sizes: How many elements the inputs have, multiples of ROW.
        dtypes: Their types.
        compiled: Whether ``torch.compile`` takes part, at the largest size.
        rounds: How often to measure, at most.
    """

    functions: tuple[str, ...]
    sizes: tuple[int, ...]
    dtypes: tuple[str, ...]
    compiled: bool
    rounds: int

    @property
    def steps(self) -> int:
        """How often ``run`` reports a step."""
        functions = len(self.functions)
        return functions * len(self.sizes) * len(self.dtypes) * len(COMPUTED) + 2 * functions + 2


def full() -> Plan:
    """Return the plan for numbers to show."""
    if on_gpu():
        return Plan(tuple(workloads()), (2**22, 2**28), DTYPES, compiled=True, rounds=10)
    return Plan(tuple(workloads()), (2**16, 2**20, 2**22), DTYPES, compiled=True, rounds=50)


def quick() -> Plan:
    """Return the plan for seeing that it works."""
    return Plan(tuple(workloads()), (2**16,), DTYPES, compiled=False, rounds=5)


def run(plan: Plan, step: Callable[[str], None] = lambda _: None) -> Results:
    """Measure everything.

    Args:
        plan: What to measure.
        step: Called with what is done next, before each step.
    """
    known, rounds = workloads(), plan.rounds
    few = max(3, rounds // 5)
    step("import")
    import_times = imports(rounds=few)
    kernels = []
    for dtype in plan.dtypes:
        for size in plan.sizes:
            for name in plan.functions:
                for computes in COMPUTED:
                    step(f"{name} {dtype} {size}")
                    compiled = plan.compiled and size == max(plan.sizes)
                    kernels.append(kernel(known[name], computes, dtype, size, rounds=rounds, compiled=compiled))
            normal.cache_clear()
    calls, memory = [], []
    for name in plan.functions:
        step(f"{name}, eager call")
        calls.append(eager_call(known[name], rounds=rounds))
    for name in plan.functions:
        step(f"{name}, memory")
        memory.append(temporaries(known[name]))
    step("conversions")
    return Results(
        date=datetime.date.today().isoformat(),
        versions={
            "jaxact": jaxact.__version__,
            "jax": jax.__version__,
            "torch": torch.__version__.partition("+")[0],
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        device=jax.devices()[0].device_kind,
        cpus=os.cpu_count() or 1,
        rounds=rounds,
        kernels=kernels,
        calls=calls,
        imports=import_times,
        temporaries=memory,
        conversions=conversions(rounds=rounds),
    )

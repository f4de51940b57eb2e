"""What importing jaxact costs, in fresh processes."""

import os
import statistics
import subprocess
import sys

from .results import Imports


def imports(*, rounds: int) -> Imports:
    """Measure the import in fresh processes."""
    program = (
        "import time; a = time.perf_counter(); import jax; b = time.perf_counter(); import jaxact; "
        "print(b - a, time.perf_counter() - b)"
    )
    # jax, as pip has installed it, is compiled to bytecode: jaxact from a checkout is after the first process.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    runs = []
    for _ in range(1 + rounds):
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        runs.append([float(seconds) for seconds in done.stdout.split()])
    return Imports(*map(statistics.median, zip(*runs[1:], strict=True)))

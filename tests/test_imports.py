"""Imports: the core loads JAX and NumPy and nothing that an extra brings, and does no work."""

import subprocess
import sys

import pytest

EXTRAS = ("torch", "rich", "typer", "matplotlib", "mpmath", "scipy.special")

LOADED = """
import sys
{statement}
print(*[name for name in {extras} if name in sys.modules])
"""


def loaded(statement, extras=EXTRAS):
    """Return which of the extras a fresh process has loaded after the statement."""
    program = LOADED.format(statement=statement, extras=extras)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize("statement", ["import jaxact", "import jaxact, jaxact.catalog", "import jaxact.interop"])
def test_nothing_of_an_extra_is_loaded(statement):
    assert set(loaded(statement)) <= set(loaded("import jax, numpy"))


def test_a_use_of_the_core_loads_no_torch():
    assert loaded("import jaxact; jaxact.relu(1.0)", ("torch",)) == []


def test_the_check_can_fail():
    assert loaded("import jaxact, torch", ("torch",)) == ["torch"]


def test_importing_compiles_and_computes_nothing():
    program = (
        "import jax, logging, sys\n"
        "logging.getLogger('jax').addHandler(logging.StreamHandler(sys.stdout))\n"
        "jax.config.update('jax_log_compiles', True)\n"
        "import jaxact\n"
    )
    idle = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "Compiling" not in idle.stdout
    busy = subprocess.run(
        [sys.executable, "-c", program + "jaxact.relu(1.0)"], capture_output=True, text=True, check=True
    )
    assert "Compiling" in busy.stdout

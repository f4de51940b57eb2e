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


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # what Python then says is what it says where torch is not installed
import numpy, jax.numpy
from jaxact.interop import to_jax, to_numpy, to_torch
assert (to_numpy(to_jax(numpy.arange(3))) == numpy.arange(3)).all()
to_torch(numpy.arange(3))
"""


@pytest.mark.parametrize("name", ["as_jax", "as_torch", "port"])
def test_without_torch_what_is_made_of_it_says_what_is_missing(name):
    program = f"import sys\nsys.modules['torch'] = None\nfrom jaxact.interop import {name}\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    message = f"{name} needs PyTorch, which is not installed; install it with: pip install 'jaxact[torch]'"
    assert done.stderr.endswith(f"ModuleNotFoundError: {message}\n"), done.stderr


def test_what_is_looked_up_late_is_listed():
    program = "import jaxact.interop as i\nassert set(i.__all__) <= set(dir(i))\nassert 'port' not in vars(i)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_without_torch_arrays_still_convert_and_to_torch_says_what_is_missing():
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, check=False)
    assert done.stderr.endswith("not installed; install it with: pip install 'jaxact[torch]'\n"), done.stderr

"""What every test runs under: JAX's strictest promotion, two devices, and 64-bit mode only where asked for."""

import platform

import jax
import numpy as np
import pytest
import torch

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 2)


def pytest_terminal_summary(terminalreporter):
    """Say what the tests ran with, before the count: together a row of the README's table of releases."""
    modules = {"jax": jax, "numpy": np, "torch": torch}
    versions = [f"{name} {module.__version__}" for name, module in modules.items()]
    terminalreporter.write_line(", ".join([f"Python {platform.python_version()}", *versions]))


@pytest.fixture(autouse=True, scope="module")
def what_was_compiled_is_let_go():
    """Let go of it after each file: kept, it grows to gigabytes, and every collection of garbage looks at all of it."""
    yield
    jax.clear_caches()


@pytest.fixture
def x64():
    """Run the test with JAX's 64-bit mode on."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture
def debug_nans():
    """Run the test with JAX raising at the first NaN.

    By the context manager: set globally, JAX stops looking once anything has turned it off for a while, as it does
    itself (jax 0.10.2).
    """
    with jax.debug_nans(True):
        yield

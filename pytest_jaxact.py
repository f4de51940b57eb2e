"""The pytest plugin of jaxact: a fixture that compares a JAX port with torch. Loading it imports neither of the two.

It stands outside of the package, whose import would import JAX, at the start of every run of pytest wherever jaxact is
installed, and before anything measures coverage.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from jaxact.interop.crosscheck.report import Report


@pytest.fixture
def parity(pytestconfig: pytest.Config) -> "Callable[..., Report]":
    """Fail the test unless a JAX port is equal to torch: ``parity(jax_fn, torch_fn, *inputs, **options)``.

    The options are those of ``jaxact.interop.compare``, whose report is returned, and shown where the port differs.
    """

    def parity(jax_fn: Callable[..., Any], torch_fn: Callable[..., Any], *inputs: Any, **options: Any) -> "Report":
        __tracebackhide__ = True
        from jaxact.interop import compare

        report = compare(jax_fn, torch_fn, *inputs, **options)
        if not report.passed:
            caller = sys._getframe(1)
            path = Path(caller.f_code.co_filename)
            if path.is_relative_to(pytestconfig.rootpath):
                path = path.relative_to(pytestconfig.rootpath)
            pytest.fail(f"{path}:{caller.f_lineno}: the port is not equal to torch\n{report}", pytrace=False)
        return report

    return parity

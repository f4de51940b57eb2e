"""The pytest plugin: the fixture ``parity``, what a failure shows, and that loading it loads nothing else."""

import re
import subprocess
import sys

import pytest

PORTING_TESTS = """
import jax, numpy as np, torch

x = np.linspace(-3, 3, 32, dtype=np.float32)


def test_right(parity):
    report = parity(lambda x: jax.nn.gelu(x, approximate=False), torch.nn.functional.gelu, x)
    assert report.passed and len(report.rows) == 2


def test_options(parity):
    report = parity(jax.nn.relu, torch.relu, jax.ShapeDtypeStruct((4,), "float32"), gradient=False, seed=3)
    assert len(report.rows) == 1


def test_wrong(parity):
    parity(jax.nn.gelu, torch.nn.functional.gelu, x)  # the line


def test_in_training(parity):
    parity(lambda x: x, torch.nn.Dropout(0.5), x)


def broken(x):
    raise ValueError("the port is broken")


def test_broken(parity):
    parity(broken, torch.relu, x)
"""

CONFTEST = """
import sys

def pytest_sessionfinish():
    print("LOADED", sorted({"jax", "jaxact", "torch"} & set(sys.modules)))
"""


@pytest.fixture
def run(tmp_path):
    """Return pytest, run on porting tests."""
    (tmp_path / "test_ports.py").write_text(PORTING_TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")

    def run(*arguments):
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    return run


def test_it_fails_with_the_report_and_nothing_of_the_library(run):
    shown = run()
    assert "2 failed, 3 passed" not in shown
    assert "3 failed, 2 passed" in shown
    line = next(i for i, text in enumerate(PORTING_TESTS.splitlines(), 1) if "# the line" in text)
    assert f"test_ports.py:{line}: the port is not equal to torch\nFAILED: 2 of 2 arrays differ\n" in shown
    assert re.search(r"^array +dtype +shape", shown, re.MULTILINE)
    assert "not compared\n  the torch module is in training mode" in shown
    assert "FAILED test_ports.py::test_wrong" in shown
    wrong = shown[shown.index("test_wrong _") : shown.index("test_broken _")]
    for private in ("pytest_jaxact", "comparing.py", "def parity", "Traceback"):
        assert private not in wrong
    assert "ValueError: the port is broken" in shown


def test_loading_it_loads_neither_jax_nor_torch(run, tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_ports.py").write_text("def test(): pass")
    assert "LOADED []" in run("-s")
    assert "parity" in run("--fixtures", "-q", "-s")
    (tmp_path / "test_ports.py").write_text("def test(parity): pass")
    assert "LOADED []" in run("-s")
    (tmp_path / "test_ports.py").write_text("import jaxact")
    assert "LOADED ['jax', 'jaxact']" in run("-s")  # it would be seen


def test_it_can_be_left_out(run):
    assert "fixture 'parity' not found" in run("-p", "no:jaxact", "-k", "test_right")


def test_an_error_of_usage_says_what_is_wrong(run, tmp_path):
    (tmp_path / "test_ports.py").write_text("def test(parity): parity(1, len, 2)")
    shown = run()
    assert "compare: jax_fn must be a function or a module, got int" in shown
    assert "1 failed" in shown

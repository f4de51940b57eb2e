"""Imports: the core loads JAX and NumPy and nothing of an extra, and does no work; kernels import no family."""

import ast
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import jaxact
import jaxact.bench
import jaxact.interop
from jaxact.catalog import CATALOG

EXTRAS = ("torch", "rich", "typer", "matplotlib", "jinja2", "mpmath", "scipy.special")

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


@pytest.mark.parametrize("module", ["jaxact", "jaxact.catalog", "jaxact.divergences", "jaxact.interop", "jaxact.bench"])
def test_nothing_of_an_extra_is_loaded(module):
    assert set(loaded(f"import {module}")) <= set(loaded("import jax, numpy"))


def test_a_use_of_the_core_loads_no_torch():
    assert loaded("import jaxact; jaxact.relu(1.0)", ("torch",)) == []


def test_the_check_can_fail():
    assert loaded("import jaxact, torch", ("torch",)) == ["torch"]


LOGGED = """
import jax, logging, sys
logging.getLogger("jax").addHandler(logging.StreamHandler(sys.stdout))
jax.config.update("jax_log_compiles", True)
import {modules}
"""


def logged(modules, then=""):
    """Return what JAX logs of the programs that it compiles, in a fresh process that imports the modules."""
    program = LOGGED.format(modules=modules) + then
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


BENCH = ", ".join(f"jaxact.bench.{module.name}" for module in pkgutil.iter_modules(jaxact.bench.__path__))


@pytest.mark.parametrize("modules", ["jaxact, jaxact.catalog, jaxact.interop", BENCH], ids=["jaxact", "jaxact.bench"])
def test_importing_compiles_and_computes_nothing(modules):
    assert "Compiling" not in logged(modules)


@pytest.mark.parametrize("work", ["jaxact.relu(1.0)", "jax.random.key(0)"])
def test_work_would_be_seen(work):
    assert "Compiling" in logged("jaxact", work)


def imported_modules(path):
    """Return the modules that a file imports anywhere, by their full names; those of its package begin with a dot."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    return {*names, *("." * node.level + (node.module or "") for node in froms)}


def imported(path):
    """Return the packages that a file imports anywhere, by their top-level names."""
    return {name.partition(".")[0] for name in imported_modules(path)} - {""}


def brought(extra, extras):
    """Return the names of the distributions that an extra of pyproject.toml installs, those of other extras too."""
    found = set()
    for requirement in extras[extra]:
        if others := re.match(r"jaxact\[(.*)\]", requirement):
            found = found.union(*(brought(other, extras) for other in others[1].split(",")))
        else:
            found.add(re.match(r"[\w-]+", requirement)[0])
    return found


@pytest.mark.parametrize(("folder", "extra"), [("tests", "test"), ("benchmarks", "bench")])
def test_an_extra_brings_what_a_folder_imports(folder, extra):
    root = Path(__file__).parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    files = [path for part in ("tests", "benchmarks") for path in (root / part).rglob("*.py")]
    ports = root / "benchmarks" / "ports"  # which the tests run, and the benchmarks that want the tests' extra
    top = {path: "tests" if path.is_relative_to(ports) else path.relative_to(root).parts[0] for path in files}
    names = set().union(*(imported(path) for path in files if top[path] == folder))
    names -= sys.stdlib_module_names | {path.stem for path in files} | {"jaxact", ports.name}
    installed = brought(extra, project["optional-dependencies"])
    installed |= {re.match(r"[\w-]+", requirement)[0] for requirement in project["dependencies"]}
    assert {name for name in names if name.replace("_", "-") not in installed} == set()


def test_only_interop_and_bench_import_torch():
    root = Path(jaxact.__file__).parent
    core = [path for path in root.rglob("*.py") if path.relative_to(root).parts[0] not in ("interop", "bench")]
    assert root / "cli.py" in core
    assert [path for path in core if "torch" in imported(path)] == []
    for package in (jaxact.interop, jaxact.bench):
        assert any("torch" in imported(path) for path in Path(package.__path__[0]).glob("*.py"))


KERNELS = sorted(Path(jaxact.__file__).with_name("_kernels").glob("*.py"))
BENEATH = sys.stdlib_module_names | {"jax", "numpy"}


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.stem)
def test_a_kernel_imports_numpy_jax_and_other_kernels_alone(path):
    above = {name for name in imported_modules(path) if name.partition(".")[0] not in BENEATH}
    assert {name for name in above if not f"{name}.".startswith("jaxact._kernels.")} == set()


def test_no_kernel_file_has_the_name_of_a_family():
    assert {path.stem for path in KERNELS} >= {"gelu", "compiler"}
    assert {path.stem for path in KERNELS} & {row.family for row in CATALOG} == set()


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

"""The tests of others, run through jaxact: PyTorch's, NumPy's, and the reports in public trackers.

``python benchmarks/conformance.py`` runs PyTorch's own test inputs for every function that its test suite describes,
at every dtype, output and gradient (``conformance_samples.py``); NumPy's validation tables; and public reports of
wrong results of ``jax.nn`` and PyTorch (``conformance_reports.py``). It prints what came of it and a line for each
miss, writes the figures to ``benchmarks/results/conformance.json``, each function's as it is done, and exits with 1 if
there is a miss. ``--functions`` runs some functions and puts their figures in the place of the old ones. ``--quick``
runs a few of PyTorch's samples; it and a choice of dtypes only print. ``--report`` prints the figures that are
written, and the lines of the README made of them.
"""

import csv
import dataclasses
import datetime
import json
import math
import os
import platform
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import conformance_inputs
import conformance_reports
import jax
import numpy as np
import torch
import typer
from accuracy import in_parallel
from conformance_inputs import DTYPES, QUICK_DTYPES
from conformance_reports import REPORTS, Finding
from conformance_samples import conform, why_without
from conformance_tally import Tally
from reference import BOUNDS, ulp
from rich.console import Console
from rich.progress import track
from rich.table import Table

import jaxact
from jaxact.bench.command import listed
from jaxact.catalog import BY_NAME

ROOT = Path(__file__).parents[1]
DATA = ROOT / "benchmarks" / "results" / "conformance.json"
TABLES = Path(np.__file__).parent / "_core" / "tests" / "data"

Array = np.ndarray[Any, Any]
Record = dict[str, Any]

# NumPy's functions that are jaxact's, in part: below 0 elu is exp(x) - 1.
IN_NUMPY: dict[str, tuple[str, Callable[[Array], Array]]] = {
    "tanh": ("tanh", lambda x: np.full(x.shape, True)),
    "expm1": ("elu", lambda x: ~(x > 0)),
}


# PyTorch's samples


def tallies(name: str, dtypes: Sequence[str], quick: bool = False) -> list[Tally]:
    """Run PyTorch's inputs for a function at dtypes; that there are none is a miss, unless it is known why."""
    jax.config.update("jax_enable_x64", True)
    operations = conformance_inputs.operations(name)
    if bool(operations) == (why_without(name) is not None):
        known = f"; it was known that {why_without(name)}" if operations else ""
        return [Tally(name, "", misses=[f"{name}: torch {torch.__version__} has {len(operations)} OpInfos{known}"])]
    found = []
    for operation in operations:
        for dtype in conformance_inputs.dtypes(operation):
            if dtype in dtypes:
                found.append(conform(operation, name, dtype, quick))
                if not quick:
                    jax.clear_caches()  # a program a shape: kept, they exceed the mappings Linux grants a process
    return found


# NumPy's tables


@dataclasses.dataclass(frozen=True)
class Validation:
    """What came of one of NumPy's validation tables, at one dtype.

    Attributes:
        table: NumPy's function.
        name: jaxact's.
        dtype: The dtype.
        numbers: How many entries there are,
        subnormal: and how many have a subnormal result, which XLA may flush to 0: these are not judged.
        limit: The ULPs that the table allows a function that does nothing else.
        beyond: How many results are farther off,
        largest: and the largest error in ULPs.
        misses: A line for each result that is outside jaxact's bound.
    """

    table: str
    name: str
    dtype: str
    numbers: int
    subnormal: int
    limit: float
    beyond: int
    largest: float
    misses: list[str]


def entries(table: str, dtype: str) -> tuple[Array, Array, float]:
    """Return the inputs and outputs of one of NumPy's tables at a dtype, and the ULPs it allows."""
    path = TABLES / f"umath-validation-set-{table}.csv"
    if not path.exists():
        raise FileNotFoundError(f"NumPy {np.__version__} has come without its table {path}: install its wheel")
    with path.open() as lines:
        rows = [row for row in csv.reader(lines) if row and row[0] == f"np.{dtype}"]
    bits = np.array([[int(cell, 16) for cell in row[1:3]] for row in rows], f"uint{np.finfo(dtype).bits}")
    return *bits.T.copy().view(dtype), float(max(int(row[3]) for row in rows))


def validate(table: str, dtype: str) -> Validation:
    """Run one of NumPy's tables at one dtype."""
    name, applies = IN_NUMPY[table]
    x, exact, limit = entries(table, dtype)
    x, exact = x[applies(x)], exact[applies(x)]
    y = np.asarray(getattr(jaxact, name)(x))
    with np.errstate(all="ignore"):
        same = (y == exact) | (np.isnan(y) & np.isnan(exact))
        size = np.where(np.isfinite(exact), exact, 1.0).astype(np.float64)
        error = np.where(same, 0.0, np.abs(y.astype(np.float64) - exact) / ulp(size, dtype))
    error[np.isnan(error)] = np.inf
    subnormal = np.abs(exact) < np.finfo(dtype).smallest_normal
    error[subnormal & (np.abs(y) <= np.finfo(dtype).smallest_normal)] = 0.0
    misses = [
        f"NumPy's {table}, {dtype}: {name}({x[i]!r}) is {y[i]!r}, {exact[i]!r} in the table: {error[i]:.3g} ULP"
        for i in np.flatnonzero(error > BOUNDS[dtype]["value"] + 0.5)  # which the table itself is rounded by
    ]
    counts = int(x.size), int(np.count_nonzero(subnormal & (exact != 0)))
    beyond = int(np.count_nonzero(error > limit))
    return Validation(table, name, dtype, *counts, limit, beyond, float(error.max()), misses)


# The figures


def versions() -> dict[str, str]:
    """Return the versions of what is compared."""
    return {
        "jaxact": jaxact.__version__,
        "jax": jax.__version__,
        "torch": torch.__version__.partition("+")[0],
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def record(samples: list[Record], tables: list[Validation], reports: list[Finding]) -> Record:
    """Return all figures as data."""
    return {
        "date": datetime.date.today().isoformat(),
        "versions": versions(),
        "samples": sorted(samples, key=lambda entry: list(BY_NAME).index(entry["name"])),
        "without": {name: reason for name in BY_NAME if (reason := why_without(name))},
        "tables": [_as_json(table) for table in tables],
        "reports": [_as_json(found) for found in reports],
    }


def _as_json(entry: Validation | Finding) -> Record:
    """Return an entry with numbers as JSON has them, which knows no infinity and no NaN: as words ``float`` reads."""
    fields = dataclasses.asdict(entry)
    return {key: str(v) if isinstance(v, float) and not math.isfinite(v) else v for key, v in fields.items()}


def misses(data: Record) -> list[str]:
    """Return a line for each thing that is not right."""
    lines = [line for part in ("samples", "tables") for entry in data[part] for line in entry["misses"]]
    for found in data["reports"]:
        if not found["right"]:
            lines.append(f"{found['numbers']}, {_told(found)}: {found['jaxact']!r}, exact {found['exact']!r}")
    return lines


def _told(found: Record) -> str:
    return f"{found['what']}, {found['dtype']}"


COUNTS = (
    "samples",
    "refused",
    "outputs",
    "gradients",
    "numbers",
    "unjudged",
    "nearer",
    "farther",
    "torch_wrong",
    "jaxact_wrong",
)


def totals(samples: list[Record]) -> Counter[str]:
    """Return the sums of the counts."""
    misses = sum(len(entry["misses"]) for entry in samples)
    return Counter({key: sum(entry[key] for entry in samples) for key in COUNTS} | {"misses": misses})


def show(data: Record, console: Console) -> None:
    """Print what is in the data."""
    table = Table(title="PyTorch's test inputs, judged against the exact results")
    columns = (*COUNTS, "misses")
    header = ("function", "dtypes", *(key.replace("_", "\n") for key in columns))
    for name in header:
        table.add_column(name, justify="left" if name in header[:2] else "right")
    by_name: dict[str, list[Record]] = {}
    for entry in data["samples"]:
        by_name.setdefault(entry["name"], []).append(entry)
    for name, found in [*by_name.items(), ("all", data["samples"])]:
        count = totals(found)
        dtypes = len({entry["dtype"] for entry in found})
        table.add_row(name, str(dtypes), *(f"{count[key]:,}" for key in columns))
    console.print(table)
    noted: Counter[tuple[str, str]] = Counter()
    for entry in data["samples"]:
        noted.update({(entry["name"], reason): number for reason, number in entry["noted"].items()})
    for (name, reason), number in noted.items():
        console.print(f"{name}: {number:,} inputs {reason}", highlight=False)
    for name, reason in data["without"].items():
        console.print(f"{name}: no inputs: {reason}", highlight=False)

    keys = ("table", "name", "dtype", "numbers", "subnormal", "limit", "beyond", "largest")
    table = Table(*keys, title="NumPy's tables")
    for entry in data["tables"]:
        table.add_row(*(f"{entry[key]:.3g}" if isinstance(entry[key], float) else str(entry[key]) for key in keys))
    console.print(table)

    table = Table("report", "of", "the library gives", "exact", "jaxact", "", title="Public reports")
    for found in data["reports"]:
        numbers = (f"{float(found[key]):.7g}" for key in ("theirs", "exact", "jaxact"))
        verdict = "right" if found["right"] else "WRONG"
        table.add_row(found["numbers"], _told(found), *numbers, verdict)
    console.print(table)


# The README

COLUMNS = ("float32", "bfloat16", "float16")
# By what they are called, the counts to add up; the last four only make sense below the precision of the exact ones.
LINES = {
    "inputs": ("samples",),
    "outputs and gradients": ("outputs", "gradients"),
    "not right in jaxact": ("misses",),
    "numbers in them": ("numbers",),
    "of these left open, for mpmath would take too long": ("unjudged",),
    "where PyTorch is farther from exact": ("nearer",),
    "where jaxact is farther from exact": ("farther",),
    "NaN or 0 in PyTorch where the exact one is neither": ("torch_wrong",),
    "NaN or 0 in jaxact where the exact one is neither": ("jaxact_wrong",),
}
FOR_ALL = 5


def readme(data: Record) -> str:
    """Return what the README says of the figures: a table of PyTorch's inputs, and which reports are right."""
    counts = [totals([entry for entry in data["samples"] if entry["dtype"] == dtype]) for dtype in COLUMNS]
    everything = totals(data["samples"])
    lines = [["", *COLUMNS, "all dtypes"], ["---"] + ["---:"] * (len(COLUMNS) + 1)]
    for number, (row, keys) in enumerate(LINES.items()):
        figures = [sum(count[key] for key in keys) for count in (*counts, everything)]
        lines.append([row, *(f"{figure:,}" for figure in figures[:-1]), f"{figures[-1]:,}" if number < FOR_ALL else ""])
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    versions = ", ".join(f"{name} {version}" for name, version in data["versions"].items() if name != "python")
    wrong, right = (_issues(data["reports"], key) for key in ("reproduced", "right"))
    return (
        f"Found on {data['date']} with {versions}:\n\n{table}\n"
        f"Reports that are true of these releases: {wrong}.\nRight in jaxact: {right}.\n"
    )


def _issues(reports: list[Record], key: str) -> str:
    """Return the numbers of the reports for all of whose results something holds, a repository after the other."""
    verdicts: dict[tuple[str, str], bool] = {}
    for found in reports:
        repository, _, numbers = found["numbers"].partition(" ")
        for number in numbers.split(", "):
            verdicts[repository, number] = verdicts.get((repository, number), True) and found[key]
    by_repository: dict[str, list[str]] = {}
    for (repository, number), holds in verdicts.items():
        if holds:
            by_repository.setdefault(repository, []).append(number)
    return "; ".join(f"{repository} {', '.join(numbers)}" for repository, numbers in by_repository.items())


# The command line


def main(
    functions: Annotated[str, typer.Option(help="Only these functions, separated by commas.")] = "",
    dtypes: Annotated[str, typer.Option("--dtype", help="Only these types, separated by commas.")] = "",
    quick: Annotated[bool, typer.Option(help="Only a few samples, in float32 and bfloat16.")] = False,
    jobs: Annotated[int, typer.Option(help="How many processes to use.")] = os.cpu_count() or 1,
    only_report: Annotated[bool, typer.Option("--report", help="Print the figures that are written.")] = False,
) -> None:
    """Run the tests of others through jaxact; exit with 1 if it is not right somewhere."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    names = listed(functions, BY_NAME, "function")
    chosen = listed(dtypes, QUICK_DTYPES if quick else DTYPES, "type")
    kept = not (dtypes or quick or only_report)
    if only_report:
        data = json.loads(DATA.read_text())
    else:
        jax.config.update("jax_enable_x64", True)
        tables = [validate(table, dtype) for table in IN_NUMPY for dtype in ("float32", "float64")]
        found = [conformance_reports.find(report) for report in REPORTS]
        data = record(samples_to_keep(names) if kept else [], tables, found)
        done: Iterator[tuple[Any, list[Tally]]]
        if quick:
            done = ((name, tallies(name, chosen, quick)) for name in track(names, console=console, transient=True))
        else:
            tasks = {(name,): (name, chosen) for name in names}
            done = in_parallel(tallies, tasks, jobs, console, per_process=1)
        for _, samples in done:
            data = record([*data["samples"], *map(dataclasses.asdict, samples)], tables, found)
            if kept:
                DATA.write_text(json.dumps(data, indent=1) + "\n")
    show(data, console)
    if kept or only_report:
        console.print(readme(data), highlight=False, soft_wrap=True, markup=False)
    failures = misses(data)
    for line in failures:
        console.print(line, style="red", highlight=False, soft_wrap=True, markup=False)
    raise typer.Exit(1 if failures else 0)


def samples_to_keep(names: Sequence[str]) -> list[Record]:
    """Return the figures of the functions that are not among these, which must be of the installed releases."""
    if set(names) == set(BY_NAME) or not DATA.exists():
        return []
    data = json.loads(DATA.read_text())
    if data["versions"] != versions():
        raise typer.BadParameter(f"the figures are those of {data['versions']}: run all functions, or choose --dtype")
    return [entry for entry in data["samples"] if entry["name"] not in names]


if __name__ == "__main__":
    typer.run(main)

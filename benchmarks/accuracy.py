"""How far jaxact, torch and jax.nn are from the true value, for every float there is.

``python benchmarks/accuracy.py`` runs every bfloat16, every float16 and every float32 through each activation
and its derivative, in chunks; then the softmax family on rows, and a stratified choice of float64, and of float32
at other parameters. It writes the figures to ``benchmarks/results/accuracy.json``, what to plot to ``accuracy.npz``,
and the rest to ``accuracy_rows.json`` and ``accuracy_strata.json`` beside it, makes ``docs/accuracy.md`` and its plots
from these, and exits with 1 if jaxact is outside a bound.

Only what is stale is done: the figures say of which program they are, so that those of a function that compiles to
another one now, or runs on another version of its library, are done again and put in the place of the old ones.
``--stale`` lists them, and ``--all`` does the others too. Finished chunks are kept in ``.accuracy_cache``, from where
an interrupted sweep goes on. ``--stride`` takes one float32 in so many, at random, and only prints. ``--report`` only
makes the page and the plots.
"""

import datetime
import functools
import hashlib
import inspect
import json
import math
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import accuracy_report as report
import accuracy_rows
import accuracy_strata
import jax.numpy as jnp
import numpy as np
import torch
import typer
from accuracy_measure import ALL, Errors, Floats, Truth, compiled, device, figures, has, program, runner, versions
from accuracy_report import BINS, DTYPES, LIBRARIES
from reference import CASES, ORDERS
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from jaxact.bench.command import listed

ROOT = Path(__file__).parents[1]
PARTIAL = ROOT / ".accuracy_cache"

# A chunk is what one task does and one line of a partial file holds; a block is what is in the cache at once.
CHUNK = 2**24
BLOCK = 2**16


# Measuring


def inputs(dtype: str, chunk: int, stride: int) -> Iterator[tuple[Floats, Floats]]:
    """Yield the floats of a chunk in blocks, with the bin of each.

    Args:
        dtype: The type.
        chunk: Which CHUNK bit patterns to take.
        stride: One float in so many, drawn at random from each run of so many.
    """
    bits = 8 * jnp.dtype(dtype).itemsize
    rng = np.random.default_rng(chunk)
    first, last = chunk * CHUNK, min((chunk + 1) * CHUNK, 2**bits)
    for start in range(first, last, BLOCK * stride):
        patterns = np.arange(start, min(start + BLOCK * stride, last), stride)
        patterns += rng.integers(stride, size=patterns.size)
        yield patterns.astype(f"uint{bits}").view(jnp.dtype(dtype)), patterns >> (bits - 12)


def measure(name: str, dtype: str, chunk: int, stride: int, libraries: list[str]) -> dict[str, dict[str, Errors]]:
    """Return the errors of each library on a chunk, of the value and of the derivative.

    Args:
        name: One of CASES.
        dtype: The type.
        chunk: Which chunk of its floats.
        stride: One float in so many.
        libraries: The libraries.
    """
    torch.set_num_threads(1)
    case = CASES[name]
    found = {library: {order: Errors() for order in ORDERS} for library in libraries}
    with np.errstate(all="ignore"):
        for x, bins in inputs(dtype, chunk, stride):
            exact = case.exact(x.astype(np.float64))
            truths = {order: Truth(case, order, x, exact[order], bins) for order in ORDERS}
            for library in libraries:
                results = runner(library, name)(x)
                for order, truth in truths.items():
                    found[library][order].add(truth.errors(results[order]))
    return found


# Sweeping


@dataclass(frozen=True)
class Sweep:
    """All floats of a type, or one in so many, through a function of a library, as it is now.

    Attributes:
        name: One of CASES.
        dtype: The type.
        library: The library.
        stride: One float in so many.
    """

    name: str
    dtype: str
    library: str
    stride: int

    @property
    def chunks(self) -> int:
        """In how many chunks it is done."""
        return math.ceil(2 ** (8 * jnp.dtype(self.dtype).itemsize) / CHUNK)

    @functools.cached_property
    def program(self) -> str:
        """A digest of what computes: see `accuracy_measure.program`."""
        functions = () if self.library == "torch" else compiled(self.library, self.name).values()
        return program(self.library, functions, (BLOCK,), self.dtype)

    @functools.cached_property
    def fingerprint(self) -> str:
        """What changes when a chunk done before is worth nothing any more: what computes it, or how it is judged."""
        parts = [self.program, Path(__file__).with_name("reference.py").read_text()]
        parts += [inspect.getsource(part) for part in (Errors, Truth, inputs, measure)]
        return hashlib.sha256("".join(parts).encode()).hexdigest()[:16]

    @property
    def partial(self) -> Path:
        """The file that keeps finished chunks, one a line."""
        return PARTIAL / f"{self.name}.{self.dtype}.{self.library}.{self.stride}.jsonl"

    def done(self) -> dict[int, dict[str, Errors]]:
        """Return the chunks that are done, and are still worth something."""
        fingerprint, found = self.fingerprint, {}  # of the code as it is now, which may change while a sweep runs
        if not self.partial.exists():
            return {}
        for line in self.partial.read_text().splitlines():
            try:
                chunk = json.loads(line)
            except json.JSONDecodeError:  # an empty line, or one that was cut off
                continue
            if chunk["fingerprint"] == fingerprint:
                found[chunk["chunk"]] = {order: _loaded(chunk[order]) for order in ORDERS}
        return found

    def keep(self, chunk: int, errors: dict[str, Errors]) -> None:
        """Write down a finished chunk."""
        PARTIAL.mkdir(parents=True, exist_ok=True)
        line = {"chunk": chunk, "fingerprint": self.fingerprint} | {order: asdict(errors[order]) for order in ORDERS}
        with self.partial.open("a") as file:
            file.write("\n" + json.dumps(line))  # on a line of its own, also after one that was cut off

    def total(self) -> dict[str, Errors]:
        """Return the errors over all its chunks, which must be done."""
        total = {order: Errors() for order in ORDERS}
        for _, chunk in sorted(self.done().items()):
            for order in ORDERS:
                total[order].add(chunk[order])
        return total


def _loaded(record: dict[str, Any]) -> Errors:
    return Errors(**record | {"profile": {int(key): value for key, value in record["profile"].items()}})


def run(sweeps: list[Sweep], jobs: int, console: Console) -> None:
    """Do all chunks of the sweeps that are not done yet.

    Args:
        sweeps: What to do.
        jobs: How many processes to use.
        console: Where to show the progress.
    """
    # The libraries that a chunk is missing for run on it together: they share the exact results.
    missing: dict[tuple[str, str, int, int], list[Sweep]] = {}
    for sweep in sweeps:
        done = sweep.done()
        for chunk in range(sweep.chunks):
            if chunk not in done:
                missing.setdefault((sweep.name, sweep.dtype, chunk, sweep.stride), []).append(sweep)
    tasks = {task: (*task, [sweep.library for sweep in group]) for task, group in missing.items()}
    for task, found in in_parallel(measure, tasks, jobs, console):
        for sweep in missing[task]:
            sweep.keep(task[2], found[sweep.library])


def run_strata(keys: list[report.Key], jobs: int, console: Console) -> list[report.Record]:
    """Return the records of the strata, those of the same exact results computed together.

    Args:
        keys: What to do.
        jobs: How many processes to use.
        console: Where to show the progress.
    """
    libraries: dict[tuple[str, str], list[str]] = {}
    for name, dtype, library in keys:
        libraries.setdefault((name, dtype), []).append(library)
    tasks = {task: (*task, found) for task, found in libraries.items()}
    return [entry for _, found in in_parallel(accuracy_strata.measure, tasks, jobs, console) for entry in found]


def in_parallel(
    function: Callable[..., Any],
    tasks: dict[Any, tuple[Any, ...]],
    jobs: int,
    console: Console,
    per_process: int | None = None,
) -> Iterator[tuple[Any, Any]]:
    """Yield each task with what the function returns at its arguments, as they are done by several processes.

    Args:
        function: What to run.
        tasks: Its arguments for each task, a tuple that begins with words to show.
        jobs: How many processes run at a time.
        console: Where to show the progress.
        per_process: How many tasks a process does before another takes its place; None for any number.
    """
    if not tasks:
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    context = multiprocessing.get_context("spawn")
    with (
        Progress(*columns, TimeRemainingColumn(), console=console) as progress,
        ProcessPoolExecutor(jobs, mp_context=context, max_tasks_per_child=per_process) as pool,
    ):
        bar = progress.add_task("", total=len(tasks))
        futures = {pool.submit(function, *arguments): task for task, arguments in tasks.items()}
        try:
            for future in as_completed(futures):
                task = futures[future]
                yield task, future.result()
                progress.update(bar, advance=1, description=" ".join(task[:2]))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def record(sweep: Sweep, total: dict[str, Errors]) -> dict[str, Any]:
    """Return the figures of a sweep as data."""
    return {
        "name": sweep.name,
        "parameters": dict(CASES[sweep.name].parameters),
        "dtype": sweep.dtype,
        "library": sweep.library,
        "versions": versions(sweep.library),
        "device": device(sweep.library),
        "program": sweep.program,
        "stride": sweep.stride,
        "date": datetime.date.today().isoformat(),
    } | {order: figures(errors) for order, errors in total.items()}


def save(
    records: list[report.Record], profiles: report.Profiles, rows: list[report.Record], strata: list[report.Record]
) -> None:
    """Put new results in the place of old ones of the same function, type and library."""
    old_records, old_profiles = report.load()
    report.DATA.parent.mkdir(exist_ok=True)
    report.DATA.write_text(json.dumps(_merged(old_records, records), indent=1) + "\n")
    report.DATA_OF_ROWS.write_text(json.dumps(_merged(report.load_rows(), rows), indent=1) + "\n")
    lines = ",\n".join(map(json.dumps, _merged(report.load_strata(), strata)))
    report.DATA_OF_STRATA.write_text(f"[\n{lines}\n]\n")
    np.savez_compressed(report.PROFILES, **(old_profiles | profiles))


def _merged(old: list[report.Record], new: list[report.Record]) -> list[report.Record]:
    merged = {report.key(entry): entry for entry in old + new}
    names = (*ALL, *accuracy_rows.FUNCTIONS)
    order = [(name, dtype, library) for name in names for dtype in TYPES for library in LIBRARIES]
    return [merged[key] for key in order if key in merged]


def stale(
    keys: list[report.Key], records: list[report.Record], program: Callable[[str, str, str], str]
) -> list[report.Key]:
    """Return for which of the keys there is no record, or one of another program."""
    kept = {report.key(entry): entry.get("program") for entry in records}
    return [key for key in keys if kept.get(key) is None or kept[key] != program(*key)]


def sweep_program(name: str, dtype: str, library: str) -> str:
    """Return a digest of what a sweep runs."""
    return Sweep(name, dtype, library, 1).program


def profile(errors: Errors) -> Floats:
    """Return the profile as an array of BINS numbers, small enough to be kept for every function."""
    values = np.zeros(BINS)
    for index, largest in errors.profile.items():
        values[index] = largest
    return values.astype(np.float32)


# The command line


PARTS = ("sweep", "rows", "strata")
TYPES = (*DTYPES, "float64")
FUNCTIONS = tuple(dict.fromkeys([*CASES, *(case.function for case in ALL.values()), *accuracy_rows.FUNCTIONS]))


def choose(
    parts: Sequence[str], functions: Sequence[str], dtypes: Sequence[str], libraries: Sequence[str]
) -> dict[str, list[report.Key]]:
    """Return what there is to do in each part: names of cases or functions, with their types and libraries."""
    keys = [(name, dtype, library) for dtype in dtypes for name in functions for library in libraries]
    found = {
        "sweep": [(n, d, lib) for n, d, lib in keys if n in CASES and d in DTYPES and has(lib, CASES[n])],
        "rows": [key for key in keys if key[0] in accuracy_rows.FUNCTIONS],
        "strata": accuracy_strata.keys(functions, dtypes, libraries),
    }
    return {part: keys if part in parts else [] for part, keys in found.items()}


def _of(keys: list[report.Key], records: list[report.Record]) -> list[report.Record]:
    return [entry for entry in records if report.key(entry) in keys]


def main(
    functions: Annotated[str, typer.Option(help="Only these functions, separated by commas.")] = "",
    dtypes: Annotated[str, typer.Option("--dtype", help="Only these types, separated by commas.")] = "",
    libraries: Annotated[str, typer.Option(help="Only these libraries, separated by commas.")] = "",
    parts: Annotated[str, typer.Option(help="Only these of sweep, rows and strata, separated by commas.")] = "",
    stride: Annotated[int, typer.Option(help="One float32 in so many, a power of 2 up to 65536.")] = 1,
    jobs: Annotated[int, typer.Option(help="How many processes to use.")] = os.cpu_count() or 1,
    everything: Annotated[bool, typer.Option("--all", help="Also what is not stale.")] = False,
    only_list: Annotated[
        bool, typer.Option("--stale", help="List what is stale; exit with 1 if something is.")
    ] = False,
    only_report: Annotated[bool, typer.Option("--report", help="Make the page and the plots from the data.")] = False,
) -> None:
    """Measure the errors of jaxact, torch and jax.nn on every float; exit with 1 if jaxact exceeds a bound."""
    console = Console()
    if stride not in [2**power for power in range(17)]:
        raise typer.BadParameter(f"the stride must be a power of 2 up to 65536, got {stride}")
    chosen = choose(
        listed(parts, PARTS, "part"),
        listed(functions, FUNCTIONS, "function"),
        listed(dtypes, TYPES, "type"),
        listed(libraries, LIBRARIES, "library"),
    )
    if not only_report:
        todo = chosen
        if stride == 1 and not everything:
            kept = {"sweep": report.load()[0], "rows": report.load_rows(), "strata": report.load_strata()}
            programs = {"sweep": sweep_program, "rows": accuracy_rows.program, "strata": accuracy_strata.program}
            todo = {part: stale(keys, kept[part], programs[part]) for part, keys in chosen.items()}
        if only_list:
            for part, keys in todo.items():
                for key in keys:
                    console.print(part, *key, highlight=False)
            raise typer.Exit(1 if any(todo.values()) else 0)
        sweeps = [Sweep(*key, stride if key[1] == "float32" else 1) for key in todo["sweep"]]
        run(sweeps, jobs, console)
        totals = {sweep: sweep.total() for sweep in sweeps}
        records = [record(sweep, total) for sweep, total in totals.items()]
        profiles = {
            f"{sweep.name}.{sweep.library}.{order}": profile(total[order])
            for sweep, total in totals.items()
            if sweep.dtype == "float32"
            for order in ORDERS
        }
        rows = [accuracy_rows.measure(*key) for key in todo["rows"]]
        strata = run_strata(todo["strata"], jobs, console)
        if stride == 1:
            save(records, profiles, rows, strata)
    if stride == 1:
        records = _of(chosen["sweep"], report.load()[0])
        rows, strata = _of(chosen["rows"], report.load_rows()), _of(chosen["strata"], report.load_strata())
        report.write(console)
    report.show(records, rows, strata, console)
    failures = report.violations(records) + accuracy_rows.violations(rows) + report.violations(strata)
    for line in failures:
        console.print(line, style="red", highlight=False, soft_wrap=True)
    raise typer.Exit(1 if failures else 0)


if __name__ == "__main__":
    typer.run(main)

"""The command ``jaxact bench``: measures speed with :mod:`jaxact.interop.speed`, and prints it."""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from .speed import Results

# What must be set before a process starts. Fresh memory from the system at every call, and threads that spin while
# they wait, would cost more than the kernels; two frameworks on one GPU must not each take all of its memory.
ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": "2000000000",
    "MALLOC_TOP_PAD_": str(2**28),
    "MALLOC_ARENA_MAX": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
}


def restart_in_environment() -> None:
    """Start this process again under ENVIRONMENT, unless it is under it."""
    if not ENVIRONMENT.items() <= os.environ.items():
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | ENVIRONMENT)


def bench(
    functions: Annotated[str, typer.Option(help="Only these functions, separated by commas.")] = "",
    sizes: Annotated[str, typer.Option(help="Inputs of so many elements, multiples of 1024.")] = "",
    dtypes: Annotated[str, typer.Option(help="Only these of float32, bfloat16.")] = "",
    compiled: Annotated[
        bool | None,
        typer.Option("--compile/--no-compile", help="Let torch.compile take part, at the largest size."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="See that it works: few rounds, small inputs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a program to read, not tables.")] = False,
    output: Annotated[Path | None, typer.Option(help="Also write the JSON to this file.")] = None,
) -> None:
    """Measure the speed beside torch, torch.compile and jax.nn; a full run takes some ten minutes."""
    restart_in_environment()
    try:
        from . import speed
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        typer.echo(
            "jaxact bench compares with PyTorch, which is not installed; install it with: pip install 'jaxact[torch]'",
            err=True,
        )
        raise typer.Exit(2) from None
    base = speed.quick() if quick else speed.full()
    plan = speed.Plan(
        functions=_chosen(functions, speed.CASES, "function") or base.functions,
        sizes=_sizes(sizes, speed.ROW) or base.sizes,
        dtypes=_chosen(dtypes, speed.DTYPES, "dtype") or base.dtypes,
        compiled=base.compiled if compiled is None else compiled,
        rounds=base.rounds,
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=plan.steps)
        progress.advance(task, -1)

        def step(description: str) -> None:
            progress.update(task, advance=1, description=f"{description:42}")

        results = speed.run(plan, step)
        progress.advance(task)
    text = json.dumps(results.to_json(), indent=1)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text + "\n")
    if as_json:
        typer.echo(text)
    else:
        show(results, Console(width=None if sys.stdout.isatty() else 128))


def _chosen(text: str, known: Iterable[str], what: str) -> tuple[str, ...]:
    names = tuple(filter(None, text.split(",")))
    if unknown := set(names).difference(known):
        raise typer.BadParameter(f"no {what} {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return names


def _sizes(text: str, multiple: int) -> tuple[int, ...]:
    try:
        sizes = tuple(int(size) for size in text.split(",") if size)
    except ValueError:
        raise typer.BadParameter(f"sizes must be integers separated by commas, got {text!r}") from None
    if any(size <= 0 or size % multiple for size in sizes):
        raise typer.BadParameter(f"sizes must be positive multiples of {multiple}, got {text!r}")
    return sizes


# Tables, each a title, its header and its rows, to be printed or to stand in the docs.
Tables = list[tuple[str, Sequence[str], list[list[str]]]]


def kernel_tables(results: "Results") -> Tables:
    """Return a table of times and ratios for each type, size and direction."""
    from .speed import DIRECTIONS, PEERS

    tables: Tables = []
    for dtype in dict.fromkeys(k.dtype for k in results.kernels):
        for size in sorted({k.size for k in results.kernels}, reverse=True):
            for direction in DIRECTIONS:
                kernels = [k for k in results.kernels if (k.dtype, k.size, k.direction) == (dtype, size, direction)]
                names = ["jaxact", *PEERS, "floor", "copy"]
                names = [name for name in names if any(name in k.milliseconds for k in kernels)]
                ratios = ["to floor or jax.nn", "to floor or fastest"]
                rows = [
                    [k.function, *(number(k.milliseconds.get(name)) for name in names)]
                    + [number(k.bound_ratio()), number(k.aim_ratio)]
                    + ([] if k.copy_share is None else [f"{k.copy_share:.0%}"])
                    for k in kernels
                ]
                header = ["function", *names, *ratios] + (["of copy bandwidth"] if "copy" in names else [])
                tables.append((f"{dtype}, {size:,} elements, {direction}, milliseconds", header, rows))
    return tables


def other_tables(results: "Results") -> Tables:
    """Return the tables of what is no kernel: eager calls, the import, memory, conversions."""
    i = results.imports
    return [
        (
            "Eager call on 1,024 elements, microseconds",
            ["function", "jaxact", "torch", "jax.nn", "jitted x + 1", "jaxact over x + 1"],
            [
                [
                    c.function,
                    *(number(c.microseconds.get(name)) for name in ("jaxact", "torch", "jax.nn", "floor")),
                    number(c.bound_ratio),
                ]
                for c in results.calls
            ],
        ),
        (
            "Import, milliseconds",
            ["import jax", "import jaxact after it", "added"],
            [[number(1e3 * i.jax), number(1e3 * i.jaxact), f"{i.added:.1%}"]],
        ),
        (
            "Temporary memory of a deep MLP's gradient, MiB",
            ["function", "jaxact", "jax.nn", "ratio"],
            [
                [t.function, *(_mebibytes(t.bytes.get(name)) for name in ("jaxact", "jax.nn")), number(t.bound_ratio)]
                for t in results.temporaries
            ],
        ),
        (
            "Between frameworks, 1,024 float32, microseconds",
            ["", "jaxact", "native", "added"],
            [
                [c.name, number(c.microseconds["jaxact"]), number(c.microseconds["native"]), number(c.added)]
                for c in results.conversions
            ],
        ),
    ]


def number(value: float | None) -> str:
    """Return a number as it stands in a table: three digits or more, nothing for None."""
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def _mebibytes(count: int | None) -> str:
    return "" if count is None else f"{count / 2**20:.2f}"


def show(results: "Results", console: Console) -> None:
    """Print the tables, and what is missed."""
    for title, header, rows in kernel_tables(results) + other_tables(results):
        table = Table(title=title, box=SIMPLE_HEAD)
        for column, name in enumerate(header):
            table.add_column(name, justify="right" if column else "left")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for miss in results.misses():
        kind = "aim" if miss.aim else "bound"
        text = f"{kind} missed: {miss.subject}, {miss.what}: {number(miss.measured)}, not {number(miss.limit)}"
        console.print(text, highlight=False)


def main() -> None:
    """Run the command alone, as ``python -m jaxact.interop.bench``."""
    typer.run(bench)


if __name__ == "__main__":
    main()

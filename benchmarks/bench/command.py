"""The command ``jaxact bench``: what it takes for options, and the environment that it measures in."""

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .tables import show

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
        from . import kernels, workloads
        from . import plan as plans
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        typer.echo(
            "jaxact bench compares with PyTorch, which is not installed; install it with: pip install 'jaxact[torch]'",
            err=True,
        )
        raise typer.Exit(2) from None
    base = plans.quick() if quick else plans.full()
    plan = plans.Plan(
        functions=listed(functions, workloads.workloads(), "function"),
        sizes=_sizes(sizes, workloads.ROW) or base.sizes,
        dtypes=listed(dtypes, kernels.DTYPES, "dtype"),
        compiled=base.compiled if compiled is None else compiled,
        rounds=base.rounds,
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=plan.steps)
        progress.advance(task, -1)

        def step(description: str) -> None:
            progress.update(task, advance=1, description=f"{description:42}")

        results = plans.run(plan, step)
        progress.advance(task)
    text = json.dumps(results.to_json(), indent=1)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text + "\n")
    if as_json:
        typer.echo(text)
    else:
        show(results, Console(width=None if sys.stdout.isatty() else 128))


def listed(text: str, known: Iterable[str], what: str) -> tuple[str, ...]:
    """Return the names in an option, or all that are known where it is empty.

    Args:
        text: The option: names, separated by commas.
        known: The names that there are.
        what: What they are names of, for the message.

    Raises:
        typer.BadParameter: For another name.
    """
    known = tuple(known)
    names = tuple(filter(None, text.split(","))) or known
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

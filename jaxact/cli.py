"""The command line: ``jaxact check``, ``compare``, ``table`` and ``bench``."""

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from jaxact import __version__
from jaxact._cli_tables import print_check, terminal
from jaxact.bench.command import bench
from jaxact.catalog import CATALOG

if TYPE_CHECKING:
    from jaxact.interop.crosscheck.catalog_check import CatalogCheck
    from jaxact.interop.crosscheck.report import Report

app = typer.Typer(
    name="jaxact",
    help="Every activation of torch.nn in pure jax.numpy, proven equal to PyTorch.",
    no_args_is_help=True,
    add_completion=False,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read, not a table.")]
ToHtml = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Also write a page with plots.")]
Seed = Annotated[int, typer.Option(min=0, help="For what is drawn.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"jaxact {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app.command()(bench)


@app.command()
def check(
    functions: Annotated[list[str] | None, typer.Argument(help="Only these functions.", show_default=False)] = None,
    dtype: Annotated[
        list[str] | None, typer.Option(help="Only this of float32, bfloat16 and float16; may be repeated.")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Inputs of about so many elements, at least 16.")] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
    html: ToHtml = None,
) -> None:
    """Cross-check the activations with the installed PyTorch: values and gradients, random and extreme inputs.

    The documented samples come first. Exits with 1 if anything differs that is not documented to.
    """
    with _ends("check"):
        from jaxact.interop.crosscheck import catalog_check
        from jaxact.interop.crosscheck.catalog_calls import DTYPES, SIZE
        from jaxact.interop.crosscheck.usage import UsageError

        writer = _html_writer("check", html)
        given = (list(dict.fromkeys(functions or ())), list(dict.fromkeys(dtype or DTYPES)))
        try:
            with _progress(catalog_check.steps(*given)) as step:
                outcome = catalog_check.check_catalog(*given, size=SIZE if size is None else size, seed=seed, step=step)
        except UsageError as error:
            raise _wrong("check", str(error)) from None
        _show(outcome, as_json, html, writer, print_check)


@app.command()
def compare(
    jax_fn: Annotated[str, typer.Argument(metavar="MODULE:JAX_FN", help="The port.")],
    torch_fn: Annotated[str, typer.Argument(metavar="MODULE:TORCH_FN", help="The torch function or module.")],
    shape: Annotated[list[str], typer.Option(help="The shape of an input, as 2,16; once for each input.")],
    dtype: Annotated[list[str] | None, typer.Option(help="The dtype of all inputs, or once for each.")] = None,
    seed: Seed = 0,
    gradient: Annotated[bool, typer.Option("--gradient/--no-gradient", help="Compare gradients too.")] = True,
    as_json: AsJson = False,
    html: ToHtml = None,
) -> None:
    """Compare a JAX port with the torch function or module that it was made from, on drawn inputs.

    Modules of the current directory are found too. Exits with 1 if the port differs.
    """
    with _ends("compare"):
        from jaxact.interop.crosscheck import named
        from jaxact.interop.crosscheck.usage import UsageError

        writer = _html_writer("compare", html)
        try:
            report = named.compare_named(jax_fn, torch_fn, shape, dtype or (), gradient=gradient, seed=seed)
        except UsageError as error:
            raise _wrong("compare", str(error)) from None
        _show(report, as_json, html, writer, typer.echo)


@app.command()
def table(as_json: AsJson = False) -> None:
    """Print the comparison of the activations: range, use case, advantages."""
    fields = ("function", "range", "use case", "advantages")
    rows = [(row.name, row.range, row.use_case, row.advantages) for row in CATALOG]
    if as_json:
        typer.echo(json.dumps([dict(zip(fields, row, strict=True)) for row in rows], indent=2))
        return
    printed = Table(*fields)
    for row in rows:
        printed.add_row(*map(escape, row))
    terminal().print(printed)


def _show(
    outcome: "CatalogCheck | Report", as_json: bool, html: Path | None, writer: Any, printed: Callable[[Any], None]
) -> None:
    if html is not None:
        try:
            writer(outcome, html)
        except OSError as error:
            typer.echo(f"jaxact: cannot write {html}: {error.strerror}", err=True)
            raise typer.Exit(2) from None
    if as_json:
        typer.echo(json.dumps(outcome.to_dict(), indent=2, allow_nan=False))
    else:
        printed(outcome)
    if not outcome.passed:
        raise typer.Exit(1)


def _wrong(command: str, message: str) -> typer.Exit:
    typer.echo(f"jaxact {command}: {message}", err=True)
    return typer.Exit(2)


def _html_writer(command: str, html: Path | None) -> Any:
    """Return what writes the page, before the work is done that it is to show."""
    if html is None:
        return None
    from jaxact.interop.crosscheck.usage import PAGES_NEED, html_writer

    try:
        return html_writer()
    except ModuleNotFoundError as error:
        if error.name not in PAGES_NEED:
            raise
        raise _wrong(command, str(error)) from None


@contextlib.contextmanager
def _ends(command: str) -> Iterator[None]:
    """Say in a line that torch is missing, or that Ctrl-C was pressed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        message = "compares with PyTorch, which is not installed; install it with: pip install 'jaxact[torch]'"
        typer.echo(f"jaxact {command} {message}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo(f"jaxact {command}: interrupted", err=True)
        raise typer.Exit(130) from None


@contextlib.contextmanager
def _progress(steps: int) -> Iterator[Any]:
    columns: Sequence[Any] = (
        TextColumn("{task.description:48}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=steps)
        progress.advance(task, -1)
        yield lambda description: progress.update(task, advance=1, description=description)

"""The command line: ``jaxact check``, ``jaxact table`` and ``jaxact bench``."""

import json
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jaxact import __version__
from jaxact.bench.command import bench
from jaxact.catalog import CATALOG, SAMPLES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jaxact.interop.parity import Comparison, Outcome

app = typer.Typer(
    name="jaxact",
    help="Every activation of torch.nn in pure jax.numpy, proven equal to PyTorch.",
    no_args_is_help=True,
    add_completion=False,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read, not a table.")]


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
def check(as_json: AsJson = False) -> None:
    """Cross-check the documented samples against the installed PyTorch; exit with 1 if anything differs."""
    try:
        from jaxact.interop import parity
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        typer.echo(
            "jaxact check compares with PyTorch, which is not installed; install it with: pip install 'jaxact[torch]'",
            err=True,
        )
        raise typer.Exit(2) from None
    outcomes = [parity.check(sample) for sample in SAMPLES]
    if as_json:
        typer.echo(json.dumps([_record(outcome) for outcome in outcomes], indent=2))
    else:
        _print_check(outcomes)
    if not all(outcome.passed for outcome in outcomes):
        raise typer.Exit(1)


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
    _console().print(printed)


def _console() -> Console:
    """Return the terminal, or where the output is no terminal a console as wide as the tables."""
    console = Console()
    return console if console.is_terminal else Console(width=max(128, console.width))


def _print_check(outcomes: "list[Outcome]") -> None:
    import jax

    printed = Table(
        title=f"jaxact {__version__} on JAX {jax.__version__} against PyTorch {version('torch')}",
        caption="gradient: of sum(c * output), c = 1, 2, ..., n. ULP: largest distance, in units in the last place "
        "(softmax's gradient: of the terms c that it subtracts from each other)",
        box=SIMPLE_HEAD,
    )
    printed.add_column("function", overflow="fold")
    for numbers in ("input", "jaxact", "torch", "ULP", "jaxact\ngradient", "torch\ngradient", "ULP"):
        printed.add_column(numbers, justify="right", no_wrap=True)
    printed.add_column("verdict", overflow="fold")
    for outcome in outcomes:
        parameters = [f"{key}={value}" for key, value in outcome.sample.parameters.items()]
        output = outcome.output.verdict if outcome.documented else "differs from the documented output"
        gradient = ("", "", "") if outcome.gradient is None else _cells(outcome.gradient)
        verdicts = [output] if outcome.gradient is None else [output, f"gradient {outcome.gradient.verdict}"]
        printed.add_row(
            "\n".join([outcome.sample.function, *parameters]),
            _four_decimals(outcome.sample.input),
            *_cells(outcome.output),
            *gradient,
            "\n".join(verdicts),
            end_section=True,
        )
    _console().print(printed)
    failed = sum(not outcome.passed for outcome in outcomes)
    typer.echo(f"{len(outcomes) - failed} of {len(outcomes)} samples agree with PyTorch")


def _cells(comparison: "Comparison") -> tuple[str, str, str]:
    return (
        _four_decimals(comparison.jaxact.tolist()),
        _four_decimals(comparison.torch.tolist()),
        str(comparison.ulps),
    )


def _four_decimals(values: "Iterable[float]") -> str:
    return "\n".join(str(v) if isinstance(v, int) else f"{v:.4f}" for v in values)


def _record(outcome: "Outcome") -> dict[str, Any]:
    def record(comparison: "Comparison") -> dict[str, Any]:
        return {
            "jaxact": comparison.jaxact.tolist(),
            "torch": comparison.torch.tolist(),
            "ulps": comparison.ulps,
            "verdict": comparison.verdict,
        }

    return {
        "function": outcome.sample.function,
        "parameters": dict(outcome.sample.parameters),
        "input": list(outcome.sample.input),
        "documented": list(outcome.sample.output),
        "prints_as_documented": outcome.documented,
        "output": record(outcome.output),
        "gradient": None if outcome.gradient is None else record(outcome.gradient),
        "passed": outcome.passed,
    }

"""The tables that ``jaxact check`` prints."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from jaxact.interop.crosscheck.catalog_check import CatalogCheck, Checked
    from jaxact.interop.parity import Comparison, Outcome


def terminal() -> Console:
    """Return the terminal, or where the output is no terminal a console as wide as the tables."""
    console = Console()
    return console if console.is_terminal else Console(width=max(128, console.width))


def print_check(check: "CatalogCheck") -> None:
    """Print the samples, the functions, what differs on purpose, and what differs."""
    from jaxact.interop.crosscheck.catalog_check import failures

    console = terminal()
    releases = "jaxact {jaxact} on JAX {jax} against PyTorch {torch}".format(**check.versions)
    if check.samples:
        console.print(_samples(check.samples, releases))
    console.print(_functions(check, releases))
    if any(row.documented for row in check.functions):
        console.print(_documented(check))
    for what, how in failures(check):
        typer.echo(f"{what}\n{how}\n")
    if check.samples:
        agree = sum(outcome.passed for outcome in check.samples)
        typer.echo(f"{agree} of {len(check.samples)} samples agree with PyTorch")
    agree = sum(row.passed for row in check.functions)
    typer.echo(f"{agree} of {len(check.functions)} functions agree with PyTorch, or differ on purpose")


def _functions(check: "CatalogCheck", releases: str) -> Table:
    printed = Table(
        title=releases,
        caption="random, kink and extreme inputs, value and gradient: the worst verdict. ratio: the largest error over "
        "torch's own, against torch in float64; on purpose: how many inputs are documented, see docs/divergences.md",
        box=SIMPLE_HEAD,
    )
    printed.add_column("function", overflow="fold")
    for dtype in check.dtypes:
        printed.add_column(dtype, overflow="fold")
        printed.add_column("ratio", justify="right")
    printed.add_column("on purpose", justify="right")
    for row in check.functions:
        cells = [cell for dtype in check.dtypes for cell in (_verdict(row, dtype), f"{row.ratio(dtype):.2g}")]
        printed.add_row(escape(row.name), *cells, str(len(row.on_purpose()) or ""))
    return printed


def _verdict(row: "Checked", dtype: str) -> Text:
    verdict = row.verdict(dtype)
    return Text(verdict.upper(), "bold red") if verdict in ("differs", "not compared") else Text(verdict)


def _documented(check: "CatalogCheck") -> Table:
    printed = Table(title="PyTorch's result is wrong, and jaxact's is not", box=SIMPLE_HEAD)
    printed.add_column("function", overflow="fold")
    printed.add_column("of")
    printed.add_column("at", overflow="fold")
    for number in ("jaxact", "PyTorch"):
        printed.add_column(number, justify="right", overflow="fold")
    printed.add_column("because", overflow="fold")
    for checked in check.functions:
        for part in checked.on_purpose():
            row = part.divergence
            of = row.of if row.dtype == "float32" else f"{row.of} ({row.dtype})"
            status = "" if part.status == "as documented" else f"{part.dtype}: {part.status}; "
            shown = [_numbers(numbers) or "OverflowError" for numbers in (part.jaxact, part.torch)]
            printed.add_row(escape(checked.name), of, _numbers(row.at), *shown, escape(f"{status}{row.because}"))
    return printed


def _numbers(numbers: Iterable[float]) -> str:
    return ", ".join(f"{number:.6g}" for number in numbers)


def _samples(outcomes: "tuple[Outcome, ...]", releases: str) -> Table:
    printed = Table(
        title=f"documented samples: {releases}",
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
    return printed


def _cells(comparison: "Comparison") -> tuple[str, str, str]:
    return (
        _four_decimals(comparison.jaxact.tolist()),
        _four_decimals(comparison.torch.tolist()),
        str(comparison.ulps),
    )


def _four_decimals(values: Iterable[float]) -> str:
    return "\n".join(str(v) if isinstance(v, int) else f"{v:.4f}" for v in values)

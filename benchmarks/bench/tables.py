"""The tables of what a run has found: to be printed, or to stand in the docs."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from .results import COMPUTED, PEERS, Miss, Results

# Tables, each a title, its header and its rows, to be printed or to stand in the docs.
Tables = list[tuple[str, Sequence[str], list[list[str]]]]


def kernel_tables(results: Results) -> Tables:
    """Return a table of times and ratios for each type, size and what is computed."""
    tables: Tables = []
    for dtype in dict.fromkeys(k.dtype for k in results.kernels):
        for size in sorted({k.size for k in results.kernels}, reverse=True):
            for computes in COMPUTED:
                kernels = [k for k in results.kernels if (k.dtype, k.size, k.computes) == (dtype, size, computes)]
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
                tables.append((f"{dtype}, {size:,} elements, {computes}, milliseconds", header, rows))
    return tables


def other_tables(results: Results) -> Tables:
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


def number(value: float | None, digits: int = 3) -> str:
    """Return a number as it stands in a table: so many digits or more, nothing for None."""
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:#.{digits}g}"


def measured_and_limit(miss: Miss) -> tuple[str, str]:
    """Return the two numbers of a miss, with as many digits as it takes to tell them apart: memory has no noise."""
    digits = 3
    while (measured := number(miss.measured, digits)) == (limit := number(miss.limit, digits)):
        digits += 1
    return measured, limit


def _mebibytes(count: int | None) -> str:
    return "" if count is None else f"{count / 2**20:.2f}"


def show(results: Results, console: Console) -> None:
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
        measured, limit = measured_and_limit(miss)
        text = f"{kind} missed: {miss.subject}, {miss.what}: {measured}, not {limit}"
        console.print(text, highlight=False)

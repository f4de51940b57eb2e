"""What the accuracy sweep found: as a table to print, as a page of the docs, and as a plot for each function.

All of it comes from the data that ``accuracy.py`` has written.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import accuracy_rows
import numpy as np
from accuracy_measure import BY_PARAMETER, SECOND
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from reference import BOUNDS, CASES, GENERAL, ORDERS, SUBNORMAL_BOUND, WINDOW, WINDOW_ERROR, WINDOW_ERROR_64
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
DATA = ROOT / "benchmarks" / "results" / "accuracy.json"
PROFILES = DATA.with_suffix(".npz")
DATA_OF_ROWS = DATA.with_name("accuracy_rows.json")
DATA_OF_STRATA = DATA.with_name("accuracy_strata.json")
PAGE = ROOT / "docs" / "accuracy.md"
PLOTS = ROOT / "docs" / "_static"

DTYPES = ("float32", "bfloat16", "float16")
LIBRARIES = ("jaxact", "torch", "jax.nn")
# Of what is tried on a choice of inputs: the types, and what is measured at other parameters than the defaults.
STRATIFIED = ("float32", "float64")
EVERY = (*ORDERS, BY_PARAMETER)
# The largest errors are kept for so many equal parts of all bit patterns: eighths of a binade, in float32.
BINS = 4096

Record = dict[str, Any]
Key = tuple[str, str, str]
Profiles = dict[str, Any]


def load() -> tuple[list[Record], Profiles]:
    """Return the figures, a record for each function, type and library, and what to plot."""
    if not DATA.exists():
        return [], {}
    with np.load(PROFILES) as profiles:
        return json.loads(DATA.read_text()), dict(profiles)


def load_rows() -> list[Record]:
    """Return the figures of the softmax family, of the same kind."""
    return json.loads(DATA_OF_ROWS.read_text()) if DATA_OF_ROWS.exists() else []


def load_strata() -> list[Record]:
    """Return the figures of float64, of other parameters and of second derivatives, likewise."""
    return json.loads(DATA_OF_STRATA.read_text()) if DATA_OF_STRATA.exists() else []


def key(entry: Record) -> Key:
    """Return what identifies a record: its function, type and library."""
    return entry["name"], entry["dtype"], entry["library"]


def violations(records: list[Record]) -> list[str]:
    """Return a line for each bound that jaxact exceeds.

    No derivative may be NaN. By a bound in ULPs, or as lost, only those by x are judged.
    """
    lines = []
    for entry in records:
        if entry["library"] != "jaxact":
            continue
        bounds = BOUNDS[entry["dtype"]]
        for order in orders(entry):
            errors, bound = entry[order], bounds.get(order)
            where = f"{entry['name']}, {entry['dtype']}, {order}"
            if bound is not None and float(errors["largest"]) > bound:
                lines.append(f"{where}: {errors['largest']} ULP at {errors['at']!r}, the bound is {bound}")
            if errors["nan"]:
                lines.append(f"{where}: {errors['nan']} results are NaN")
            if errors["reversals"]:
                lines.append(f"{where}: {errors['reversals']} times not monotone")
            if bound is not None and float(errors["subnormal"]) > SUBNORMAL_BOUND:
                lines.append(f"{where}: off by {errors['subnormal']} smallest normal numbers at a subnormal result")
            if order == SECOND and errors["lost"]:
                lines.append(f"{where}: {errors['lost']} results are lost")
    return lines


def orders(entry: Record) -> list[str]:
    """Return what a record has figures of: the value, derivatives by x, the one by a parameter."""
    return [order for order in (*ORDERS, SECOND, BY_PARAMETER) if order in entry]


def table(
    records: list[Record],
    names: Iterable[str],
    dtype: str,
    orders: Sequence[str],
    cell: Callable[[Record], str] | None = None,
) -> list[list[str]]:
    """Return a header, and a row for each of the names that has records, or nothing.

    A row has a cell for each library, for one order after the other; columns without any are left out.

    Args:
        records: The records.
        names: The names.
        dtype: The type.
        orders: What to show of the records.
        cell: The text to show, by default the largest error in ULPs.
    """
    found, show = {key(entry): entry for entry in records}, cell or _ulps
    columns = [["function", *names]]
    for order in orders:
        for library in LIBRARIES:
            entries = [found.get((name, dtype, library), {}) for name in columns[0][1:]]
            heading = library if order == orders[0] else f"{order}: {library}"
            columns.append([heading, *(show(entry[order]) if order in entry else "" for entry in entries)])
    columns = [column for column in columns if any(column[1:])]
    header, *lines = map(list, zip(*columns, strict=True))
    rows = [line for line in lines if any(line[1:])]
    return [header, *rows] if rows else []


def _lost(errors: Record) -> str:
    return f"{errors['lost']:,}" + (f", {errors['nan']:,} NaN" if errors["nan"] else "")


def _ulps(errors: Record) -> str:
    text = f"{float(errors['largest']):.3g}".replace("e+0", "e").replace("e+", "e")
    if not errors["nan"]:
        return text
    share = errors["nan"] / errors["inputs"]
    return f"{text}, {share:.0%} NaN" if share >= 0.01 else f"{text}, {errors['nan']:,} NaN"


def show(records: list[Record], rows: list[Record], strata: list[Record], console: Console) -> None:
    """Print the largest errors, tables for each type."""
    found = {f"{dtype}, {order}": table(records, CASES, dtype, [order]) for dtype in DTYPES for order in ORDERS}
    found |= {f"float64, {order}": table(strata, CASES, "float64", [order]) for order in ORDERS}
    found |= {f"{dtype}, rows": table(rows, accuracy_rows.FUNCTIONS, dtype, ORDERS) for dtype in accuracy_rows.DTYPES}
    found |= {f"{dtype}, {SECOND}, lost": table(strata, CASES, dtype, [SECOND], _lost) for dtype in STRATIFIED}
    found |= {f"{dtype}, other parameters": table(strata, GENERAL, dtype, EVERY) for dtype in STRATIFIED}
    for title, lines in found.items():
        if lines:
            header, *body = lines
            shown = Table(header[0], title=f"Largest error in ULPs: {title}")
            for column in header[1:]:
                shown.add_column(column, justify="right")
            for line in body:
                shown.add_row(*line)
            console.print(shown)


def write(console: Console) -> None:
    """Make the page and the plots."""
    records, profiles = load()
    PAGE.write_text(page(records, load_rows(), load_strata()))
    names = sorted({entry["name"] for entry in records if entry["dtype"] == "float32"}, key=list(CASES).index)
    PLOTS.mkdir(exist_ok=True)
    for name in names:
        plot(name, profiles).savefig(plot_path(name), dpi=90)
    console.print(f"wrote {PAGE.relative_to(ROOT)} and {len(names)} plots")


def plot_path(name: str) -> Path:
    """Return where the plot of a function is."""
    return PLOTS / f"accuracy-{name.replace('_', '-')}.png"


# The page

INTRODUCTION = """# Accuracy

How far jaxact, PyTorch and `jax.nn` are from the true value, at every bfloat16, every float16 and every float32 there
is. The numbers were made by `make accuracy` {when}, on {devices}, with {versions}.

An error is the distance to the exact result in ULPs (units in the last place) of the result's type: 0.5 is the best
that rounding allows, and 1.7e7 means that a float32 is 0, or right in no digit, where it should be a normal number.
Every input counts whose exact result is a normal number; subnormal numbers do not, as XLA flushes them to 0 on a CPU.
Where a derivative crosses 0 between two floats (those of silu, gelu and mish do), an absolute error of {window_error}
is none, up to {window} to each side. Results that are NaN where the exact one is not are counted apart.

jaxact holds these bounds:

| type | value | derivative |
|---|---|---|
"""

FLOAT64 = """
## float64

Nobody can try all of float64. These are the largest errors in ULPs on some 8,000 numbers for each function, stratified
over all exponents and dense where formulas change and tails end, beside results of up to 400 digits. Around the zero of
a derivative an absolute error of {window_error} is none.
"""

LOST = """
## Second derivatives

No bound in ULPs is held for them, as they cross 0 in many places. Of some 5,000 to 8,000 numbers chosen likewise, so
many results are off by more than half of the exact one where that is a normal number, such as 0 in a tail.
"""

PARAMETERS = """
## Other parameters

What is above holds for the default parameters. These are the largest errors at parameters that make no product and no
quotient exact, of the value, of the derivative by x and of that by the first parameter, which PyTorch does not give.
They are from some 100,000 numbers in float32 and some 8,000 in float64, and for the last from some 5,000 to 8,000.
jaxact holds the bounds above for the first two.
"""

SOFTMAX = """
## The softmax family

Largest error in ULPs on {rows:,} rows of {row:,} normal numbers ({fewer:,} in float64), of the value and of the
derivative of each row's first result by every element. jaxact's bounds are {bound:g} for float32 values, where the
roundings of the sum add up, and those above in the other types.
"""

EXPLANATION = """
## Function by function

All of this is about float32. "Mean" is the mean error in ULPs, "correctly rounded" the share of the results that are
the float nearest to the exact one, and "reversals" says how often the value of a monotone function falls from one
float to the next.

The plots show the largest error in each eighth of a binade of inputs, of the value above and of the derivative below;
what is farther out is drawn at the ends, what is nearer to 0 at 0. The dashed line is jaxact's bound; the upper edge
stands for all that is larger, for infinity and for NaN.
"""


def page(records: list[Record], rows: list[Record], strata: list[Record]) -> str:
    """Return the page of the docs."""
    entries = records + strata
    dates = sorted({entry["date"] for entry in entries})
    versions = sorted({f"{name} {version}" for entry in entries for name, version in entry["versions"].items()})
    text = INTRODUCTION.format(
        when=f"on {dates[0]}" if len(dates) == 1 else f"between {dates[0]} and {dates[-1]}",
        devices=" and ".join(sorted({entry["device"].upper() for entry in entries})),
        versions=", ".join(versions),
        window=WINDOW,
        window_error=f"{WINDOW_ERROR:.0e}".replace("e-0", "e-"),
    )
    types = (*DTYPES, "float64") if strata else DTYPES
    text += "".join(f"| {dtype} | {BOUNDS[dtype]['value']} | {BOUNDS[dtype]['derivative']} |\n" for dtype in types)
    for dtype in DTYPES:
        for order in ORDERS:
            text += _section(
                f"## {dtype}, {order}", table(records, CASES, dtype, [order]), "Largest error in ULPs.\n\n"
            )
    text += FLOAT64.format(window_error=f"{WINDOW_ERROR_64:.1e}") if strata else ""
    for order in ORDERS:
        text += _section(f"### float64, {order}", table(strata, CASES, "float64", [order]))
    text += LOST if strata else ""
    for dtype in STRATIFIED:
        text += _section(f"### {dtype}, {SECOND}", table(strata, CASES, dtype, [SECOND], _lost))
    text += PARAMETERS if strata else ""
    for dtype in STRATIFIED:
        text += _section(f"### {dtype}, other parameters", table(strata, GENERAL, dtype, EVERY))
    if rows:
        text += SOFTMAX.format(
            rows=accuracy_rows.COUNT,
            row=accuracy_rows.LENGTH,
            fewer=accuracy_rows.COUNT // accuracy_rows.FEWER,
            bound=accuracy_rows.FLOAT32_BOUND,
        )
    for dtype in accuracy_rows.DTYPES:
        if lines := table(rows, accuracy_rows.FUNCTIONS, dtype, ORDERS):
            text += _section(f"### {dtype}, softmax family", lines)
            text += f"\njaxact's rows sum to 1 within {_largest_sum(rows, dtype):.2g} ULP.\n"
    text += EXPLANATION
    for name, case in CASES.items():
        lines = [
            [entry["library"], *_details(name, entry[order], order)]
            for order in ORDERS
            for entry in records
            if entry["name"] == name and entry["dtype"] == "float32"
        ]
        if lines:
            parameters = ", ".join(f"`{key}={value!r}`" for key, value in case.parameters.items())
            text += f"\n### {name}\n\n" + (f"With {parameters}.\n\n" if parameters else "")
            header = ["library", "of", "largest", "at", "mean", "correctly rounded", "NaN", "reversals"]
            text += _table(header, *lines)
            text += f"\n![The error of {name} against x]({plot_path(name).relative_to(PAGE.parent)})\n"
    return text


def _section(title: str, lines: list[list[str]], text: str = "") -> str:
    """Return a section with a table, or nothing without one."""
    return f"\n{title}\n\n{text}" + _table(*lines) if lines else ""


def _largest_sum(rows: list[Record], dtype: str) -> float:
    """Return how far from 1 jaxact's rows sum up at most, in ULPs."""
    return max(entry.get("sums", 0.0) for entry in rows if (entry["library"], entry["dtype"]) == ("jaxact", dtype))


def _details(name: str, errors: Record, order: str) -> list[str]:
    """Return the cells after the library's name."""
    return [
        order,
        f"{float(errors['largest']):.5g}",
        "" if errors["at"] is None or not float(errors["largest"]) else f"{errors['at']:.9g}",
        f"{float(errors['mean']):.3g}",
        f"{errors['correctly_rounded']:.2%}",
        f"{errors['nan']:,}",
        f"{errors['reversals']:,}" if CASES[name].monotone and order == "value" else "",
    ]


def _table(header: list[str], *rows: list[str]) -> str:
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


# The plots

COLORS = {"torch": "tab:orange", "jax.nn": "tab:green", "jaxact": "tab:blue"}
# What is outside these powers of 2 is drawn at their place.
SMALLEST, GREATEST = -24, 16
FLOOR, CEILING = 0.1, 1e9


def plot(name: str, profiles: Profiles) -> Figure:
    """Return the plot of a function's float32 errors against x: of the value, and of the derivative."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    for axes, order in zip(figure.subplots(2, sharex=True), ORDERS, strict=True):
        for library, color in COLORS.items():
            if (errors := profiles.get(f"{name}.{library}.{order}")) is not None:
                axes.step(*_along_x(errors), where="mid", color=color, label=library, linewidth=1)
        axes.axhline(BOUNDS["float32"][order], color="gray", linestyle="--", linewidth=0.8)
        axes.set_yscale("log")
        axes.set_ylim(FLOOR / 1.5, CEILING * 1.5)
        axes.set_ylabel(f"{order}, ULP")
        axes.grid(alpha=0.3)
    _label_x(axes)
    figure.axes[0].set_title(f"Largest float32 error of {name}")
    figure.axes[0].legend(loc="upper left", ncols=len(COLORS), fontsize="small")
    return figure


def _along_x(profile: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return where on the axis of x to draw the errors, and how high."""
    exponent = np.arange(BINS // 2 - 8) / 8 - 127 + 1 / 16  # without the last 8 bins, infinity and NaN
    positive, negative = (half[: exponent.size] for half in np.split(profile, 2))
    side = np.clip(exponent, SMALLEST, GREATEST) - SMALLEST
    place, index = np.unique(side, return_inverse=True)
    heights = []
    for half in (negative, positive):
        height = np.zeros(place.size)
        np.maximum.at(height, index, half)
        heights.append(np.clip(height, FLOOR, CEILING))
    return np.concatenate([-place[::-1], place]), np.concatenate([heights[0][::-1], heights[1]])


def _label_x(axes: Axes) -> None:
    powers = range(SMALLEST, GREATEST + 1, 4)
    labels = ["0" if power == SMALLEST else rf"$2^{{{power}}}$" for power in powers]
    places = [power - SMALLEST for power in powers]
    axes.set_xticks([-place for place in places[:0:-1]] + places, [f"$-${label}" for label in labels[:0:-1]] + labels)
    axes.tick_params("x", labelsize="x-small")
    axes.set_xlabel("x")

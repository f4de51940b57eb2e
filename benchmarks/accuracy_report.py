"""What the accuracy sweep found: as a table to print, as a page of the docs, and as a plot for each function.

All of it comes from the data that ``accuracy.py`` has written.
"""

import json
from pathlib import Path
from typing import Any

import accuracy_rows
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from reference import BOUNDS, CASES, ORDERS, SUBNORMAL_BOUND, WINDOW, WINDOW_ERROR
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
DATA = ROOT / "benchmarks" / "results" / "accuracy.json"
PROFILES = DATA.with_suffix(".npz")
ROWS = DATA.with_name("accuracy_rows.json")
PAGE = ROOT / "docs" / "accuracy.md"
PLOTS = ROOT / "docs" / "_static"

DTYPES = ("float32", "bfloat16", "float16")
LIBRARIES = ("jaxact", "torch", "jax.nn")
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
    return json.loads(ROWS.read_text()) if ROWS.exists() else []


def key(entry: Record) -> Key:
    """Return what identifies a record: its function, type and library."""
    return entry["name"], entry["dtype"], entry["library"]


def violations(records: list[Record]) -> list[str]:
    """Return a line for each bound that jaxact exceeds."""
    lines = []
    for entry in records:
        if entry["library"] != "jaxact":
            continue
        for order in ORDERS:
            errors, bound = entry[order], BOUNDS[entry["dtype"]][order]
            where = f"{entry['name']}, {entry['dtype']}, {order}"
            if float(errors["largest"]) > bound:
                lines.append(f"{where}: {errors['largest']} ULP at {errors['at']!r}, the bound is {bound}")
            if errors["nan"]:
                lines.append(f"{where}: {errors['nan']} results are NaN")
            if errors["reversals"]:
                lines.append(f"{where}: {errors['reversals']} times not monotone")
            if float(errors["subnormal"]) > SUBNORMAL_BOUND:
                lines.append(f"{where}: off by {errors['subnormal']} smallest normal numbers at a subnormal result")
    return lines


def largest(records: list[Record], dtype: str, order: str) -> list[list[str]]:
    """Return a row for each function: its name and the largest error of each library."""
    cells = {key(entry): _ulps(entry[order]) for entry in records}
    names = [name for name in CASES if any((name, dtype, library) in cells for library in LIBRARIES)]
    return [[name, *(cells.get((name, dtype, library), "") for library in LIBRARIES)] for name in names]


def largest_of_rows(rows: list[Record], dtype: str) -> list[list[str]]:
    """Return a row for each function of the softmax family: its name and the largest error of each library."""
    cells = {key(entry): f"{entry['largest']:.3g}" for entry in rows}
    names = [name for name in accuracy_rows.FUNCTIONS if (name, dtype, "jaxact") in cells]
    return [[name, *(cells.get((name, dtype, library), "") for library in LIBRARIES)] for name in names]


def _ulps(errors: Record) -> str:
    text = f"{float(errors['largest']):.3g}".replace("e+0", "e").replace("e+", "e")
    if not errors["nan"]:
        return text
    share = errors["nan"] / errors["inputs"]
    return f"{text}, {share:.0%} NaN" if share >= 0.01 else f"{text}, {errors['nan']:,} NaN"


def show(records: list[Record], rows: list[Record], console: Console) -> None:
    """Print the largest errors, tables for each type."""
    for dtype in DTYPES:
        tables = {order: largest(records, dtype, order) for order in ORDERS} | {"rows": largest_of_rows(rows, dtype)}
        for what, lines in tables.items():
            table = Table("function", title=f"Largest error in ULPs: {dtype}, {what}")
            for library in LIBRARIES:
                table.add_column(library, justify="right")
            for line in lines:
                table.add_row(*line)
            if lines:
                console.print(table)


def write(console: Console) -> None:
    """Make the page and the plots."""
    records, profiles = load()
    PAGE.write_text(page(records, load_rows()))
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

SOFTMAX = """
## The softmax family

Largest error in ULPs of the value on {rows:,} rows of {row:,} normal numbers. jaxact's bounds are {bound:g} in float32,
where the roundings of the sum add up, and those above in the narrow types.
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


def page(records: list[Record], rows: list[Record]) -> str:
    """Return the page of the docs."""
    dates = sorted({entry["date"] for entry in records})
    versions = sorted({f"{name} {version}" for entry in records for name, version in entry["versions"].items()})
    text = INTRODUCTION.format(
        when=f"on {dates[0]}" if len(dates) == 1 else f"between {dates[0]} and {dates[-1]}",
        devices=" and ".join(sorted({entry["device"].upper() for entry in records})),
        versions=", ".join(versions),
        window=WINDOW,
        window_error=f"{WINDOW_ERROR:.0e}".replace("e-0", "e-"),
    )
    text += "".join(f"| {dtype} | {BOUNDS[dtype]['forward']} | {BOUNDS[dtype]['derivative']} |\n" for dtype in DTYPES)
    for dtype in DTYPES:
        for order in ORDERS:
            if lines := largest(records, dtype, order):
                text += f"\n## {dtype}, {order}\n\nLargest error in ULPs.\n\n"
                text += _table(["function", *LIBRARIES], lines)
    if rows:
        text += SOFTMAX.format(rows=accuracy_rows.ROWS, row=accuracy_rows.ROW, bound=accuracy_rows.FLOAT32_BOUND)
        for dtype in DTYPES:
            if lines := largest_of_rows(rows, dtype):
                text += f"\n### {dtype}, softmax family\n\n"
                text += _table(["function", *LIBRARIES], lines)
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
            text += _table(["library", "of", "largest", "at", "mean", "correctly rounded", "NaN", "reversals"], lines)
            text += f"\n![The error of {name} against x]({plot_path(name).relative_to(PAGE.parent)})\n"
    return text


def _largest_sum(rows: list[Record], dtype: str) -> float:
    """Return how far from 1 jaxact's rows sum up at most, in ULPs."""
    return max(entry["sums"] or 0.0 for entry in rows if (entry["library"], entry["dtype"]) == ("jaxact", dtype))


def _details(name: str, errors: Record, order: str) -> list[str]:
    """Return the cells after the library's name."""
    return [
        "value" if order == "forward" else order,
        f"{float(errors['largest']):.5g}",
        "" if errors["at"] is None or not float(errors["largest"]) else f"{errors['at']:.9g}",
        f"{float(errors['mean']):.3g}",
        f"{errors['correctly_rounded']:.2%}",
        f"{errors['nan']:,}",
        f"{errors['reversals']:,}" if CASES[name].monotone and order == "forward" else "",
    ]


def _table(header: list[str], rows: list[list[str]]) -> str:
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
        axes.set_ylabel(f"{'value' if order == 'forward' else order}, ULP")
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

"""How fast jaxact is beside torch and ``jax.nn``: the command that runs ``jaxact bench`` and makes the docs of it.

``python benchmarks/speed.py`` runs ``jaxact bench``, to which it hands its options on, writes what that found to
``benchmarks/results/speed.json``, and makes ``docs/speed.md`` and its plot from it. ``--report`` only makes these.
The measuring is :mod:`jaxact.bench`'s.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import accuracy_report
import accuracy_rows
import typer
from matplotlib.figure import Figure
from reference import BOUNDS, ORDERS

from jaxact.bench.command import ENVIRONMENT
from jaxact.bench.memory import MLP_BATCH, MLP_DEPTH
from jaxact.bench.results import (
    CALL_BOUND,
    CONVERSION_BOUND,
    COPY_BOUND,
    IMPORT_BOUND,
    NOISE,
    PEERS,
    Miss,
    Results,
)
from jaxact.bench.tables import Tables, kernel_tables, measured_and_limit, other_tables
from jaxact.bench.workloads import ROW

ROOT = Path(__file__).parents[1]
DATA = ROOT / "benchmarks" / "results" / "speed.json"
PAGE = ROOT / "docs" / "speed.md"
PLOT = ROOT / "docs" / "_static" / "speed.png"

# What was tried on a function where a bound or the aim is missed, and why it is out of reach, by its name.
_BFLOAT16 = "in bfloat16 the kernel is float32's between two conversions, and does as much work as there"
_TAILS = "its derivative needs x: from y, as `jax.nn` has it in less memory, the tail is lost"
TRIED: dict[str, str] = {
    "threshold": "an eager call hands two numbers to the compiled function, each of which takes JAX half as long as a "
    "jitted `x + 1`",
    "sigmoid": f"{_TAILS}; {_BFLOAT16}",
    "tanh": f"{_TAILS}, and it takes an exponential; a bounded one, without a choice between two sums, is in already",
    "tanhshrink": "a polynomial near 0 and an exponential beyond, where x - tanh(x) is cheap and cancels; with a "
    "derivative of 1 - tanh'(x) the memory is that of `jax.nn`, and the time longer",
    "silu": _BFLOAT16,
    "gelu": f"the tail costs an exponential in two parts and a polynomial of degree 11; {_BFLOAT16}",
    "gelu_tanh": "the tail costs a cubic and an exponential in two parts each; `jax.nn` calls tanh once, and its "
    "derivative is NaN on a quarter of all floats",
    "glu": "the tail of the gate is scaled in three steps, so that a large gated half keeps it",
    "hardswish": f"the sum and the product are in two parts, for two roundings; {_BFLOAT16}",
    "elu": _BFLOAT16,
    "selu": _BFLOAT16,
    "celu": _BFLOAT16,
    "softplus": _BFLOAT16,
    "logsigmoid": _BFLOAT16,
    "softmax": "the exponential takes back the rounding of x - max, in a kernel of its own; within the fused reduction "
    "of `jax.nn` the same arithmetic took longer and was less accurate",
    "softmin": "as softmax",
    "softmax2d": "as softmax",
    "log_softmax": "as softmax, and a pass that counts the ties of the largest, so that a result near 0 keeps its "
    "digits; counting in the pass of the sum was slower",
    "gumbel_softmax": "an eager call draws random numbers, which takes kernels of its own",
    "scaled_dot_product_attention": "an eager call is two matrix products; PyTorch's never stores the scores",
}

INTRODUCTION = """# Speed

jaxact beside PyTorch, `torch.compile` and `jax.nn`. The numbers were made by `make bench` on {date}, on {device}
({cpus} CPUs), with {versions}.

All contenders for one job take turns in one process, in another order each time, up to {rounds} times; the numbers
are medians. Inputs are normal numbers of standard deviation 3, every output is fresh memory, and all threads take part.
Each function runs at its default parameters; softmax and its relatives work on rows of {row:,}. The "floor" is what XLA
needs to compute `x + 1`, with a gradient `x * cotangent` too: no kernel of as much data is much faster. A "ratio" is
the time of jaxact over that of the fastest of those named, or over the floor where that is slower: below 1 jaxact is
the fastest. What `jax.nn` lacks but its user writes in one line (`x - tanh(x)`, say) counts as its own.
Multi-head attention and the adaptive softmax are left out: matrix products are what takes their time.

```{{image}} {plot}
:alt: The time of each function, over the floor
```

These must hold, at the largest size; {noise} is taken to be noise:

- a ratio of at most {noise} to `jax.nn`, and to a peer that is as accurate as jaxact in the sense of the accuracy
  page, which does not judge `torch.compile`. The aim is {noise} to the fastest peer, accurate or not;
- an eager call on 1,024 elements takes at most {call} times a jitted `x + 1`;
- `import jaxact` adds at most {imports:.0%} to `import jax`;
- the gradient of an MLP ({depth} layers, {row} wide, {batch} inputs) needs no more temporary memory than with `jax.nn`;
- converting an aligned array costs at most {conversion:g} microseconds above the framework's own `from_dlpack`;
- on a GPU, at least {copy:.0%} of the bandwidth of a copy.

The process runs under `{environment}`: without, page faults of fresh memory and spinning threads are what is measured.
"""


def accurate_peers() -> dict[tuple[str, str], list[str]]:
    """Return the peers that meet the accuracy bounds, by function and type, as far as the accuracy sweep has run."""
    found: dict[tuple[str, str], list[str]] = {}
    for entry in accuracy_report.load()[0]:
        bounds = BOUNDS[entry["dtype"]]
        if entry["library"] in PEERS and all(
            float(entry[order]["largest"]) <= bounds[order] and not entry[order]["nan"] for order in ORDERS
        ):
            found.setdefault((entry["name"], entry["dtype"]), []).append(entry["library"])
    for entry in accuracy_report.load_rows():
        errors, bound = entry["value"], accuracy_rows.bound(entry["dtype"], "value")
        if entry["library"] in PEERS and errors["largest"] <= bound and not errors["nan"]:
            found.setdefault((entry["name"], entry["dtype"]), []).append(entry["library"])
    return found


def page(results: Results, accurate: Mapping[tuple[str, str], Iterable[str]]) -> str:
    """Return the page of the docs.

    Args:
        results: What was measured.
        accurate: The peers that are as accurate as jaxact, by function and type.
    """
    text = INTRODUCTION.format(
        date=results.date,
        device="a CPU" if results.device == "cpu" else results.device,
        cpus=results.cpus,
        versions=", ".join(f"{name} {version}" for name, version in results.versions.items()),
        rounds=results.rounds,
        row=ROW,
        plot=PLOT.relative_to(PAGE.parent),
        noise=NOISE,
        call=CALL_BOUND,
        imports=IMPORT_BOUND,
        depth=MLP_DEPTH,
        batch=MLP_BATCH,
        conversion=CONVERSION_BOUND,
        copy=COPY_BOUND,
        environment=" ".join(f"{name}={value}" for name, value in ENVIRONMENT.items()),
    )
    misses = results.misses(accurate)
    text += "\n## Bounds that are missed\n\n" + _miss_table([miss for miss in misses if not miss.aim])
    text += "\n## Aims that are missed\n\n" + _miss_table([miss for miss in misses if miss.aim])
    reasons = [f"- `{name}`: {TRIED[name]}.\n" for name in dict.fromkeys(m.subject for m in misses) if name in TRIED]
    if reasons:
        text += "\n## Why, and what was tried\n\n" + "".join(reasons)
    return text + _sections(kernel_tables(results) + other_tables(results))


def _miss_table(misses: list[Miss]) -> str:
    if not misses:
        return "None.\n"
    rows = [[miss.subject, miss.what, *measured_and_limit(miss)] for miss in misses]
    return _table(["of", "what", "measured", "should be"], rows, text=2)


def _sections(tables: Tables) -> str:
    return "".join(f"\n## {title}\n\n{_table(header, rows)}" for title, header, rows in tables)


def _table(header: Sequence[str], rows: list[list[str]], text: int = 1) -> str:
    """Return a table of Markdown, whose columns but the first few are numbers."""
    lines = [header, ["---"] * text + ["---:"] * (len(header) - text), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def plot(results: Results) -> Figure:
    """Return the plot: at the largest size, times over the floor, a panel for each type and what is computed."""
    kernels = results.largest()
    panels = list(dict.fromkeys((k.dtype, k.computes) for k in kernels))
    names = list(dict.fromkeys(k.function for k in kernels))
    figure = Figure(figsize=(4 * len(panels), 2 + 0.2 * len(names)), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, panel in zip(axes, panels, strict=True):
        shown = [k for k in kernels if (k.dtype, k.computes) == panel]
        for name, marker in {"torch": "x", "torch.compile": "+", "jax.nn": "o", "jaxact": "D"}.items():
            points = [
                (k.milliseconds[name] / k.milliseconds["floor"], k.function) for k in shown if name in k.milliseconds
            ]
            if points:
                ratios, functions = zip(*points, strict=True)
                axis.plot(ratios, [names.index(f) for f in functions], marker, label=name, alpha=0.8)
        axis.axvline(1, color="gray", linewidth=0.8)
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.set(xlabel="time over the floor", title=", ".join(panel))
        axis.set_yticks(range(len(names)), names)
        axis.grid(axis="y", alpha=0.3)
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def write() -> None:
    """Make the page and the plot from the data."""
    results = Results.from_json(json.loads(DATA.read_text()))
    PAGE.write_text(page(results, accurate_peers()))
    PLOT.parent.mkdir(exist_ok=True)
    plot(results).savefig(PLOT, dpi=80)
    typer.echo(f"wrote {PAGE.relative_to(ROOT)} and {PLOT.relative_to(ROOT)}")


def main(
    context: typer.Context,
    only_report: Annotated[bool, typer.Option("--report", help="Make the page and the plot from the data.")] = False,
) -> None:
    """Measure with jaxact bench, whose options are taken, and write the data, the page and the plot."""
    if not only_report:
        # A process of its own: what it measures should find no other library's threads.
        command = [sys.executable, "-m", "jaxact.bench", "--output", str(DATA), *context.args]
        if status := subprocess.run(command).returncode:
            raise typer.Exit(status)
    write()


app = typer.Typer(add_completion=False)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(main)

if __name__ == "__main__":
    app()

"""Reports as a page: one file that asks nothing of the network, for a phone or a wide screen, light or dark."""

from os import PathLike
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from jaxact.divergences import remarks

from .catalog_calls import KINDS, calls
from .catalog_check import CatalogCheck
from .curves import curve, svg
from .report import Report

PAGES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def write_html(report: Report | CatalogCheck, path: str | PathLike[str]) -> None:
    """Write a report as a page.

    Args:
        report: What :func:`jaxact.interop.compare` returned, or what ``jaxact check`` found.
        path: The file to write.

    Raises:
        OSError: If it cannot be written.

    Example:
        >>> import jaxact, jax, torch, tempfile
        >>> from jaxact.interop import compare
        >>> from jaxact.interop.crosscheck.html import write_html
        >>> report = compare(jaxact.silu, torch.nn.functional.silu, jax.ShapeDtypeStruct((8,), "float32"))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_html(report, f"{folder}/silu.html")
    """
    Path(path).write_text(to_html(report), encoding="utf-8")


def to_html(report: Report | CatalogCheck) -> str:
    """Return a report as a page.

    Args:
        report: What :func:`jaxact.interop.compare` returned, or what ``jaxact check`` found.

    Returns:
        The text of the page.

    Example:
        >>> from jaxact.interop.crosscheck.html import to_html
        >>> from jaxact.interop.crosscheck.report import Report
        >>> "not compared" in to_html(Report((), refusals=("no input",)))
        True
    """
    if isinstance(report, Report):
        return PAGES.get_template("compare.html").render(report=report)
    plots = _plots(report)
    said = {row.function: remarks(row.function) for row in report.functions}
    return PAGES.get_template("check.html").render(check=report, plots=plots, remarks=said, kinds=KINDS)


def _plots(check: CatalogCheck) -> dict[str, Markup]:
    """Return the plots by name; they are made here, so that nothing in them is to be escaped."""
    named = {row.name for row in check.functions}
    functions = tuple(dict.fromkeys(row.function for row in check.functions))
    drawn = {call.name: curve(call) for call in calls(functions) if call.name in named}
    return {name: Markup(svg(found, name)) for name, found in drawn.items() if found is not None}


def _number(x: float) -> str:
    return f"{x:.3g}"


PAGES.filters["number"] = _number
PAGES.filters["numbers"] = lambda numbers: ", ".join(f"{x:.6g}" for x in numbers)
PAGES.filters["shape"] = lambda shape: "x".join(map(str, shape)) or "scalar"
PAGES.filters["anchor"] = lambda name: "".join(c if c.isalnum() else "-" for c in name)

"""The curve of an activation, its derivative, and how far jaxact and torch are from the exact values, for a plot."""

import dataclasses
import io
import re
from typing import Any

import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .catalog_calls import SIZE, Call
from .jax_side import inexact_places, jax_side
from .torch_side import TorchSide

RANGE = 8.0
SAMPLES = 4  # runs that tell how exact torch's float64 is
BINS = 128  # of the plot of errors, each with its largest
# What stands for a colour of the page while the plot is made.
_COLOURS = {"#01fe01": "var(--jaxact)", "#01fe02": "var(--torch)", "#01fe03": "currentColor", "#01fe04": "var(--line)"}
_JAXACT, _TORCH, _INK, _LINE = _COLOURS


@dataclasses.dataclass(frozen=True)
class Curve:
    """A function of one number.

    Attributes:
        x: The numbers.
        values: What torch gives for them in float64.
        derivatives: The derivatives, of the same.
        errors: Of jaxact's and torch's values, then of their derivatives, in float32, in units in the last place; NaN
            where torch's float64 does not tell.
    """

    x: np.ndarray[Any, Any]
    values: np.ndarray[Any, Any]
    derivatives: np.ndarray[Any, Any]
    errors: tuple[np.ndarray[Any, Any], ...]


def curve(call: Call) -> Curve | None:
    """Return the curve of a function, at the other numbers of a row 0 and at the other half of glu 1.

    Args:
        call: The function.

    Returns:
        The curve, or None of what draws at random or is made of several arrays.
    """
    layout = _layout(call)
    if layout is None:
        return None
    x, inputs, out = layout
    theirs, ours = TorchSide(call.torch, inputs), jax_side(call.jax, inputs)
    cotangent = {"": out.astype(np.float32)}
    exact, native = (theirs.run(cotangent, wrt=[0], exact=exact) for exact in (True, False))
    eps = float(np.finfo(np.float64).eps)
    moved = [theirs.disturbed(cotangent, wrt=[0], eps=eps, seed=seed) for seed in range(SAMPLES)]
    gradient = ours.gradients(cotangent, inexact_places(inputs)[:1], ())[0]
    values, *errors = _held(out, ours.outputs()[""], *(run.outputs[""] for run in (native, exact, *moved)))
    place = _input_places(call, inputs[0])
    derivatives, *more = _held(place, gradient, *(run.gradients[0] for run in (native, exact, *moved)))
    return Curve(x, values, derivatives, (*errors, *more))


def _held(place: np.ndarray[Any, Any], *arrays: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """Return the exact values, and the errors of jaxact and torch where the exact values are known to half an ULP."""
    port, torchs, exact, *moved = (np.asarray(y[place], np.float64) for y in arrays)
    unknown = np.max([_ulps(y, exact) for y in moved], axis=0) > 0.5
    return [exact, *(np.where(unknown, np.nan, _ulps(y, exact)) for y in (port, torchs))]


def _layout(call: Call) -> tuple[np.ndarray[Any, Any], list[Any], np.ndarray[Any, Any]] | None:
    """Return the numbers, the arrays that hold them, and where in the result their values are."""
    inputs = call.inputs("random", "float32", SIZE, 0)
    if call.row.name == "gumbel_softmax" or call.row.inputs > 1 or (len(inputs) > 1 and call.row.name != "prelu"):
        return None
    place = _input_places(call, inputs[0])
    x = np.linspace(-RANGE, RANGE, int(place.sum()), dtype=np.float32)
    filled = np.full(inputs[0].shape, 1.0 if call.row.name == "glu" else 0.0, np.float32)
    filled[place] = x
    out = np.ones((*filled.shape[:-1], filled.shape[-1] // 2), bool) if call.row.name == "glu" else place
    return x, [filled, *inputs[1:]], out


def _input_places(call: Call, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    place = np.zeros(array.shape, bool)
    if call.row.name == "glu":
        place[..., array.shape[-1] // 2 :] = True
    elif call.row.name == "softmax2d":
        place[:, 0] = True
    elif call.row.family == "normalizing":
        place[..., 0] = True
    else:
        place[:] = True
    return place


def _ulps(y: np.ndarray[Any, Any], exact: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    least = float(jnp.finfo(np.float32).tiny)
    spacing = np.spacing(np.maximum(np.abs(exact), least).astype(np.float32)).astype(np.float64)
    return np.abs(y - exact) / spacing


def svg(drawn: Curve, name: str) -> str:
    """Return the plot as SVG in the colours of the page.

    Args:
        drawn: The curve.
        name: The function's name, which sets the plot's identifiers apart from others'.
    """
    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "font.family": "sans-serif",
        "font.size": 8.5,
    }
    style |= dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), _INK)
    with matplotlib.rc_context({**style, "axes.edgecolor": _LINE, "axes.facecolor": "none"}):
        figure = Figure(figsize=(4.2, 4.8), layout="constrained", facecolor="none")
        top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=(2, 1, 1))
        top.plot(*_thinned(drawn.x, drawn.values), color=_INK, linewidth=1.6)
        top.plot(*_thinned(drawn.x, drawn.derivatives), color=_INK, linewidth=1.2, linestyle=(0, (4, 2)))
        top.set_ylabel("value, derivative")
        _errors(middle, "value off, ULP", *drawn.errors[:2])
        _errors(bottom, "derivative off, ULP", *drawn.errors[2:])
        for axes in (top, middle, bottom):
            axes.grid(color=_LINE, linewidth=0.4)
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_xlim(-RANGE, RANGE)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return _inlined(buffer.getvalue(), name)


def _thinned(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    step = max(1, x.size // 400)
    return x[::step], y[::step]


def _errors(axes: Axes, label: str, ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]) -> None:
    for errors, colour in ((theirs, _TORCH), (ours, _JAXACT)):
        largest = np.fmax.reduce(errors[: errors.size // BINS * BINS].reshape(BINS, -1), axis=1)
        axes.plot(np.linspace(-RANGE, RANGE, BINS), largest, color=colour, linewidth=1.4)
    top = float(np.nanmax([*ours, *theirs, 1.0]))
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(0, 10 ** np.ceil(np.log10(top * 1.2)))
    powers = 10.0 ** np.arange(0, np.ceil(np.log10(top * 1.2)) + 1)
    shown = powers if len(powers) < 5 else powers[:: int(np.ceil(len(powers) / 4))]
    axes.set_yticks([0, *shown], ["0" if len(powers) < 6 else "", *(f"{p:g}" for p in shown)])
    axes.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.set_ylabel(label)


def _inlined(text: str, name: str) -> str:
    """Return the svg element alone, without a size of its own, in the colours of the page."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    head, rest = text.split(">", 1)
    head = re.sub(r' (width|height|version|xmlns(:\w+)?)="[^"]*"', "", head)
    text = f'{head} role="img" aria-label="{name}">{rest}'.replace("xlink:href", "href")
    for stand_in, colour in _COLOURS.items():
        text = text.replace(stand_in, colour)
    salt = re.sub(r"\W+", "-", name)
    text = re.sub(r' id="([^"]+)"', rf' id="{salt}-\1"', text)
    return re.sub(r'(href="#|url\(#)', rf"\1{salt}-", text)

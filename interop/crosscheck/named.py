"""``jaxact compare``: the two functions by the names they are imported by, and inputs by their shapes."""

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import torch

from .comparing import compare
from .report import Report
from .usage import UsageError


def compare_named(
    jax_name: str,
    torch_name: str,
    shapes: Sequence[str],
    dtypes: Sequence[str] = (),
    *,
    gradient: bool = True,
    seed: int = 0,
) -> Report:
    """Import a JAX callable and a torch callable, and compare them on drawn inputs.

    Args:
        jax_name: The port, as ``"package.module:name"``; modules of the current directory are found too.
        torch_name: The torch function or module, in the same way.
        shapes: The shape of each input, as ``"2,16"``, or ``""`` for a scalar.
        dtypes: One dtype for each input, or one for all; float32 where there is none.
        gradient: Whether to compare gradients.
        seed: For what is drawn.

    Returns:
        The report.

    Raises:
        UsageError: If one of the two cannot be imported or called, or a shape or dtype is none.

    Example:
        >>> from jaxact.interop.crosscheck.named import compare_named
        >>> compare_named("jaxact:silu", "torch.nn.functional:silu", ["2,16"]).passed
        True
    """
    inputs = _inputs(shapes, dtypes)
    sides = [_loaded(jax_name, len(inputs)), _loaded(torch_name, len(inputs))]
    if isinstance(sides[0], torch.nn.Module):
        raise UsageError(f"{jax_name} is a torch module; the JAX function comes first, torch's second")
    try:
        return compare(*sides, *inputs, gradient=gradient, seed=seed)
    except Exception as error:  # of any kind: what the user's functions raise
        raise UsageError(f"{_last_line(error)}{_place(error)}") from error


def _inputs(shapes: Sequence[str], dtypes: Sequence[str]) -> list[jax.ShapeDtypeStruct]:
    if not shapes:
        raise UsageError("there is no input: give the shape of each by --shape, as --shape 2,16")
    if len(dtypes) > 1 and len(dtypes) != len(shapes):
        raise UsageError(f"there are {len(shapes)} shapes and {len(dtypes)} dtypes: give one for all, or one for each")
    chosen = list(dtypes or ["float32"])
    chosen = chosen * len(shapes) if len(chosen) == 1 else chosen
    return [jax.ShapeDtypeStruct(_shape(s), _dtype(d)) for s, d in zip(shapes, chosen, strict=True)]


def _shape(text: str) -> tuple[int, ...]:
    parts = [part for part in text.replace("x", ",").split(",") if part.strip()]
    if not all(part.strip().isdecimal() for part in parts):
        raise UsageError(f"{text!r} is no shape; write it as 2,16")
    return tuple(map(int, parts))


def _dtype(text: str) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = np.dtype(jax.numpy.dtype(text))
    except TypeError:
        raise UsageError(
            f"there is no dtype {text!r}; there are float32, bfloat16, float16, int32 and others"
        ) from None
    if dtype.kind not in "biufcV" or dtype.names is not None or dtype.itemsize == 0:
        raise UsageError(f"inputs of {text} cannot be drawn")
    return dtype


def _loaded(name: str, count: int) -> Callable[..., Any]:
    """Return what a name stands for, if it can be called with so many arrays."""
    module_name, colon, path = name.partition(":")
    if not (module_name and colon and path):
        raise UsageError(f"{name!r} is no name of the form MODULE:NAME, as model:apply")
    found = _imported(module_name)
    for part in path.split("."):
        if not hasattr(found, part):
            raise UsageError(f"{module_name} has no {path}{_near(part, found)}")
        found = getattr(found, part)
    if isinstance(found, type):
        raise UsageError(f"{name} is a class, which is not called to make one: name an object of it")
    if not callable(found):
        raise UsageError(f"{name} is no function or module but of type {type(found).__name__}")
    if inspect.isfunction(found) or inspect.ismethod(found):
        try:
            inspect.signature(found).bind(*[None] * count)
        except TypeError as error:
            hint = "" if inspect.signature(found).parameters else "; what makes a model is not called: name the model"
            inputs = f"{count} input{'s' * (count != 1)}"
            raise UsageError(f"{name} cannot be called with {inputs}: {error}{hint}") from None
    return found


def _imported(name: str) -> Any:
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise UsageError(f"there is no module {name}, here or installed") from None
        raise UsageError(f"{name} cannot be imported: {error}") from error
    except (Exception, SystemExit) as error:  # of any kind: the module is run
        raise UsageError(f"{name} cannot be imported: {_last_line(error)}{_place(error)}") from error


def _near(part: str, found: Any) -> str:
    import difflib

    near = difflib.get_close_matches(part, [name for name in dir(found) if not name.startswith("_")], 3)
    return f"; it has {', '.join(near)}" if near else ""


def _last_line(error: BaseException) -> str:
    text = str(error).strip().split("\n")[0]
    if text.startswith("compare: "):
        return text.removeprefix("compare: ")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _place(error: BaseException) -> str:
    """Return the user's line that an error comes from: the innermost outside of what is installed."""
    here = os.getcwd()
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(here + os.sep)]
    frames = [
        f for f in frames if "site-packages" not in f.filename and f"{os.sep}crosscheck{os.sep}" not in f.filename
    ]
    return f" ({os.path.relpath(frames[-1].filename, here)}:{frames[-1].lineno})" if frames else ""

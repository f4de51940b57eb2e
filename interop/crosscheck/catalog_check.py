"""``jaxact check``: the documented samples, every function of the catalog, and what differs from torch on purpose."""

import concurrent.futures
import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from jaxact import __version__
from jaxact.catalog import BY_NAME, SAMPLES, Sample
from jaxact.divergences import DIVERGENCES, Divergence
from jaxact.interop import parity
from jaxact.interop._to_numpy import to_numpy
from jaxact.interop._to_torch import to_torch
from jaxact.interop.counterparts import counterpart
from jaxact.interop.ulps import ulp_distance

from .catalog_calls import DTYPES, KINDS, SIZE, VARIANTS, Call, calls
from .comparing import compare
from .inputs import cotangents, is_inexact
from .jax_side import inexact_places, jax_side, named_arrays
from .report import Report, plain
from .usage import UsageError

VERDICTS = ("equal", "nearer than torch", "within rounding", "differs", "not compared")  # the best first
THREADS = 2  # that compile


@dataclasses.dataclass(frozen=True)
class Trial:
    """A function compared with torch at inputs of one kind and dtype.

    Attributes:
        dtype: The dtype of the inputs.
        kind: "random", "kink" or "extreme".
        report: The report.
    """

    dtype: str
    kind: str
    report: Report

    @property
    def verdict(self) -> str:
        """The worst verdict of its arrays."""
        if not self.report.passed:
            return "not compared" if self.report.refusals else "differs"
        return max((row.verdict for row in self.report.rows), key=VERDICTS.index)

    @property
    def ratio(self) -> float:
        """The largest of their errors over torch's own."""
        return max((row.ratio for row in self.report.rows), default=0.0)


@dataclasses.dataclass(frozen=True)
class Documented:
    """A documented divergence, looked at with the torch that is installed.

    Attributes:
        divergence: The row of the list.
        dtype: The dtype of the inputs; what is infinite is looked at in each.
        jaxact: What jaxact gives, where it gives anything.
        torch: What torch gives.
        status: "as documented", "torch is right here" (of another release, or of other hardware) or "differs", if
            jaxact's result is not the exact one.
    """

    divergence: Divergence
    dtype: str
    jaxact: tuple[float, ...]
    torch: tuple[float, ...]
    status: str

    @property
    def passed(self) -> bool:
        """Whether jaxact gives the exact result."""
        return self.status != "differs"


@dataclasses.dataclass(frozen=True)
class Checked:
    """What came of one function at its parameters.

    Attributes:
        function: The function's name.
        name: The same, with the parameters that set it apart from another row of the function.
        parameters: The parameters that it was called with.
        trials: What it was compared at.
        documented: Its documented divergences.
    """

    function: str
    name: str
    parameters: Mapping[str, Any]
    trials: tuple[Trial, ...]
    documented: tuple[Documented, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing differs but what is documented."""
        return all(trial.report.passed for trial in self.trials) and all(row.passed for row in self.documented)

    def on_purpose(self) -> list[Documented]:
        """Return one for each documented divergence: what is not as documented, or else what comes first."""
        together: dict[tuple[Any, ...], list[Documented]] = {}
        for part in self.documented:  # the dtypes of an input
            row = part.divergence
            together.setdefault((row.of, row.at, row.dtype), []).append(part)
        return [min(parts, key=lambda part: part.status == "as documented") for parts in together.values()]

    def verdict(self, dtype: str) -> str:
        """Return the worst verdict of a dtype."""
        return max((trial.verdict for trial in self.trials if trial.dtype == dtype), key=VERDICTS.index)

    def ratio(self, dtype: str) -> float:
        """Return the largest of the errors over torch's own."""
        return max(trial.ratio for trial in self.trials if trial.dtype == dtype)


@dataclasses.dataclass(frozen=True)
class CatalogCheck:
    """What came of ``jaxact check``.

    Attributes:
        samples: The documented samples.
        functions: The functions.
        dtypes: The dtypes that were compared.
        size: About how many elements an input had.
        seed: For what was drawn.
        versions: The releases of jaxact, JAX and torch.
    """

    samples: tuple[parity.Outcome, ...]
    functions: tuple[Checked, ...]
    dtypes: tuple[str, ...]
    size: int
    seed: int
    versions: Mapping[str, str]

    @property
    def passed(self) -> bool:
        """Whether nothing differs but what is documented."""
        return all(row.passed for row in self.samples) and all(row.passed for row in self.functions)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it, by the schema in the documentation; a number that is not finite is a string."""
        kept = {key: getattr(self, key) for key in ("passed", "versions", "dtypes", "size", "seed")}
        samples = [_sample_record(outcome) for outcome in self.samples]
        record: dict[str, Any] = plain({**kept, "samples": samples, "functions": [*map(_record, self.functions)]})
        return record


def check_catalog(
    names: Sequence[str] = (),
    dtypes: Sequence[str] = DTYPES,
    *,
    size: int = SIZE,
    seed: int = 0,
    step: Callable[[str], None] | None = None,
) -> CatalogCheck:
    """Compare functions of the catalog with torch, by the judge of :func:`jaxact.interop.compare`.

    Args:
        names: The functions, by name; all if none is named.
        dtypes: Of "float32", "bfloat16" and "float16".
        size: About how many elements an input has.
        seed: For what is drawn.
        step: Called before each of the steps, of which there are :func:`steps`, with what is next.

    Returns:
        What came of it.

    Raises:
        UsageError: If there is no such function or dtype, or the size is less than 16.

    Example:
        >>> from jaxact.interop.crosscheck.catalog_check import check_catalog
        >>> check_catalog(["relu"], ["float32"], size=64).passed
        True
    """
    if unknown := [dtype for dtype in dtypes if dtype not in DTYPES]:
        raise UsageError(f"there is no dtype {', '.join(unknown)}; there are {', '.join(DTYPES)}")
    if size < 16:
        raise UsageError(f"size must be at least 16, got {size}")
    chosen = list(calls(tuple(names)))
    say = step or (lambda _: None)
    samples = []
    for sample in _samples(names, dtypes):
        say(f"sample of {sample.function}")
        samples.append(parity.check(sample))
    with _compiled_ahead(chosen, dtypes, size, seed) as compiled:
        functions = tuple(_checked(call, dtypes, size, seed, say, compiled) for call in chosen)
    versions = {"jaxact": __version__, "jax": jax.__version__, "torch": version("torch")}
    return CatalogCheck(tuple(samples), functions, tuple(dtypes), size, seed, versions)


def steps(names: Sequence[str] = (), dtypes: Sequence[str] = DTYPES) -> int:
    """Return how many steps :func:`check_catalog` takes."""
    return len(_samples(names, dtypes)) + len(list(calls(tuple(names)))) * len(dtypes) * len(KINDS)


def _samples(names: Sequence[str], dtypes: Sequence[str]) -> list[Sample]:
    return [sample for sample in SAMPLES if "float32" in dtypes and (not names or sample.function in names)]


Compiled = Mapping[tuple[str, str], concurrent.futures.Future[None]]


def _checked(
    call: Call, dtypes: Sequence[str], size: int, seed: int, say: Callable[[str], None], compiled: Compiled
) -> Checked:
    rows = _divergences(call)
    # What differs on purpose is looked at by itself, below.
    leave_out = tuple(at for row in rows for at in row.at if row.dtype == "float32")
    trials = []
    for dtype in dtypes:
        for kind in KINDS:
            say(f"{call.name} {dtype} {kind}")
            compiled[call.name, dtype].exception()  # waits; what is wrong is raised again below
            inputs = call.inputs(kind, dtype, size, seed, leave_out=leave_out)
            with np.errstate(all="ignore"):
                trials.append(Trial(dtype, kind, compare(call.jax, call.torch, *inputs, seed=seed)))
    documented = [documented_here(row, dtype, size) for row in rows for dtype in _dtypes(row, dtypes)]
    return Checked(call.row.name, call.name, dict(call.parameters), tuple(trials), tuple(documented))


def _divergences(call: Call) -> list[Divergence]:
    """Return the documented divergences of a call; those of its parameters where a function has several calls."""
    rows = [row for row in DIVERGENCES if row.function == call.row.name]
    return [row for row in rows if call.row.name not in VARIANTS or row.parameters == call.parameters]


def _dtypes(row: Divergence, dtypes: Sequence[str]) -> list[str]:
    if row.dtype != "float32":
        return [row.dtype]
    return [dtype for dtype in dtypes if dtype == "float32" or not np.isfinite(row.at).any()]


def documented_here(divergence: Divergence, dtype: str, size: int = 1) -> Documented:
    """Return what the two libraries give at a documented divergence.

    Args:
        divergence: The divergence.
        dtype: The dtype of the inputs.
        size: How often to repeat an input that stands alone: a function is compiled for a size.
    """
    row = BY_NAME[divergence.function]
    parameters = dict(divergence.parameters)
    in_torchs = parameters | {key: getattr(torch, str(parameters[key])) for key in parameters if key == "dtype"}
    x = np.asarray(divergence.at).astype(jnp.dtype(dtype))
    x = np.repeat(x, size) if x.size == 1 else x

    def theirs_at(tensor: torch.Tensor) -> torch.Tensor:
        y = counterpart(row, in_torchs, tensor)(tensor)
        return torch.autograd.grad(y.sum(), tensor)[0] if divergence.of == "derivative" else y

    function: Callable[..., Any] = functools.partial(row.function, **parameters)
    if divergence.of == "derivative":
        function = jax.grad(lambda x: row.function(x, **parameters).sum())
    theirs = to_numpy(theirs_at(to_torch(x, copy=True).requires_grad_(divergence.of == "derivative")))
    try:
        ours = to_numpy(function(x))
    except OverflowError:  # the exact result is none that an integer can hold
        ours = np.array([])
    exact = np.resize(divergence.exact, x.shape)
    ulps = parity.EXACT_ULPS["gradient" if divergence.of == "derivative" else "output"]
    if ours.size and not _is_exact(ours, exact, ulps):
        status = "differs"
    else:
        status = "torch is right here" if _is_exact(theirs, exact, ulps) else "as documented"
    shown_ours, shown_theirs = (tuple(y[: len(divergence.at)].astype(np.float64).tolist()) for y in (ours, theirs))
    return Documented(divergence, dtype, shown_ours, shown_theirs, status)


def _is_exact(y: np.ndarray, exact: np.ndarray, ulps: int) -> bool:
    if y.dtype.kind in "iu":
        return bool((y == exact).all())
    return bool((ulp_distance(y, exact.astype(y.dtype)) <= ulps).all())


@contextlib.contextmanager
def _compiled_ahead(chosen: list[Call], dtypes: Sequence[str], size: int, seed: int) -> Iterator[Compiled]:
    """Run JAX's side of each call on other threads, so that it is compiled when its turn comes: half of the work."""
    pool = concurrent.futures.ThreadPoolExecutor(THREADS)
    try:
        yield {
            (call.name, dtype): pool.submit(_run, call, call.inputs("random", dtype, size, seed))
            for call in chosen
            for dtype in dtypes
        }
    finally:
        pool.shutdown(cancel_futures=True)


def _run(call: Call, inputs: list[Any]) -> None:
    side = jax_side(call.jax, inputs)
    outputs = {name: to_numpy(y) for name, y in named_arrays(side.function(side.parameters, *side.inputs))}
    given = {name: c for name, c in cotangents(outputs, 0).items() if is_inexact(outputs[name])}
    side.gradients(given, inexact_places(inputs), ())


def _record(checked: Checked) -> dict[str, Any]:
    return {
        "function": checked.function,
        "name": checked.name,
        "parameters": checked.parameters,
        "passed": checked.passed,
        "trials": [{"dtype": trial.dtype, "kind": trial.kind, **trial.report.to_dict()} for trial in checked.trials],
        "documented": [
            {
                **dataclasses.asdict(row.divergence),
                "dtype": row.dtype,
                "jaxact_here": row.jaxact,
                "torch_here": row.torch,
                "status": row.status,
            }
            for row in checked.documented
        ],
    }


def _sample_record(outcome: parity.Outcome) -> dict[str, Any]:
    def record(comparison: parity.Comparison) -> dict[str, Any]:
        return {
            "jaxact": comparison.jaxact.tolist(),
            "torch": comparison.torch.tolist(),
            "ulps": comparison.ulps,
            "verdict": comparison.verdict,
        }

    return {
        "function": outcome.sample.function,
        "parameters": outcome.sample.parameters,
        "input": outcome.sample.input,
        "documented": outcome.sample.output,
        "prints_as_documented": outcome.documented,
        "output": record(outcome.output),
        "gradient": None if outcome.gradient is None else record(outcome.gradient),
        "passed": outcome.passed,
    }


def failures(check: CatalogCheck) -> Iterator[tuple[str, str]]:
    """Yield what differs and is not documented: what it is, and how."""
    for checked in check.functions:
        for trial in checked.trials:
            if not trial.report.passed:
                yield f"{checked.name}, {trial.dtype}, {trial.kind} inputs", str(trial.report)
        for row in filter(lambda row: not row.passed, checked.documented):
            numbers = (row.divergence.at, row.jaxact, row.divergence.exact)
            at, ours, exact = (", ".join(f"{x:.9g}" for x in part) for part in numbers)
            yield f"{checked.name}, {row.dtype}, {row.divergence.of} at {at}", f"{ours}, exactly {exact}"

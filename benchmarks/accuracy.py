"""How far jaxact, torch and jax.nn are from the true value, for every float there is.

``python benchmarks/accuracy.py`` runs every bfloat16, every float16 and every float32 through each activation
and its derivative, in chunks. Finished chunks are kept in ``.accuracy_cache``, from where an interrupted sweep
goes on; one whose library or compiled program has changed since is done again. It writes the figures to
``benchmarks/results/accuracy.json`` and what to plot to ``accuracy.npz`` beside it, makes ``docs/accuracy.md``
and its plots from these, and exits with 1 if jaxact is outside a bound. ``--stride`` takes one float32 in so
many, at random, and only prints. ``--report`` only makes the page and the plots.
"""

import datetime
import functools
import hashlib
import inspect
import json
import math
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import accuracy_report as report
import accuracy_rows
import jax
import jax.numpy as jnp
import numpy as np
import torch
import typer
from accuracy_report import BINS, DTYPES, LIBRARIES
from reference import CASES, ORDERS, WINDOW_ERROR, Case, is_kept, is_normal, ulp
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import jaxact
from jaxact.interop import to_numpy, to_torch
from jaxact.interop.speed import JAX_NN

ROOT = Path(__file__).parents[1]
PARTIAL = ROOT / ".accuracy_cache"

# A chunk is what one task does and one line of a partial file holds; a block is what is in the cache at once.
CHUNK = 2**24
BLOCK = 2**16

Floats = np.ndarray[Any, Any]
Results = dict[str, Floats]


# Running the libraries


def has(library: str, case: Case) -> bool:
    """Say whether a library has the function of a case: jax.nn lacks some."""
    return library != "jax.nn" or case.function in JAX_NN


@functools.cache
def runner(library: str, name: str) -> Callable[[Floats], Results]:
    """Return the function that gives a library's value and derivative at a NumPy array.

    Args:
        library: One of LIBRARIES.
        name: One of CASES.
    """
    case = CASES[name]
    if library == "torch":
        return functools.partial(_run_torch, getattr(torch.nn.functional, case.function), case)
    return functools.partial(_run_jax, compiled(library, name))


@functools.cache
def compiled(library: str, name: str) -> dict[str, Any]:
    """Return the jitted functions that give the value and the derivative in jaxact or jax.nn."""
    case = CASES[name]
    functions = JAX_NN if library == "jax.nn" else vars(jaxact)
    function = functools.partial(functions[case.function], **case.parameters)

    def derivative(x: jax.Array) -> jax.Array:
        y, pull_back = jax.vjp(function, x)
        return pull_back(jnp.ones_like(y))[0]

    return {"forward": jax.jit(function), "derivative": jax.jit(derivative)}


def _run_jax(functions: dict[str, Any], x: Any) -> Results:
    return {order: np.asarray(function(x)) for order, function in functions.items()}


def _run_torch(function: Callable[..., torch.Tensor], case: Case, x: Any) -> Results:
    tensor = to_torch(x, copy=True).requires_grad_()
    y = function(tensor, **case.parameters)
    (dx,) = torch.autograd.grad(y, tensor, torch.ones_like(y))
    return {"forward": to_numpy(y), "derivative": to_numpy(dx)}


# Measuring


@dataclass
class Errors:
    """The errors of one library on some inputs, of the value or of the derivative.

    Attributes:
        inputs: How many inputs there were, without NaN.
        counted: At how many the bounds apply, the exact result being a normal number, and the one given is not NaN;
            the next four are about these.
        largest: The largest error in ULPs.
        at: Where that is.
        total: The sum of the errors in ULPs.
        right: How many results are the correctly rounded ones.
        nan: How many results are NaN where the exact one is not.
        reversals: How often a value falls, from one input to the next, where the function is monotone.
        subnormal: The largest error where the exact result is 0 or subnormal, in units of the smallest normal number.
        window: The largest absolute error, of those that are forgiven, around the derivative's zero.
        profile: The largest error in ULPs in each of BINS parts of the bit patterns, infinite where one is NaN.
    """

    inputs: int = 0
    counted: int = 0
    largest: float = 0.0
    at: float | None = None
    total: float = 0.0
    right: int = 0
    nan: int = 0
    reversals: int = 0
    subnormal: float = 0.0
    window: float = 0.0
    profile: dict[int, float] = field(default_factory=dict)

    def add(self, other: "Errors") -> None:
        """Take in the errors on other inputs."""
        if other.largest > self.largest:
            self.largest, self.at = other.largest, other.at
        for count in ("inputs", "counted", "total", "right", "nan", "reversals"):
            setattr(self, count, getattr(self, count) + getattr(other, count))
        self.subnormal = max(self.subnormal, other.subnormal)
        self.window = max(self.window, other.window)
        for key, largest in other.profile.items():
            self.profile[key] = max(largest, self.profile.get(key, 0.0))


class Truth:
    """The exact results of a case at a block of inputs, and how far from them the results of a library are.

    Args:
        case: The case.
        order: One of ORDERS.
        x: The inputs, of the type to judge; ascending or descending, if monotonicity is to be judged.
        exact: The exact results, in float64.
        bins: The bin of each input, ascending.
    """

    def __init__(self, case: Case, order: str, x: Floats, exact: Floats, bins: Floats) -> None:
        wide = x.astype(np.float64)
        self.x, self.exact = x, exact
        kept = is_kept(wide, x.dtype)
        self.known = ~np.isnan(x)
        self.inputs = int(np.count_nonzero(self.known))
        self.counted = kept & is_normal(exact, x.dtype)
        self.tiny = float(jnp.finfo(x.dtype).smallest_normal)
        self.subnormal = kept & (np.abs(exact) < self.tiny)
        self.in_window = case.in_window(order, wide)
        self.ulps = 1 / ulp(exact, x.dtype)
        self.rounded = exact.astype(x.dtype)
        self.direction = np.sign(wide[-1] - wide[0]) if case.monotone and order == "forward" else 0
        self.bins, self.starts = np.unique(bins, return_index=True)

    def errors(self, y: Floats) -> Errors:
        """Return the errors of the results ``y``."""
        nan = np.isnan(y) & self.known
        error = np.abs(y.astype(np.float64) - self.exact)
        if nan.any():
            error[nan] = 0
        counted = self.counted & ~nan
        forgiven = 0.0
        if self.in_window.any():
            small = self.in_window & (error <= WINDOW_ERROR)
            counted &= ~small
            forgiven = error[small].max(initial=0)
        ulps = np.where(counted, error * self.ulps, 0)
        worst = ulps.argmax()
        profile = np.maximum.reduceat(np.where(nan, np.inf, ulps) if nan.any() else ulps, self.starts)
        return Errors(
            inputs=self.inputs,
            counted=int(np.count_nonzero(counted)),
            largest=float(ulps[worst]),
            at=float(self.x[worst]),
            total=float(ulps.sum()),
            right=int(np.count_nonzero(counted & (y == self.rounded))),
            nan=int(np.count_nonzero(nan)),
            reversals=int(np.count_nonzero(np.diff(y) * self.direction < 0)) if self.direction else 0,
            subnormal=float(error[self.subnormal].max() / self.tiny) if self.subnormal.any() else 0.0,
            window=float(forgiven),
            profile=dict(zip(self.bins.tolist(), profile.tolist(), strict=True)),
        )


def inputs(dtype: str, chunk: int, stride: int) -> Iterator[tuple[Floats, Floats]]:
    """Yield the floats of a chunk in blocks, with the bin of each.

    Args:
        dtype: The type.
        chunk: Which CHUNK bit patterns to take.
        stride: One float in so many, drawn at random from each run of so many.
    """
    bits = 8 * jnp.dtype(dtype).itemsize
    rng = np.random.default_rng(chunk)
    first, last = chunk * CHUNK, min((chunk + 1) * CHUNK, 2**bits)
    for start in range(first, last, BLOCK * stride):
        patterns = np.arange(start, min(start + BLOCK * stride, last), stride)
        patterns += rng.integers(stride, size=patterns.size)
        yield patterns.astype(f"uint{bits}").view(jnp.dtype(dtype)), patterns >> (bits - 12)


def measure(name: str, dtype: str, chunk: int, stride: int, libraries: list[str]) -> dict[str, dict[str, Errors]]:
    """Return the errors of each library on a chunk, of the value and of the derivative.

    Args:
        name: One of CASES.
        dtype: The type.
        chunk: Which chunk of its floats.
        stride: One float in so many.
        libraries: The libraries.
    """
    torch.set_num_threads(1)
    case = CASES[name]
    found = {library: {order: Errors() for order in ORDERS} for library in libraries}
    with np.errstate(all="ignore"):
        for x, bins in inputs(dtype, chunk, stride):
            exact = case.exact(x.astype(np.float64))
            truths = {order: Truth(case, order, x, exact[order], bins) for order in ORDERS}
            for library in libraries:
                results = runner(library, name)(x)
                for order, truth in truths.items():
                    found[library][order].add(truth.errors(results[order]))
    return found


# Sweeping


@dataclass(frozen=True)
class Sweep:
    """All floats of a type, or one in so many, through a function of a library, as it is now.

    Attributes:
        name: One of CASES.
        dtype: The type.
        library: The library.
        stride: One float in so many.
    """

    name: str
    dtype: str
    library: str
    stride: int

    @property
    def chunks(self) -> int:
        """In how many chunks it is done."""
        return math.ceil(2 ** (8 * jnp.dtype(self.dtype).itemsize) / CHUNK)

    @property
    def versions(self) -> dict[str, str]:
        """The versions of what computes."""
        versions = {"jaxact": jaxact.__version__, "jax": jax.__version__, "torch": torch.__version__.partition("+")[0]}
        wanted = {"jaxact": ("jaxact", "jax"), "torch": ("torch",), "jax.nn": ("jax",)}[self.library]
        return {name: versions[name] for name in wanted}

    @property
    def device(self) -> str:
        """What kind of device computes: "cpu", or the one that JAX takes."""
        return "cpu" if self.library == "torch" else jax.default_backend()

    @functools.cached_property
    def fingerprint(self) -> str:
        """What changes when a chunk done before is worth nothing any more: versions, device, the program."""
        parts = [json.dumps(self.versions), self.device, Path(__file__).with_name("reference.py").read_text()]
        parts += [inspect.getsource(part) for part in (Errors, Truth, inputs, measure)]
        if self.library != "torch":
            x = jax.ShapeDtypeStruct((BLOCK,), self.dtype)
            parts += [function.lower(x).as_text() for function in compiled(self.library, self.name).values()]
        return hashlib.sha256("".join(parts).encode()).hexdigest()[:16]

    @property
    def partial(self) -> Path:
        """The file that keeps finished chunks, one a line."""
        return PARTIAL / f"{self.name}.{self.dtype}.{self.library}.{self.stride}.jsonl"

    def done(self) -> dict[int, dict[str, Errors]]:
        """Return the chunks that are done, and are still worth something."""
        fingerprint, found = self.fingerprint, {}  # of the code as it is now, which may change while a sweep runs
        if not self.partial.exists():
            return {}
        for line in self.partial.read_text().splitlines():
            try:
                chunk = json.loads(line)
            except json.JSONDecodeError:  # an empty line, or one that was cut off
                continue
            if chunk["fingerprint"] == fingerprint:
                found[chunk["chunk"]] = {order: _loaded(chunk[order]) for order in ORDERS}
        return found

    def keep(self, chunk: int, errors: dict[str, Errors]) -> None:
        """Write down a finished chunk."""
        PARTIAL.mkdir(parents=True, exist_ok=True)
        line = {"chunk": chunk, "fingerprint": self.fingerprint} | {order: asdict(errors[order]) for order in ORDERS}
        with self.partial.open("a") as file:
            file.write("\n" + json.dumps(line))  # on a line of its own, also after one that was cut off

    def total(self) -> dict[str, Errors]:
        """Return the errors over all its chunks, which must be done."""
        total = {order: Errors() for order in ORDERS}
        for _, chunk in sorted(self.done().items()):
            for order in ORDERS:
                total[order].add(chunk[order])
        return total


def _loaded(record: dict[str, Any]) -> Errors:
    return Errors(**record | {"profile": {int(key): value for key, value in record["profile"].items()}})


def run(sweeps: list[Sweep], jobs: int, console: Console) -> None:
    """Do all chunks of the sweeps that are not done yet.

    Args:
        sweeps: What to do.
        jobs: How many processes to use.
        console: Where to show the progress.
    """
    # The libraries that a chunk is missing for run on it together: they share the exact results.
    missing: dict[tuple[str, str, int, int], list[Sweep]] = {}
    for sweep in sweeps:
        done = sweep.done()
        for chunk in range(sweep.chunks):
            if chunk not in done:
                missing.setdefault((sweep.name, sweep.dtype, chunk, sweep.stride), []).append(sweep)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    context = multiprocessing.get_context("spawn")
    with (
        Progress(*columns, TimeRemainingColumn(), console=console) as progress,
        ProcessPoolExecutor(jobs, mp_context=context) as pool,
    ):
        bar = progress.add_task("chunks", total=len(missing))
        futures = {pool.submit(measure, *task, [s.library for s in group]): task for task, group in missing.items()}
        try:
            for future in as_completed(futures):
                task = futures[future]
                for sweep in missing[task]:
                    sweep.keep(task[2], future.result()[sweep.library])
                progress.update(bar, advance=1, description=f"{task[0]} {task[1]}")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def record(sweep: Sweep, total: dict[str, Errors]) -> dict[str, Any]:
    """Return the figures of a sweep as data."""
    return {
        "name": sweep.name,
        "parameters": dict(CASES[sweep.name].parameters),
        "dtype": sweep.dtype,
        "library": sweep.library,
        "versions": sweep.versions,
        "device": sweep.device,
        "stride": sweep.stride,
        "date": datetime.date.today().isoformat(),
    } | {
        order: {
            "inputs": errors.inputs,
            "counted": errors.counted,
            "largest": _json_number(errors.largest),
            "at": errors.at,
            "mean": _json_number(errors.total / max(errors.counted, 1)),
            "correctly_rounded": errors.right / max(errors.counted, 1),
            "nan": errors.nan,
            "reversals": errors.reversals,
            "subnormal": _json_number(errors.subnormal),
            "window": errors.window,
        }
        for order, errors in total.items()
    }


def _json_number(value: float) -> float | str:
    """Return a number as JSON has it, which knows no infinity: as "inf", which ``float`` reads."""
    return value if math.isfinite(value) else str(value)


def save(records: list[report.Record], profiles: report.Profiles, rows: list[report.Record]) -> None:
    """Put new results in the place of old ones of the same function, type and library."""
    old_records, old_profiles = report.load() if report.DATA.exists() else ([], {})
    report.DATA.parent.mkdir(exist_ok=True)
    report.DATA.write_text(_merged(old_records, records))
    report.ROWS.write_text(_merged(report.load_rows(), rows))
    np.savez_compressed(report.PROFILES, **(old_profiles | profiles))


def _merged(old: list[report.Record], new: list[report.Record]) -> str:
    merged = {report.key(entry): entry for entry in old + new}
    names = (*CASES, *accuracy_rows.FUNCTIONS)
    order = [(name, dtype, library) for name in names for dtype in DTYPES for library in LIBRARIES]
    return json.dumps([merged[key] for key in order if key in merged], indent=1) + "\n"


def profile(errors: Errors) -> Floats:
    """Return the profile as an array of BINS numbers, small enough to be kept for every function."""
    values = np.zeros(BINS)
    for index, largest in errors.profile.items():
        values[index] = largest
    return values.astype(np.float32)


# The command line


def _names(text: str, known: Iterable[str], what: str) -> list[str]:
    names = text.split(",") if text else list(known)
    if unknown := set(names).difference(known):
        raise typer.BadParameter(f"no {what} {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return names


def main(
    functions: Annotated[str, typer.Option(help="Only these functions, separated by commas.")] = "",
    dtypes: Annotated[str, typer.Option("--dtype", help="Only these types, separated by commas.")] = "",
    libraries: Annotated[str, typer.Option(help="Only these libraries, separated by commas.")] = "",
    stride: Annotated[int, typer.Option(help="One float32 in so many, a power of 2 up to 65536.")] = 1,
    jobs: Annotated[int, typer.Option(help="How many processes to use.")] = os.cpu_count() or 1,
    only_report: Annotated[bool, typer.Option("--report", help="Make the page and the plots from the data.")] = False,
) -> None:
    """Measure the errors of jaxact, torch and jax.nn on every float; exit with 1 if jaxact exceeds a bound."""
    console = Console()
    if only_report:
        records, profiles = report.load()
        rows = report.load_rows()
    else:
        if stride not in [2**power for power in range(17)]:
            raise typer.BadParameter(f"the stride must be a power of 2 up to 65536, got {stride}")
        chosen = [
            (name, dtype, library)
            for dtype in _names(dtypes, DTYPES, "type")
            for name in _names(functions, [*CASES, *accuracy_rows.FUNCTIONS], "function")
            for library in _names(libraries, LIBRARIES, "library")
        ]
        sweeps = [
            Sweep(name, dtype, library, stride if dtype == "float32" else 1)
            for name, dtype, library in chosen
            if name in CASES and has(library, CASES[name])
        ]
        run(sweeps, jobs, console)
        totals = {sweep: sweep.total() for sweep in sweeps}
        records = [record(sweep, total) for sweep, total in totals.items()]
        profiles = {
            f"{sweep.name}.{sweep.library}.{order}": profile(total[order])
            for sweep, total in totals.items()
            if sweep.dtype == "float32"
            for order in ORDERS
        }
        rows = [accuracy_rows.measure(*which) for which in chosen if which[0] in accuracy_rows.FUNCTIONS]
    report.show(records, rows, console)
    if only_report or stride == 1:
        if not only_report:
            save(records, profiles, rows)
        report.write(console)
    failures = report.violations(records) + accuracy_rows.violations(rows)
    for line in failures:
        console.print(line, style="red", highlight=False, soft_wrap=True)
    raise typer.Exit(1 if failures else 0)


if __name__ == "__main__":
    typer.run(main)

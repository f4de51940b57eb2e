"""Put every port of the corpus before ``compare``: do the right ones pass, and are the wrong ones named.

    python benchmarks/crosscheck.py [--ports NAME,...] [--seeds N]

Each port is run right on some seeds, and with each of its mistakes on seed 0. A line a run is printed: the largest
error in units of torch's own for a right one; for a wrong one whether it is caught, whether the modules of all its
mistakes are named, whether the first that is named is one of them, and whether the line is one that is marked. Exit
status 1 if a right port fails or a wrong one passes. What came of it is in ``benchmarks/results/crosscheck.json``.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from ports import PORTS, defaults

from jaxact.bench.command import listed
from jaxact.interop import compare

RESULTS = Path(__file__).parent / "results" / "crosscheck.json"


def right(name: str, seed: int) -> dict[str, Any]:
    """Return what becomes of a right port."""
    jax_fn, module, inputs = PORTS[name].build(seed)
    start = time.perf_counter()
    report = compare(jax_fn, module, *inputs)
    ratios = {kind: max((row.ratio for row in report.rows if row.kind == kind), default=0) for kind in KINDS}
    seconds = time.perf_counter() - start
    return {"port": name, "seed": seed, "passed": report.passed, "ratio": ratios, "seconds": round(seconds, 1)}


KINDS = ("output", "gradient")


def wrong(name: str, mistake: str) -> dict[str, Any]:
    """Return what becomes of a wrong port."""
    port = PORTS[name]
    jax_fn, module, inputs = port.build(0, mistake)
    start = time.perf_counter()
    report = compare(jax_fn, module, *inputs)
    seconds = time.perf_counter() - start
    parts = mistake.split("+")
    modules = {d.module for d in report.divergences}
    found = {line for d in report.divergences for line in (d.source, *d.calls)}
    first = report.divergence is not None and any(report.divergence.module in port.mistakes[part] for part in parts)
    lines = [{f"{Path(path).name}:{n}" for marked in port.lines_of(part) for path, n in marked} for part in parts]
    return {
        "port": name,
        "mistake": mistake,
        "caught": not report.passed,
        "named": all(modules & set(port.mistakes[part]) for part in parts),
        "first": first,
        "line": all(found & marked for marked in lines),
        "seconds": round(seconds, 1),
    }


def main() -> int:
    """Run what is asked for, and write the figures of those ports into the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ports", default="", help="names of ports, with commas between")
    parser.add_argument("--seeds", type=int, default=10, help="how many seeds a right port is run on")
    options = parser.parse_args()
    data = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"right": [], "wrong": []}
    failed = False
    with defaults():
        for name in listed(options.ports, PORTS, "port"):
            rights = [right(name, seed) for seed in range(options.seeds)]
            wrongs = [wrong(name, mistake) for mistake in (*PORTS[name].mistakes, *PORTS[name].pairs)]
            for kind, runs in (("right", rights), ("wrong", wrongs)):
                for run in runs:
                    print(*run.values(), flush=True)
                data[kind] = [run for run in data[kind] if run["port"] != name] + runs
            failed |= not all(run["passed"] for run in rights) or not all(run["caught"] for run in wrongs)
            RESULTS.write_text(json.dumps(data, indent=1) + "\n")
    print(summary(data))
    return int(failed)


def summary(data: dict[str, list[dict[str, Any]]]) -> str:
    """Return the counts in one line."""
    wrongs = data["wrong"]
    counts = [f"{sum(run[key] for run in wrongs)} {key}" for key in ("caught", "named", "first", "line")]
    passed = sum(run["passed"] for run in data["right"])
    return f"right: {passed} of {len(data['right'])} passed; wrong: of {len(wrongs)} {', '.join(counts)}"


if __name__ == "__main__":
    sys.exit(main())

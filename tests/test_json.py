"""What ``--json`` prints has the keys that the documentation says, and no others."""

import json
import re
from pathlib import Path

from typer.testing import CliRunner

from jaxact.cli import app
from jaxact.interop.crosscheck.report import Divergence, Element, Report, Row, Step

PAGE = (Path(__file__).parents[1] / "docs" / "commands.md").read_text()
# What holds names of parameters, which are the function's, not the schema's.
OPEN = ("parameters",)


def documented(part):
    table = PAGE.split(f"<!-- {part}:start -->")[1].split(f"<!-- {part}:stop -->")[0]
    return set(re.findall(r"^\| `([^`]+)` \|", table, re.M))


def paths(value, path=""):
    """Return the paths of all that is in a record, lists and leaves; of a mapping inside it itself too."""
    if isinstance(value, dict) and path.rpartition(".")[2] not in OPEN:
        inner = [paths(part, f"{path}.{key}".lstrip(".")) for key, part in value.items()]
        return set().union(*inner)
    if isinstance(value, list):
        return set().union(*(paths(part, f"{path}[]") for part in value)) or {f"{path}[]"}
    return {path}


def mentioned(keys):
    """Return the keys without those that only say what is inside of them, or null."""
    return {key for key in keys if not any(other.startswith(f"{key}.") for other in keys)}


FULL = Report(
    rows=(
        Row(*("output", "output", "float32", (2,), False, "differs", 1.0, 1.0, 1.0), Element((1,), 1.0, 1.0, 1.0, 1.0)),
        Row("gradient of input 0", "gradient", "float32", (2,), True, "equal"),
    ),
    divergences=(Divergence("a", "B", "c", "d.py:1", ("e.py:2",), "f.py:3", "g", "h", float("inf"), True),),
    steps=(Step("a", "B", True),),
    refusals=("no",),
    notes=("a note",),
)


def test_a_reports_keys():
    record = FULL.to_dict()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert paths(record) - {"rows[].worst"} == mentioned(documented("report"))
    assert record["divergences"][0]["distance"] == "inf"


def test_a_checks_keys():
    arguments = ["check", "relu", "tanh", "threshold", "softsign", "--size", "32", "--json", "--dtype", "float32"]
    record = json.loads(CliRunner().invoke(app, arguments).stdout)
    for trial in (trial for row in record["functions"] for trial in row["trials"]):
        kept = {key: trial.pop(key) for key in list(trial) if key not in ("dtype", "kind")}
        assert paths(kept) - {"rows[].worst"} <= mentioned(documented("report")) | {"divergences[]", "steps[]"}
    for sample in record["samples"]:
        assert sample["gradient"] is None or paths(sample["gradient"]) == paths(sample["output"])
        sample["gradient"] = None
    assert paths(record) - {"functions[].documented[]"} == mentioned(documented("check"))
    at = [row["at"] for part in record["functions"] for row in part["documented"]]
    assert ["inf"] in at

"""The guides: their code runs, block after block, and prints what they show."""

import linecache
import re
from pathlib import Path

import jax
import pytest

from jaxact.interop.crosscheck import judging

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Where a block is a file of its own, its first line says so: reports name the lines.
FILE = re.compile(r"# (\w+\.py)\n")
# What rounding decides: numbers, but for those of lines and within names, and which of three verdicts is passed.
ROUNDED = re.compile(r"(?<![\w.:])-?\d[\d.]*(e[+-][\d…]+)?(?!\w)|equal|nearer than torch|within rounding")


def words(text):
    return ROUNDED.sub("#", text).split()


@pytest.mark.parametrize("name", ["crosscheck", "crosscheck_limits"])
def test_the_code_runs_and_prints_what_is_shown(name, capsys, monkeypatch):
    namespace = {"__name__": name}
    blocks = BLOCK.findall((DOCS / f"{name}.md").read_text())
    assert len(blocks) > 10
    for number, (language, block) in enumerate(blocks):
        if language == "text":
            assert blocks[number - 1][0] == "python"
            assert words(capsys.readouterr().out) == words(block)
            continue
        assert capsys.readouterr().out == ""  # what is printed is shown
        file = match[1] if (match := FILE.match(block)) else f"{name}.py"
        monkeypatch.setitem(linecache.cache, file, (len(block), None, block.splitlines(keepends=True), file))
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            exec(compile(block, file, "exec"), namespace)
    assert capsys.readouterr().out == ""


def test_words_leave_out_what_rounding_decides_and_nothing_else():
    row = "output[0]  float32  2x5  3882  5.6e-05  1.18e+…  within rounding"
    assert words(row) == words(row.replace("3882", "17").replace("within rounding", "nearer than torch"))
    assert words(row) != words(row.replace("2x5", "2x4"))
    line = "1. blocks.0.mlp.1 (GELU: gelu), port.py:26"
    assert words(line) != words(line.replace("26", "25"))
    assert words(line) != words(line.replace("blocks.0", "blocks.1"))


@pytest.mark.parametrize("name", ["ARRAY_FACTOR", "ARRAY_NOISE", "ARRAY_FLOOR", "ELEMENT_FACTOR", "ELEMENT_FLOOR"])
def test_the_guide_states_the_factors(name):
    assert f"`{name} = {getattr(judging, name):g}`" in (DOCS / "crosscheck.md").read_text()

"""Pages of reports: whole, escaped, light and dark, and no request leaves them; what is said without the extra."""

import re
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import jaxact.interop.crosscheck
from jaxact.divergences import remarks
from jaxact.interop.crosscheck import curves
from jaxact.interop.crosscheck.catalog_calls import calls
from jaxact.interop.crosscheck.catalog_check import check_catalog
from jaxact.interop.crosscheck.html import to_html, write_html
from jaxact.interop.crosscheck.report import Divergence, Element, Report, Row, Step
from test_imports import brought, imported

HOSTILE = "<script>alert('1')</script>"
FAILED = Report(
    rows=(
        Row(
            *("output", "output", "float32", (2, 3), False, "differs", 1e9, 0.5, float("inf")),
            *(Element((1, 2), -0.5, float("nan"), 0.25, 0.2500001), f"tanh GELU fits {HOSTILE}"),
        ),
        Row("gradient of input 0", "gradient", "float32", (2, 3), True, "nearer than torch", 1.0, 1e-8, 0.5),
    ),
    divergences=(
        Divergence(
            *(f"blocks.1.act{HOSTILE}", "GELU", "gelu", "model.py:42", ("main.py:1", "model.py:42"), "theirs.py:7"),
            *("blocks.1.fc1", "blocks.1.fc2", 0.001, True, True, "a hint"),
        ),
    ),
    steps=(Step("blocks.0.act", "GELU", True), Step("blocks.1.act", "GELU", False)),
    notes=("inputs of float64 were taken as float32",),
)


class Page(HTMLParser):
    """What of a page matters here."""

    void = frozenset(["meta", "br", "path", "use", "rect", "line"])

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.references, self.open = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in self.void:
            self.open.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "srcset", "data", "action", "xlink:href"):
                self.references.append(value)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.void:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.void:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def checked():
    return check_catalog(["gelu", "threshold", "gumbel_softmax"], ["float32"], size=64)


@pytest.fixture(scope="module", params=["check", "compare"])
def text(request, checked):
    return to_html(checked) if request.param == "check" else to_html(FAILED)


def test_no_request_leaves_the_page(text):
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert all(reference.startswith("#") for reference in page.references)
    assert {reference[1:] for reference in page.references} <= set(page.ids)
    assert "@import" not in text
    assert all(url.startswith("#") for url in re.findall(r"url\(\s*['\"]?([^)]*)\)", text))
    assert "default-src 'none'" in text


def test_a_request_would_be_seen():
    page = Page('<svg><a href="https://example.org"></a></svg><script src="x.js"></script>')
    assert page.references == ["https://example.org", "x.js"]
    assert "script" in page.tags


def test_it_is_whole(text):
    page = Page(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))


def test_it_follows_the_reader(text):
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport" content="width=device-width' in text
    assert "max-width: 40rem" in text


def test_what_comes_from_the_model_is_escaped():
    text = to_html(FAILED)
    assert HOSTILE not in text
    assert text.count("&lt;script&gt;") == 2
    refused = to_html(Report((), refusals=(HOSTILE,)))
    assert HOSTILE not in refused
    assert "not compared" in refused


def test_a_comparison_is_shown():
    text = " ".join(re.sub("<[^>]*>", " ", to_html(FAILED).split("<body>")[1]).split())
    for part in (
        "jaxact compare: FAILED",
        "1 of 2 arrays are equal",
        "output float32 2x3 1e+09 0.5 inf differs",
        "gradient of input 0 float32 2x3 1 1e-08 0.5 nearer than torch",
        "output[1, 2] (input -0.5): nan for torch's 0.25, exactly 0.2500001",
        "gradient of blocks.1.act",
        "port: model.py:42 , called from main.py:1",
        "torch: theirs.py:7",
        "after blocks.1.fc1, before blocks.1.fc2, off by 0.001 of the largest value",
        "Hint: a hint",
        "✓ blocks.0.act GELU, found",
        "✗ blocks.1.act GELU, not found",
        "Note: inputs of float64 were taken as float32",
    ):
        assert part in text
    assert "passed" in to_html(Report((FAILED.rows[1],)))


def test_a_check_is_shown(checked):
    text = to_html(checked)
    for row in checked.functions:
        assert f'id="{"".join(c if c.isalnum() else "-" for c in row.name)}"' in text
        for part in row.documented:
            assert part.divergence.because in text
        assert all(said in text for said in remarks(row.function))
    assert len(re.findall("<svg", text)) == len(checked.functions) - 1  # none of what draws at random
    assert "it draws at random" in text
    assert "#01fe" not in text
    assert "var(--jaxact)" in text
    assert "currentColor" in text


def test_each_function_has_a_curve_but_what_takes_several_arrays():
    drawn = {call.name for call in calls() if curves._layout(call) is not None}
    assert {call.name for call in calls()} - drawn == {
        "gumbel_softmax",
        "adaptive_log_softmax_with_loss",
        "adaptive_log_softmax_log_prob",
        "scaled_dot_product_attention",
        "multi_head_attention_forward",
    }


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(
    ("name", "value"), [("tanh", np.tanh), ("glu", sigmoid), ("softmax", lambda x: np.exp(x) / (np.exp(x) + 7))]
)
def test_a_curve_is_the_functions(name, value):
    (call,) = calls((name,))
    drawn = curves.curve(call)
    x = np.float64(drawn.x)
    np.testing.assert_allclose(drawn.values, value(x), rtol=1e-12)
    slope = (value(x + 1e-6) - value(x - 1e-6)) / 2e-6
    np.testing.assert_allclose(drawn.derivatives, slope, rtol=1e-3, atol=1e-6)
    assert len(drawn.errors) == 4
    assert all(np.nanmax(errors) > 0 for errors in drawn.errors)


def test_an_error_is_drawn_where_float64_tells():
    (call,) = [call for call in calls(("gelu",)) if call.parameters]
    drawn = curves.curve(call)
    ours, theirs = drawn.errors[:2]
    assert np.isnan(ours[drawn.x < -6.5]).all()  # 1 + tanh cancels in float64 too
    assert not np.isnan(ours[drawn.x > -4]).any()
    assert np.nanmax(ours) <= 2
    assert np.nanmax(theirs) > 100


def test_it_is_written_and_the_same_each_time(checked, tmp_path):
    write_html(checked, tmp_path / "check.html")
    assert (tmp_path / "check.html").read_text(encoding="utf-8") == to_html(checked)
    FAILED.write_html(str(tmp_path / "compare.html"))
    assert (tmp_path / "compare.html").read_text(encoding="utf-8") == to_html(FAILED)


WITHOUT = """
import sys
sys.modules[{missing!r}] = None
sys.argv = ["jaxact", *{arguments!r}]
from jaxact.__main__ import main
main()
"""


@pytest.mark.parametrize("missing", ["jinja2", "matplotlib"])
def test_without_the_extra_it_is_said_at_once(missing, tmp_path):
    arguments = ["check", "--html", str(tmp_path / "check.html")]
    program = WITHOUT.format(missing=missing, arguments=arguments)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    message = f"jaxact check: a page needs {missing}; install it with: pip install 'jaxact[report]'\n"
    assert (done.returncode, done.stderr, done.stdout) == (2, message, "")


def test_the_method_says_it_too(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.delitem(sys.modules, "jaxact.interop.crosscheck.html")
    with pytest.raises(ModuleNotFoundError, match=r"needs jinja2; install it with: pip install 'jaxact\[report\]'"):
        FAILED.write_html(tmp_path / "compare.html")


def test_the_extra_brings_what_a_page_needs():
    folder = Path(jaxact.interop.crosscheck.__path__[0])
    names = imported(folder / "html.py") | imported(folder / "curves.py")
    extras = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    needed = names - sys.stdlib_module_names - {"jaxact", "jax", "numpy"}
    assert needed == brought("report", extras["optional-dependencies"])

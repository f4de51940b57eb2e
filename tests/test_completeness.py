"""Completeness: public names, catalog, README and docs speak of the same functions."""

import inspect
import re
from pathlib import Path

import pytest
from oracle import ROWS

import jaxact
from jaxact.catalog import BY_NAME, CATALOG, SAMPLES
from jaxact.interop.parity import resolve

CHECKOUT = Path(__file__).parents[1]


def public():
    """Return the names of the public functions."""
    return {name for name in jaxact.__all__ if inspect.isroutine(getattr(jaxact, name))}


def test_the_catalog_has_a_row_for_each_public_function():
    assert {row.name for row in CATALOG} == public()
    assert len(BY_NAME) == len(CATALOG)


def test_the_readme_table_is_the_catalogs():
    table = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \| (.*) \|$", (CHECKOUT / "README.md").read_text(), re.M)
    assert table == [(row.name, row.range, row.use_case, row.advantages) for row in CATALOG]


def test_the_api_reference_lists_each_public_function():
    listed = re.findall(r"^   (\w+)$", (CHECKOUT / "docs" / "api.md").read_text(), re.M)
    assert sorted(listed) == sorted(public())


def test_there_is_a_documented_sample_for_each_of_the_first_five():
    assert {sample.function for sample in SAMPLES} == {"relu", "leaky_relu", "sigmoid", "tanh", "softmax"}


def test_nothing_else_is_public():
    modules = {"catalog", "cli", "interop", "normalizing", "rectifiers", "sigmoidal"}
    assert {name for name in dir(jaxact) if not name.startswith("_")} <= public() | modules


@pytest.mark.parametrize("row", ROWS)
class TestRows:
    def test_public_function_is_the_rows(self, row):
        assert getattr(jaxact, row.name) is row.function

    def test_torch_has_what_the_row_names(self, row):
        assert callable(resolve(row.torch_function))
        assert inspect.isclass(resolve(row.torch_module))

    def test_it_stands_in_its_familys_module(self, row):
        assert row.function.__module__ == f"jaxact.{row.family}"

    def test_parameters_are_the_functions(self, row):
        inspect.signature(row.function).bind(0, **row.parameters)

    def test_the_parameters_are_torchs_by_name_order_and_default(self, row):
        ours = list(inspect.signature(row.function).parameters.values())
        assert ours[0].kind is inspect.Parameter.POSITIONAL_ONLY
        try:
            signature = inspect.signature(resolve(row.torch_function))
        except ValueError:  # a builtin of torch's, which takes the input alone
            assert len(ours) == 1
            return
        theirs = [p for p in signature.parameters.values() if p.name not in ("inplace", "_stacklevel")]
        assert [p.name for p in ours[1:]] == [p.name for p in theirs[1:]]
        required = {"dim"}  # torch's implicit choice is deprecated
        assert [p.default for p in ours[1:] if p.name not in required] == [
            p.default for p in theirs[1:] if p.name not in required
        ]

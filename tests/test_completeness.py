"""Completeness: public names, catalog, README and docs speak of the same functions."""

import functools
import inspect
import re
from pathlib import Path
from pkgutil import resolve_name

import jax
import numpy as np
import pytest
import torch

import jaxact
from jaxact.catalog import BY_NAME, CATALOG, SAMPLES
from oracle import ROWS

CHECKOUT = Path(__file__).parents[1]


def public():
    """Return the names of the public functions."""
    return {name for name in jaxact.__all__ if inspect.isroutine(getattr(jaxact, name))}


def test_the_catalog_has_a_row_for_each_public_function():
    assert {row.name for row in CATALOG} == public()
    assert len(BY_NAME) == len(CATALOG)


def test_the_readme_table_is_the_catalogs():
    text = (CHECKOUT / "README.md").read_text().partition("## The activations")[2]
    table = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \| (.*) \|$", text, re.M)
    assert table == [(row.name, row.range, row.use_case, row.advantages) for row in CATALOG]


def test_the_readme_names_the_oldest_releases_that_are_allowed():
    bounds = dict(re.findall(r"(python|jax|numpy|torch)\W*>=([\d.]+)", (CHECKOUT / "pyproject.toml").read_text()))
    oldest = "From Python {python}, jax {jax}, numpy {numpy} and torch {torch} on."
    assert oldest.format(**bounds) in (CHECKOUT / "README.md").read_text()


def test_the_api_reference_lists_each_public_function():
    listed = re.findall(r"^   (\w+)$", (CHECKOUT / "docs" / "api.md").read_text(), re.M)
    assert sorted(listed) == sorted(public())


def test_there_is_a_documented_sample_for_each_of_the_first_five():
    assert {sample.function for sample in SAMPLES} == {"relu", "leaky_relu", "sigmoid", "tanh", "softmax"}


def test_every_class_of_torchs_two_chapters_has_a_row_and_the_other_way_round():
    chapters = {
        f"torch.nn.{name}" for name in (*torch.nn.modules.activation.__all__, *torch.nn.modules.adaptive.__all__)
    }
    assert {row.torch_module for row in CATALOG if row.torch_module} == chapters


def test_nothing_else_is_public():
    modules = {row.family for row in CATALOG} | {"bench", "catalog", "cli", "divergences", "interop"}
    # pytest rewrites the modules of a distribution with a plugin, and leaves names in them that are none.
    assert {name for name in dir(jaxact) if name.isidentifier() and not name.startswith("_")} <= public() | modules


@pytest.mark.parametrize("row", ROWS)
class TestRows:
    def test_public_function_is_the_rows(self, row):
        assert getattr(jaxact, row.name) is row.function

    def test_torch_has_what_the_row_names(self, row):
        assert row.torch_function or row.torch_module
        assert row.torch_function is None or callable(resolve_name(row.torch_function))
        assert row.torch_module is None or inspect.isclass(resolve_name(row.torch_module))

    def test_it_stands_in_its_familys_module(self, row):
        assert getattr(getattr(jaxact, row.family), row.name) is row.function

    def test_parameters_are_the_functions(self, row):
        inspect.signature(row.function).bind(0, **row.parameters)

    def test_it_is_elementwise_if_it_says_so(self, row):
        f = functools.partial(row.function, **row.parameters)
        x = np.random.default_rng(0).normal(size=(2, 3, 4))  # an image of two channels
        jacobian = np.asarray(jax.jacobian(f)(x))
        elsewhere = ~np.eye(x.size, dtype=bool).reshape(2 * x.shape)
        assert row.elementwise == (jacobian.shape == elsewhere.shape and not jacobian[elsewhere].any())

    def test_it_is_piecewise_if_it_says_so(self, row):
        third = functools.partial(row.function, **row.parameters)
        for _ in range(3):
            third = jax.grad(third)
        if row.elementwise:
            x = np.random.default_rng(0).normal(size=100, scale=3)
            assert row.piecewise == (not jax.vmap(third)(x).any())
        else:
            assert not row.piecewise

    def test_the_parameters_are_torchs_by_name_order_and_default(self, row):
        ours, theirs = parameters(row.function), parameters(row.torch_function and resolve_name(row.torch_function))
        if theirs is None:  # a builtin, or no function: then the module's constructor, or its documentation
            theirs = (
                {"weight": REQUIRED} if row.name == "prelu" else parameters(resolve_name(row.torch_module).__init__)
            )
            theirs = {name: default for name, default in theirs.items() if name not in ("args", "kwargs")}
        assert [*ours] == [*theirs]
        for name in ours:
            assert ours[name] == theirs[name] or (name == "dim" and ours[name] is REQUIRED)


REQUIRED = inspect.Parameter.empty


def parameters(function, skip=1):
    """Return the defaults of the parameters after the input by name, or None where they cannot be known."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    ignored = {"inplace", "_stacklevel", "key", "eps", "dropout_key", "device"}  # torch's alone, or the JAX key
    names = list(signature.parameters)[skip:]
    return {name: signature.parameters[name].default for name in names if name not in ignored}

"""What XLA is kept from: each trick works, is needed where it says so, and goes when no supported release needs it.

A small formula is compiled with the trick and without it. Without, what XLA does shows in a result, or in the kernels
of the compiled program: on the processors of which that is known.
"""

import platform
import re
import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import pytest

from jaxact._kernels import compiler
from jaxact._kernels.compiler import kept_product, kept_quotient, kept_sum, out_of_reduction, rounded
from jaxact._kernels.floats import polynomial
from jaxact._kernels.rows import exp_of_distance

pytestmark = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="seen on x86-64")

# The first release of jaxlib without what a trick is against, where there is one.
GONE = {"kept_sum": "0.12", "kept_product": "0.12"}
# And the first with it, where it has not always been there.
CAME = {"out_of_reduction": "0.10.2"}
# The first releases in which the flaws were seen that no trick is against.
FLAWS = {"maximum": "0.9.2", "product": "0.10.2"}
TRICKS = [name for name, value in vars(compiler).items() if getattr(value, "__module__", "") == compiler.__name__]


def release(version):
    return tuple(map(int, version.split(".")[:3]))


def needed(trick):
    """Say whether the installed jaxlib is known to need a trick."""
    here = release(jaxlib.__version__)
    return release(CAME.get(trick, "0")) <= here and (trick not in GONE or here < release(GONE[trick]))


def test_no_trick_is_left_that_no_supported_release_needs():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    (oldest,) = re.findall(r"jaxlib>=([\d.]+)", " ".join(project["dependencies"]))
    assert set(GONE) | set(CAME) <= set(TRICKS)
    assert [trick for trick, version in GONE.items() if release(version) <= release(oldest)] == []


def fusions(formula, *arguments):
    """Return the kernels of the compiled program: of each its kind, kCustom for the library's, and its operations."""
    text = jax.jit(formula).lower(*arguments).compile().as_text()
    found = re.findall(r" fusion\(.*kind=(\w+), calls=(%[\w.-]+)", text)
    bodies = {name: text[text.index(f"{name} (") :].partition("\n}")[0] for _, name in found}
    return [(kind, set(re.findall(r"= \S+ ([a-z-]+)\(", bodies[name]))) for kind, name in found]


def library_computes(operation, formula, *arguments):
    """Say whether an operation is one of those that XLA gives a library to compute."""
    return any(kind == "kCustom" and operation in operations for kind, operations in fusions(formula, *arguments))


def test_a_product_is_rounded_before_a_difference():
    x, c = np.random.default_rng(0).standard_normal(1000).astype(np.float32), np.float32(1.3)
    y = x * c
    assert np.any(jax.jit(lambda x, c, y: x * c - y)(x, c, y)) == needed("rounded")
    assert not np.any(jax.jit(lambda x, c, y: rounded(x * c) - y)(x, c, y))


def test_a_half_is_rounded_before_it_is_widened():
    x = np.random.default_rng(0).standard_normal(1000).astype(jnp.bfloat16)
    c = np.asarray(1.3, jnp.bfloat16)
    y = (x * c).astype(np.float32)
    assert np.any(jax.jit(lambda x, c: (x * c).astype(np.float32))(x, c) != y) == needed("rounded")
    assert not np.any(jax.jit(lambda x, c: rounded(x * c).astype(np.float32))(x, c) != y)


def test_a_constant_is_subtracted_from_a_rounded_sum():
    x = np.geomspace(1e-12, 1e-9, 50, dtype=np.float32)
    assert np.any(jax.jit(lambda x: (1 + x) - 1)(x)) == needed("kept_sum")
    assert not np.any(jax.jit(lambda x: kept_sum(1 + x, at_least=0.5) - 1)(x))


def test_products_with_a_constant_are_multiplied_as_they_are():
    """XLA does that to single numbers, and 2^64 squared overflows."""
    x, c = np.float32(2.0**64), 2.0**-64
    assert (jax.jit(lambda x: (x * c) * (x * c))(x) != 1) == needed("kept_product")
    product = jax.jit(lambda x: kept_product(x * c, at_least=0) * kept_product(x * c, at_least=0))
    assert product(x) == 1


def logarithm(s, t):
    return t - s * (t - s * s * polynomial((0.67, 0.4, 0.28), s * s))


def test_a_quotient_used_twice_stays_in_its_kernel():
    t = np.linspace(0, 1, 4096, dtype=np.float32)
    assert (len(fusions(lambda t: logarithm(t / (2 + t), t), t)) > 1) == needed("kept_quotient")
    assert len(fusions(lambda t: logarithm(kept_quotient(t / (2 + t), at_most=1), t), t)) == 1
    assert len(fusions(lambda t: logarithm(kept_quotient(t / (2 + t), at_least=-1), t), t)) == 1


def test_a_library_that_sums_computes_what_does_not_end_in_a_selection():
    x = np.zeros((4096, 1024), np.float32)
    plain = library_computes("multiply", lambda x: jnp.sum(x * x * polynomial((0.5, 0.17, 0.04), x), axis=-1), x)
    assert plain == needed("out_of_reduction")
    assert not library_computes("multiply", lambda x: jnp.sum(exp_of_distance(x), axis=-1), x)


REDUCTIONS = {
    "largest": lambda x: jnp.max(x, axis=-1, keepdims=True, initial=-jnp.inf),
    "logarithm": lambda x: jnp.log(jnp.sum(x, axis=-1, keepdims=True)),
}


@pytest.mark.parametrize("reduction", REDUCTIONS.values(), ids=REDUCTIONS)
def test_a_library_that_reduces_subtracts_nothing(reduction):
    x = np.zeros((4096, 1024), np.float32)
    assert library_computes("subtract", lambda x: x - reduction(x), x) == needed("out_of_reduction")
    assert not library_computes("subtract", lambda x: x - out_of_reduction(reduction(x)), x)


def flawed(flaw):
    """Return a test's mark: the installed jaxlib has a flaw."""
    return pytest.mark.skipif(release(jaxlib.__version__) < release(FLAWS[flaw]), reason="not seen in this release")


@flawed("maximum")
def test_a_maximum_drops_nan():
    x = np.zeros((256, 1024), np.float32)
    x[3, 5] = np.nan
    assert not np.isnan(jax.jit(lambda x: jnp.max(x, axis=-1))(x)).any()


@flawed("product")
def test_a_product_with_equal_elements_is_never_computed():
    """What comes out is what stood in the memory: NaN, or any number, but none of the sums of 1,024 halves."""
    x = np.zeros((2, 16, 1024), np.float32)
    product = np.asarray(jax.jit(lambda x: jax.nn.softmax(x, axis=0) @ jnp.ones((1024, 8)))(x))
    assert not np.isclose(product, 512).any()

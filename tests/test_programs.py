"""Programs: after a product, and before one, a function is as near to the exact value as it is alone.

A compiler fuses what stands before and after. It may contract a product with a sum that follows, or drop a conversion,
so that a function meets the exact product in one place and the rounded one in another. Either is right, if it is the
same everywhere: errors are those to the nearer one.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxact
from test_accuracy import CASES, reference

C = 1.3  # neither it nor its inverse is a short number
SIZE = 512

# A product of a program: what one factor is made of, and the product with the other one, a number.
PRODUCERS = {
    "x * constant": (lambda x: x, lambda u, c: u * c),
    "x / constant": (lambda x: x, lambda u, c: u / c),
    "x * traced": (lambda x: x, lambda u, c: u * c),
    "x * x": (lambda x: x, lambda u, c: u * u),
    "exp(x) * constant": (lambda x: jnp.exp(jnp.clip(x, -40, 10)), lambda u, c: u * c),
    "(x @ W) * constant": (lambda x: x @ mixing(x.shape[-1], x.dtype), lambda u, c: u * c),
}


# Halves are computed in float32: what a compiler may do there is drop a conversion.
EACH = [(dtype, producer) for dtype in ("float32", "bfloat16", "float16") for producer in PRODUCERS]
SOME = [pair for pair in EACH if pair[0] == "float32" or pair[1] in ("x / constant", "(x @ W) * constant")]


@functools.cache
def program(producer, function):
    """Return the compiled program that is the function, and its derivative, after a product."""
    inner, product = PRODUCERS[producer]

    @jax.jit
    def after(x, traced, cotangent):
        y, pull_back = jax.vjp(function, product(inner(x), traced if producer == "x * traced" else C))
        return {"value": y, "derivative": pull_back(cotangent)[0]}

    return lambda x, cotangent: after(x, np.asarray(C, x.dtype), cotangent)


@functools.cache
def mixing(size, dtype):
    """Return a matrix whose products with a row are of the row's magnitude."""
    return np.random.default_rng(7).standard_normal((size, size)).astype(dtype) / np.asarray(size**0.5, dtype)


@functools.cache
def value_alone(producer, function):
    """Return the compiled program that is the function after a product."""
    inner, product = PRODUCERS[producer]
    after = jax.jit(lambda x, traced: function(product(inner(x), traced if producer == "x * traced" else C)))
    return lambda x: after(x, np.asarray(C, x.dtype))


@functools.cache
def factors(producer):
    """Return what gives the factor before the product, its rounded product, and the factor from float32."""
    inner, product = PRODUCERS[producer]
    return jax.jit(inner), jax.jit(product), jax.jit(lambda x: inner(x.astype(np.float32)))


def candidates(producer, x):
    """Return what the product at x may be, in float64: rounded, exact, and exact of a factor that was not rounded."""
    _, product = PRODUCERS[producer]
    c = np.asarray(C, x.dtype)
    rounded, multiplied, wide = factors(producer)
    found = [np.asarray(multiplied(rounded(x), c), np.float64)]
    found += [product(np.asarray(u, np.float64), np.float64(c)) for u in (rounded(x), wide(x))]
    if producer == "x / constant":  # which a compiler makes a product, rounded or not
        for inverse in (1 / c, 1 / c.astype(np.float32)):
            found += [np.float64(x.astype(inverse.dtype) * inverse), np.float64(x) * np.float64(inverse)]
    return found


def nearest(errors):
    """Return the least of the errors at each element, infinite where a result is NaN."""
    return np.min([np.where(np.isnan(error), np.inf, error) for error in errors], axis=0)


def ulps(case, order, x, y, dtype):
    """Return the errors of results y in ULPs, 0 where the bounds allow the error: in windows and at subnormals."""
    with np.errstate(all="ignore"):
        truth = case.exact(x)[order]
        error = np.where(y == truth, 0, np.abs(y - truth))
        tiny = float(jnp.finfo(dtype).smallest_normal)
        forgiven = case.in_window(order, x) & (error <= reference.WINDOW_ERROR) | (np.abs(truth) < tiny) & (
            error <= tiny
        )
        return np.where(forgiven, 0, error / reference.ulp(truth, dtype))


def inputs(dtype, positive):
    """Return numbers whose products reach from where the functions are linear to where they have ended."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-9, 9, SIZE), rng.uniform(-90, 90, SIZE), np.exp2(rng.uniform(-20, 6, SIZE))])
    return (np.abs(x) if positive else x * rng.choice([-1, 1], x.size)).reshape(3, SIZE).astype(dtype)


@pytest.mark.parametrize(("dtype", "producer"), SOME)
@pytest.mark.parametrize("case", CASES)
def test_after_a_product(case, dtype, producer):
    function = functools.partial(getattr(jaxact, case.function), **case.parameters)
    x = inputs(jnp.dtype(dtype), positive=producer == "x * x")
    results = program(producer, function)(x, np.ones_like(x))
    at = candidates(producer, x)
    for order, y in results.items():
        y = np.asarray(y, np.float64)
        error = nearest([ulps(case, order, p, y, dtype) for p in at])
        worst = np.unravel_index(error.argmax(), error.shape)
        bound = reference.BOUNDS[dtype][order]
        assert error[worst] <= bound, f"{order}: {error[worst]} ULP at {x[worst]!r}, {y[worst]!r}"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("case", CASES)
def test_before_a_product(case, dtype):
    """The product costs half an ULP more; a sum with something as large is as good as its parts."""
    function = functools.partial(getattr(jaxact, case.function), **case.parameters)
    x = inputs(jnp.dtype(dtype), positive=False)
    c = np.asarray(C, x.dtype)

    @jax.jit
    def before(x, c):
        y, pull_back = jax.vjp(function, x)
        derivative = pull_back(jnp.ones_like(y))[0]
        return {"value": (y * c, y - c * x), "derivative": (derivative * c, derivative - c * x)}

    wide = x.astype(np.float64)
    with np.errstate(all="ignore"):
        exact = case.exact(wide)
    for order, (product, difference) in before(x, c).items():
        truth = exact[order] * np.float64(c)
        bound = 2 * reference.BOUNDS[dtype][order] + 1  # a truth just below a power of two may end up above it
        error = np.abs(np.asarray(product, np.float64) - truth)
        tiny = float(jnp.finfo(dtype).smallest_normal)
        near = np.where(case.in_window(order, wide), 2 * reference.WINDOW_ERROR, 2 * tiny)
        assert (error <= np.maximum(bound * reference.ulp(truth, dtype), near)).all(), order
        scale = reference.ulp(np.maximum(np.abs(exact[order]), np.abs(wide * np.float64(c))), dtype)
        error = np.abs(np.asarray(difference, np.float64) - (exact[order] - wide * np.float64(c)))
        assert (error <= (bound + 1) * scale).all(), order


# Up to jaxlib 0.10.0 an exponential may differ by an ULP from one program to the next.
EXPONENTIALS_DIFFER = jax.__version_info__ <= (0, 10, 0)
NORMALIZING = {"softmax": 1, "softmin": -1, "log_softmax": 1}
ALONG_ROWS = {name: functools.partial(getattr(jaxact, name), dim=-1) for name in NORMALIZING}


def log_probabilities(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


@pytest.mark.parametrize(("dtype", "producer"), SOME)
@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4, 1e10])
@pytest.mark.parametrize("name", NORMALIZING)
def test_rows_after_a_product(name, dtype, scale, producer):
    """A row and its maximum are rounded alike, also where logits are so large that an ULP of theirs is many units."""
    if dtype == "float16":
        scale = min(scale, 2e3)  # so that no product overflows
    if producer == "x * x":
        scale **= 0.5
    x = (np.random.default_rng(1).standard_normal((256, 64)) * scale).astype(jnp.dtype(dtype))
    cotangent = np.random.default_rng(2).standard_normal(x.shape).astype(x.dtype)
    function = ALONG_ROWS[name]
    y = np.asarray(value_alone(producer, function)(x), np.float64)  # without a gradient, other kernels are fused
    gradient = np.asarray(program(producer, function)(x, cotangent)["derivative"], np.float64)
    errors, gradient_errors = [], []
    sign, weights = NORMALIZING[name], cotangent.astype(np.float64)
    eps, tiny = float(jnp.finfo(dtype).eps), float(jnp.finfo(dtype).smallest_normal)
    for p in candidates(producer, x):
        logs = log_probabilities(sign * p)
        probabilities = np.exp(logs)
        truth = logs if name == "log_softmax" else probabilities
        slack = 5e-7 if name == "log_softmax" else tiny
        allowed = 6 * np.finfo(np.float32).eps * np.abs(truth) + eps * np.abs(truth) * (dtype != "float32")
        if producer == "exp(x) * constant" and EXPONENTIALS_DIFFER:
            allowed += np.abs(truth if name != "log_softmax" else 1) * eps * np.abs(p).max(-1, keepdims=True)
        errors.append(np.abs(y - truth) / np.maximum(allowed, slack))
        if name == "log_softmax":
            slope = weights - probabilities * weights.sum(-1, keepdims=True)
        else:
            slope = sign * probabilities * (weights - (probabilities * weights).sum(-1, keepdims=True))
        gradient_errors.append(np.abs(gradient - slope) / (32 * eps * np.abs(weights).sum(-1, keepdims=True)))
    # one candidate for a whole row: its elements depend on each other
    for error in (errors, gradient_errors):
        assert nearest([e.max(-1) for e in error]).max() <= 1, nearest([e.max(-1) for e in error]).max()

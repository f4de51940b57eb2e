"""A function in torch and in JAX, and what JAX does to a function, for the tests of as_jax."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn

from jaxact.interop import as_jax

# The same formula in both libraries, and the distance of their results: exp of either is within 1e-7, and the
# sums below add a few of them (measured: 3e-7).
close = functools.partial(np.testing.assert_allclose, rtol=2e-6, atol=1e-6)


def in_torch(x, y):
    return {"a": torch.sin(x) * y, "b": (torch.exp(-x).sum(), None)}


def in_jax(x, y):
    return {"a": jnp.sin(x) * y, "b": (jnp.exp(-x).sum(), None)}


def scalar(fn):
    """Return ``fn`` as a function of one array to a number."""

    def of_one(x):
        tree = fn(x, x + 2)
        return tree["a"].sum() + tree["b"][0] ** 2

    return of_one


x = jnp.linspace(-1, 1, 6).reshape(2, 3)


TRANSFORMS = {
    "call": lambda f: f,
    "jit": jax.jit,
    "grad": jax.grad,
    "grad of grad": lambda f: jax.grad(lambda x: jax.grad(f)(x).sum()),
    "jacrev of jacrev": lambda f: jax.jacrev(jax.jacrev(f)),
    "jacfwd": jax.jacfwd,
    "hessian": jax.hessian,
    "jacrev of jacfwd": lambda f: jax.jacrev(jax.jacfwd(f)),
    "jacfwd of jacfwd": lambda f: jax.jit(jax.jacfwd(jax.jacfwd(f))),
    "linearize": lambda f: lambda x: jax.linearize(f, x)[1](x),
    "jvp of grad of jvp": lambda f: (
        lambda x: jax.jvp(jax.grad(lambda x: jax.jvp(f, (x,), (jnp.cos(x),))[1]), (x,), (x,))
    ),
    "third derivative": lambda f: jax.grad(lambda x: jax.grad(lambda x: jax.grad(f)(x).sum())(x).sum()),
    "vmap": jax.vmap,
    "vmap of grad": lambda f: jax.vmap(jax.grad(f), in_axes=1),
    "grad of vmap": lambda f: jax.grad(lambda x: jax.vmap(f)(x).sum()),
    "jvp of vmap": lambda f: lambda x: jax.jvp(jax.vmap(f), (x,), (x + 1,)),
    "vmap of hessian": lambda f: jax.vmap(jax.hessian(f)),
    "hessian of vmap": lambda f: jax.hessian(lambda x: jax.vmap(f)(x).sum()),
    "vmap of vmap": lambda f: lambda x: jax.vmap(jax.vmap(f, in_axes=1))(jnp.stack([x, -x])),
    "checkpoint": lambda f: jax.grad(jax.checkpoint(f)),
    "scan": lambda f: lambda x: jax.lax.scan(lambda c, row: (c + f(row + c), c), jnp.float32(0), x),
    "grad of scan": lambda f: jax.grad(
        lambda x: jax.lax.scan(lambda c, row: (0.1 * f(row + c), None), jnp.float32(0), x)[0]
    ),
    "while and cond": lambda f: (
        lambda x: jax.lax.fori_loop(
            0, 3, lambda i, c: jax.lax.cond(i == 1, lambda c: c, lambda c: c + 0.1 * f(c), c), x
        )
    ),
}


# One by one, and by torch.func.vmap.
as_jax_by = [functools.partial(as_jax, vmap_method=method) for method in ("sequential", "batched")]


@contextlib.contextmanager
def setting(set_value, value, get_value):
    """Set one of torch's settings for a while."""
    before = get_value()
    set_value(value)
    try:
        yield
    finally:
        set_value(before)


def made(module, change):
    change(module)
    return module


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(3, 8), nn.ReLU(inplace=True), nn.BatchNorm1d(8), nn.Dropout(), nn.PReLU(), nn.Linear(8, 1)
    ).eval()

"""Complex numbers: values and gradients are torch's, but where torch has NaN for a limit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from mpmath import mp, mpc

import jaxact
from oracle import names, torch_call

INF, NAN = np.inf, np.nan
PARTS = [0.0, 0.5, 1.0, 3.0, 90.0, 100.0, 800.0, 1e30, INF]
PARTS = np.array([*PARTS, *(-p for p in PARTS), NAN])
Z = np.empty(PARTS.size**2, np.complex128)  # a sum with 1j would make NaN of an infinite part
Z.real, Z.imag = np.repeat(PARTS, PARTS.size), np.tile(PARTS, PARTS.size)
OF_COMPLEX = names("sigmoid", "tanh", "silu", "softsign", "tanhshrink")
TOLERANCES = {"complex64": 2e-6, "complex128": 1e-13}


def assert_close(ours, theirs, at, tolerance, floor):
    """Assert that the numbers agree, to the tolerance times their size or the floor, where torch's is not NaN."""
    known = ~np.isnan(theirs)  # in either part
    scale = np.where(np.isfinite(theirs), abs(theirs), 0)[known]
    for part in (np.real, np.imag):
        a, b = part(ours[known]), part(theirs[known])
        with np.errstate(invalid="ignore"):
            wrong = ~((a == b) | (abs(a - b) <= tolerance * np.maximum(scale, floor)))
        assert not wrong.any(), list(zip(at[known][wrong], ours[known][wrong], theirs[known][wrong], strict=True))[:5]


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("row", OF_COMPLEX)
def test_values_and_gradients_are_torchs(row, dtype, x64):
    z = Z.astype(dtype)
    ours, pull_back = jax.vjp(row.function, jnp.asarray(z))
    tensor = torch.tensor(np.tile(z[:, None], 32), requires_grad=row.name != "silu")  # torch has no gradient of silu
    theirs = torch_call(row, tensor, {})
    assert_close(np.asarray(ours), theirs.detach().numpy()[:, 0], z, TOLERANCES[dtype], 1e-30)
    if row.name != "silu":
        (gradient,) = torch.autograd.grad(theirs, tensor, torch.ones_like(theirs))
        conjugate = np.conj(pull_back(jnp.ones_like(ours))[0])  # as torch returns it
        assert_close(conjugate, gradient.numpy()[:, 0], z, TOLERANCES[dtype], 1)  # torch's cancel: y (1 - y), 1 - y^2


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize(
    ("name", "left", "right"), [("sigmoid", (0, 0, 0), (1, 0, 0)), ("tanh", (-1, 0, 0), (1, 0, 0))]
)
def test_limits_far_out(name, left, right, order, dtype, x64):
    """At any angle, and infinitely far at none."""
    function = getattr(jaxact, name)
    for _ in range(order):
        function = jax.grad(function, holomorphic=True)
    finite = np.abs(Z.real) > 750
    z = Z[finite & (np.isfinite(Z.imag) | np.isinf(Z.real)) & ~(np.isnan(Z.imag) & (order > 0))].astype(dtype)
    y = np.asarray(jax.vmap(function)(z))
    np.testing.assert_allclose(y, np.where(z.real < 0, left[order], right[order]), atol=1e-300)


@pytest.mark.parametrize("z", [-90 + 0j, -100 + 1j, -1000 - 3j, 90 + 0j])
@pytest.mark.parametrize("name", ["sigmoid", "silu"])
def test_gradients_where_the_exponential_overflows(name, z):
    slope = jax.grad(getattr(jaxact, name), holomorphic=True)(jnp.complex64(z))
    np.testing.assert_allclose(slope, float(z.real > 0 and name == "silu"), atol=1e-36)


def test_infinities_as_c99_has_them():
    table = {complex(INF, INF): 1, complex(-INF, 3): -1, complex(INF, -2): 1}
    for z, y in table.items():
        assert complex(jaxact.tanh(jnp.complex64(z))) == y
    at_the_pole = np.complex64(jaxact.tanh(jnp.complex64(complex(0.0, INF))))
    assert at_the_pole.real == 0
    assert np.isnan(at_the_pole.imag)
    assert complex(jaxact.sigmoid(jnp.complex64(complex(INF, INF)))) == 1


EXACT = {
    "softsign": (lambda z: z / (1 + abs(z)), None),
    "tanhshrink": (lambda z: z - mp.tanh(z), lambda z: mp.tanh(z) ** 2),
    "tanh": (mp.tanh, lambda z: mp.sech(z) ** 2),
    "sigmoid": (lambda z: 1 / (1 + mp.exp(-z)), lambda z: mp.exp(-z) / (1 + mp.exp(-z)) ** 2),
}


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", EXACT)
def test_digits_near_zero_at_poles_and_far_out(name, dtype, x64):
    """Where a difference of nearly equal numbers would lose them."""
    value, derivative = EXACT[name]
    near = np.outer(np.geomspace(1e-8, 1.3, 40), np.exp(1j * np.linspace(0, 2 * np.pi, 23))).ravel()
    poles = near[abs(near) > 1e-2] + (1j * np.pi if name == "sigmoid" else 0.5j * np.pi)
    out = np.add.outer([-30, -8.5, 3, 12, 25], 1j * np.linspace(-7, 7, 20)).ravel()
    z = np.concatenate([near, out] if name == "tanhshrink" else [near, poles, out]).astype(dtype)
    functions = {value: getattr(jaxact, name)}
    if derivative is not None:
        functions[derivative] = jax.grad(getattr(jaxact, name), holomorphic=True)
    for exact, ours in functions.items():
        with mp.workdps(60):
            expected = np.array([complex(exact(mpc(w.real, w.imag))) for w in z.astype(np.complex128)])
        np.testing.assert_array_less(abs(np.asarray(jax.vmap(ours)(z)) / expected - 1), TOLERANCES[dtype])


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_softsign_outwards_and_around(dtype, x64):
    """Its derivative is 1 / (1 + |z|)^2 outwards and 1 / (1 + |z|) around; torch's sum keeps the larger one."""
    sizes = np.array([0.0, 1e-30, 1e-3, 1.0, 1e5])
    directions = np.array([1, 1j, -1, 0.6 - 0.8j, -0.8 + 0.6j], dtype)
    z = np.outer(sizes, directions).astype(dtype)
    u = np.broadcast_to(directions, z.shape).astype(dtype)
    for turn, exact in ((1, 1 / (1 + sizes) ** 2), (1j, 1 / (1 + sizes))):
        _, tangent = jax.jvp(jaxact.softsign, (z,), (jnp.asarray(turn * u, dtype),))
        along = np.asarray(tangent / (turn * u), np.complex128).real
        np.testing.assert_allclose(along, np.broadcast_to(exact[:, None], z.shape), rtol=TOLERANCES[dtype])

"""The exact results of a call: from mpmath where there is a definition, and how far torch's are from them."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import exact as mathematics
import numpy as np
import torch
from conformance_calls import Array, Call, cotangent, is_inexact, run_torch
from mpmath import mp, mpc, mpf

from jaxact.interop import to_numpy

Mask = np.ndarray[Any, np.dtype[np.bool_]]
# How many calls to take torch's largest error from that differ from one by an ULP.
NEIGHBOURS = 8


def definition(call: Call) -> Callable[[str, Any], Any] | None:
    """Return what gives the exact value or derivative at a number; None if each result does not come from one."""
    name, parameters = call.name, {key: v for key, v in call.given.items() if key != call.first}
    if call.dtype.is_complex:
        return functools.partial(_complex, COMPLEX[name]) if name in COMPLEX else None
    if not hasattr(mathematics, name) or any(torch.is_tensor(value) for value in parameters.values()):
        return None
    accepted = inspect.signature(getattr(mathematics, name)).parameters
    parameters = {key: v for key, v in parameters.items() if key in accepted}
    return lambda order, x: float(EXACT[order](getattr(mathematics, name), x, **parameters))


EXACT = {"value": mathematics.value, "derivative": mathematics.derivative}
# Values, and gradients of the real part: the conjugate derivative, where there is one.
COMPLEX = {
    "sigmoid": (lambda z: 1 / (1 + mp.exp(-z)), lambda z: mp.conj(mp.sech(z / 2) ** 2 / 4)),
    "tanh": (mp.tanh, lambda z: mp.conj(mp.sech(z) ** 2)),
    "silu": (
        lambda z: z / (1 + mp.exp(-z)),
        lambda z: mp.conj(1 / (1 + mp.exp(-z)) + z * mp.sech(z / 2) ** 2 / 4),
    ),
    "softsign": (lambda z: z / (1 + abs(z)), lambda z: 1 / (1 + abs(z)) - z.real * mp.sign(z) / (1 + abs(z)) ** 2),
    "tanhshrink": (lambda z: z - mp.tanh(z), lambda z: mp.conj(mp.tanh(z) ** 2)),
}


def _complex(functions: tuple[Callable[[Any], Any], Callable[[Any], Any]], order: str, z: complex) -> complex:
    """Return a value or, as torch has it, the gradient of the real part.

    Where a part is infinite or NaN it is the limit, if there is one for whatever the part stands for, and else NaN.
    """
    function = functions[order == "derivative"]
    with mp.workdps(150):  # of z - tanh(z) at 1e-38 a third is left
        results = {complex(function(mpc(x, y))) for x in _stood_for(z.real) for y in _stood_for(z.imag)}
    limit = max(results, key=abs)
    return limit if all(abs(result - limit) <= 1e-12 * abs(limit) for result in results) else complex(np.nan, np.nan)


def _stood_for(part: float) -> list[float]:
    """Return numbers that a part of a complex number may stand for."""
    if np.isnan(part):
        return [-2.0, 0.3, 1.7]
    return [float(part)] if np.isfinite(part) else [np.copysign(size, part) for size in (1e6, 1.3e6, 2e6)]


def exactly(call: Call, order: str, x: Array) -> Array:
    """Return exact values or derivatives at the numbers x, one-dimensional, of a function that is defined.

    At NaN, and at complex infinities without a limit, it is not, and torch does not agree with itself: what its code
    for long arrays gives is what a user sees.
    """
    results: dict[bytes, Any] = {}
    define = definition(call)
    if define is None:
        raise ValueError(f"{call.name} has no definition at a number of {call.dtype}")
    for point in x:
        key = point.tobytes()  # NaNs are not equal, and with them complex numbers that differ
        if key in results:
            continue
        result = define(order, point) if call.dtype.is_complex or not np.isnan(point) else np.nan
        if np.isnan(result):
            long = torch.from_numpy(np.full(1024, point)).to(call.dtype)
            what = "output 0" if order == "value" else f"gradient of {call.first}"
            multiple = 1.0 if order == "value" else float(cotangent((1024,))[0])
            first = run_torch(call.replaced(**{call.first: long}))[what][:1].astype(x.dtype)
            (result,) = (first.view(first.real.dtype) / multiple).view(first.dtype)  # part by part, for an infinity
        results[key] = result
    return np.array([results[point.tobytes()] for point in x])


def exactly_attention(call: Call, what: str, wanted: Mask) -> Array:
    """Return exact gradients of multi-head attention where they are wanted: quotients of differences of 1e-30."""
    with mp.workdps(100):
        given = {
            key: np.vectorize(mpf, otypes=[object])(to_numpy(value.detach()).astype(np.float64))
            if is_inexact(value)
            else (to_numpy(value) if torch.is_tensor(value) else value)
            for key, value in call.given.items()
        }
        values = given[what.removeprefix("gradient of ")]

        def objective(index: tuple[int, ...], step: mpf) -> mpf:
            before = values[index]
            values[index] = before + step
            outputs = mathematics.multi_head_attention_forward(**given)
            values[index] = before
            return sum((cotangent(y.shape) * y).sum() for y in outputs[: 1 + given.get("need_weights", True)])

        step = mpf(10) ** -30
        differences = [objective(tuple(i), step) - objective(tuple(i), -step) for i in np.argwhere(wanted)]
        return np.array([float(difference / (2 * step)) for difference in differences])


def largest_errors(call: Call) -> dict[str, float]:
    """Return torch's largest error in each output and gradient, for a call and some that differ by an ULP.

    It is taken from the exact results of the call itself, and so is as large as a rounding of the input makes it,
    however lucky torch is with this one. In float64 torch is its own reference: its error is part of the distance to
    it, and counts once more; and it is at least the one in float32, scaled.
    """
    if torch.float64 not in (call.dtype, call.given.get("dtype")):
        return _errors_around(call)
    scale = float(torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps)
    narrow = _errors_around(call.narrowed())
    return {what: 1.5 * max(error, scale * narrow[what]) for what, error in _errors_around(call).items()}


def _errors_around(call: Call) -> dict[str, float]:
    """Return the largest errors of a call and its neighbours; subnormal numbers are flushed to 0, as XLA does it."""
    exact = run_torch(call.widened())
    rng = np.random.default_rng(0)
    worst = dict.fromkeys(exact, 0.0)
    torch.set_flush_denormal(True)
    try:
        results = [run_torch(near) for near in [call, *(call.moved(rng) for _ in range(NEIGHBOURS))]]
    finally:
        torch.set_flush_denormal(False)
    for result in results:
        for what, y in result.items():
            error = np.abs(y.astype(exact[what].dtype) - exact[what])
            worst[what] = max(worst[what], float(error.max(initial=0.0, where=np.isfinite(error))))
    return worst

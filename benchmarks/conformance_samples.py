"""PyTorch's own test inputs, run through torch and through jaxact, and judged.

PyTorch's test suite describes each operation by an OpInfo, which makes inputs for it: samples, and for functions of
one array also large, tiny, infinite, NaN, empty and non-contiguous ones, its "reference inputs". What jaxact gives
for one, value or gradient, is right if

- it has torch's shape and dtype, and every integer and boolean is torch's;
- every float is no farther from the exact result than twice torch's own, or within the bounds of ``reference.py``
  (for complex numbers than twice torch's farthest of an array, or within the bounds here, in ULPs of their modulus);
  but never NaN where the exact result is not, nor 0 in a tail where it is a normal number. The exact result is
  torch's in float64 or complex128, except where jaxact's is not right by that, or that is NaN or 0 in a tail: there
  mpmath knows better, and at NaN torch's code for long arrays has the word;
- torch refuses the input, and jaxact does.

Torch keeps all this private, and its import changes the process (the profile of hypothesis, torch's flags), so it
is for a process of its own, and needs the package expecttest.
"""

import dataclasses
import functools
import inspect
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import exact as mathematics
import jax
import jax.numpy as jnp
import numpy as np
import torch
from mpmath import mp, mpc, mpf
from reference import BOUNDS, CASES, SUBNORMAL_BOUND, WINDOW, WINDOW_ERROR, ulp

import jaxact
from jaxact.catalog import BY_NAME
from jaxact.interop import to_jax, to_numpy

Array = np.ndarray[Any, Any]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
Arguments = dict[str, Any]  # of a call, by name, the input first
Results = dict[str, Array]  # of a call: outputs and gradients, by what they are

# In the order in which they are run.
DTYPES = {str(dtype)[6:]: dtype for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64)}
DTYPES |= {str(dtype)[6:]: dtype for dtype in (torch.complex64, torch.complex128, torch.bool, torch.uint8)}
DTYPES |= {str(dtype)[6:]: dtype for dtype in (torch.int8, torch.int16, torch.int32, torch.int64)}
QUICK_DTYPES, QUICK_SAMPLES = ("float32", "bfloat16"), 4

# Functions without samples, and why.
WITHOUT = {
    "softmax2d": "torch has it as a module only, which no OpInfo describes",
    "gumbel_softmax": "draws at random, and no OpInfo describes it",
    "adaptive_log_softmax_with_loss": "torch has it as a module only, which no OpInfo describes",
    "adaptive_log_softmax_log_prob": "torch has it as a module only, which no OpInfo describes",
}
# What jaxact refuses on purpose, with the error it raises.
REFUSED = {
    ("threshold", "uint8"): (OverflowError, "refused: a negative value for unsigned integers, which torch wraps"),
    ("softmax", "complex64"): (TypeError, "refused: dtype= a real one, for which torch drops the imaginary part"),
}
REFUSED |= {(name, "complex64"): REFUSED["softmax", "complex64"] for name in ("softmin", "log_softmax")}
REFUSED |= {(name, "complex128"): REFUSED[name, "complex64"] for name in ("softmax", "softmin", "log_softmax")}
# What takes more than one number for a number of the output: mpmath does not decide here.
MIXED = {"glu", "softmax", "softmin", "log_softmax", "scaled_dot_product_attention", "multi_head_attention_forward"}
# How many numbers of an array mpmath is asked for at most: torch's arrays have up to a million. Half are those where
# jaxact is farthest from torch, and half are spread evenly over the others.
MOST = 2000
# A multiple of how many numbers torch's code for long arrays takes at a time.
VECTOR = 64
NEIGHBOURS = 8
COMPLEX_BOUNDS = {"value": 8.0, "derivative": 16.0}


@dataclass
class Tally:
    """What came of the inputs for one function at one dtype.

    Attributes:
        name: The function.
        dtype: The dtype of the inputs.
        samples: How many inputs both took.
        refused: How many neither took.
        outputs: How many arrays were compared as outputs,
        gradients: and how many as gradients.
        numbers: How many numbers they hold,
        unjudged: and of how many of these it is not known whether they are right: see MOST. The next four are about
            those of less precision than float64.
        nearer: How often jaxact is nearer to the exact result than torch,
        farther: and how often farther.
        torch_wrong: How often torch is NaN where the exact result is not, or 0 where it is a normal number. This
            is counted only where each number comes from one,
        jaxact_wrong: and so is how often jaxact is.
        noted: How many inputs were left out or changed, by the reason.
        misses: A line for each array that is not right.
    """

    name: str
    dtype: str
    samples: int = 0
    refused: int = 0
    outputs: int = 0
    gradients: int = 0
    numbers: int = 0
    unjudged: int = 0
    nearer: int = 0
    farther: int = 0
    torch_wrong: int = 0
    jaxact_wrong: int = 0
    noted: dict[str, int] = field(default_factory=dict)
    misses: list[str] = field(default_factory=list)

    def note(self, reason: str) -> None:
        """Count an input that is left out or changed."""
        self.noted[reason] = self.noted.get(reason, 0) + 1

    def add(self, comparison: "Comparison") -> None:
        """Count which library is nearer to the exact results, and which is wrong."""
        ours, theirs = comparison.ulps
        self.nearer += int(np.count_nonzero(ours < theirs))
        self.farther += int(np.count_nonzero(ours > theirs))
        if comparison.alone:
            self.torch_wrong += int(np.count_nonzero(comparison.lost(comparison.theirs)))
            self.jaxact_wrong += int(np.count_nonzero(comparison.lost(comparison.ours)))


# Torch's inputs


@functools.cache
def op_infos() -> list[Any]:
    """Return torch's descriptions of all its operations.

    Raises:
        ImportError: If a package is missing that torch's test suite needs.
    """
    try:
        from torch.testing._internal.common_methods_invocations import op_db
    except ImportError as error:
        message = f"torch {torch.__version__} cannot import its test inputs ({error}); pip install expecttest scipy"
        raise ImportError(message) from error
    return list(op_db)


def operations(name: str) -> list[Any]:
    """Return the OpInfos of a function: one, or one more for some of its dtypes or parameters."""
    return [op for op in op_infos() if op.name in (name, f"nn.functional.{name}")]


def dtypes(op: Any) -> list[str]:
    """Return the dtypes that torch's operation takes on a CPU, and JAX has."""
    return [name for name, dtype in DTYPES.items() if dtype in op.dtypes]


def inputs(op: Any, dtype: torch.dtype, quick: bool) -> Iterator[Any]:
    """Yield torch's inputs for an operation, all of them or a few; with float32 also those that it has to refuse."""
    torch.manual_seed(0)
    if quick:
        samples = list(op.sample_inputs("cpu", dtype))
        chosen = np.random.default_rng(0).permutation(len(samples))[:QUICK_SAMPLES]
        yield from (samples[number] for number in sorted(chosen))
    else:
        yield from op.reference_inputs("cpu", dtype)  # the samples among them
    if dtype == torch.float32 and op.error_inputs_func is not None:
        yield from (error.sample_input for error in op.error_inputs("cpu"))


@dataclass(eq=False)
class Call:
    """A call of a function in both libraries.

    Attributes:
        op: Torch's operation.
        name: The function in jaxact.
        given: The arguments, of torch, by jaxact's names, the input first.
        wanted: Of which arguments the gradient is wanted.
    """

    op: Any
    name: str
    given: Arguments
    wanted: list[str]

    @property
    def first(self) -> str:
        """What the input is called."""
        return next(iter(self.given))

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the input."""
        return self.given[self.first].dtype

    @functools.cached_property
    def x(self) -> Array:
        """The input."""
        return to_numpy(self.given[self.first].detach())

    def replaced(self, **arguments: Any) -> "Call":
        """Return the call with other arguments."""
        return Call(self.op, self.name, self.given | arguments, self.wanted)

    def widened(self) -> "Call":
        """Return the call in float64 and complex128, the input rounded to the argument ``dtype`` first."""
        given = self.given
        if (asked := given.get("dtype")) is not None:
            given = given | {self.first: given[self.first].to(asked), "dtype": _wide(asked)}
        wide = {k: v.to(_wide(v.dtype)) for k, v in given.items() if is_inexact(v) or k == self.first}
        return self.replaced(**given | wide)

    def narrowed(self) -> "Call":
        """Return the call in float32."""
        narrow = {k: v.to(torch.float32) for k, v in self.given.items() if is_inexact(v)}
        return self.replaced(**narrow, **({"dtype": torch.float32} if "dtype" in self.given else {}))

    def moved(self, rng: np.random.Generator) -> "Call":
        """Return the call with each float up or down by an ULP."""

        def near(value: torch.Tensor) -> torch.Tensor:
            step = torch.finfo(value.dtype).eps * torch.from_numpy(rng.choice([-1.0, 1.0], tuple(value.shape)))
            return value * (1 + step).to(value.dtype)

        return self.replaced(**{k: near(v) for k, v in self.given.items() if is_inexact(v)})

    def __str__(self) -> str:
        def shown(value: Any) -> str:
            return f"{str(value.dtype)[6:]}{list(value.shape)}" if torch.is_tensor(value) else repr(value)

        first, *rest = self.given
        return ", ".join([shown(self.given[first])] + [f"{name}={shown(self.given[name])}" for name in rest])


def call(op: Any, name: str, sample: Any, dtype: torch.dtype, tally: Tally) -> Call | None:
    """Return the call for one of torch's inputs; None if the result would be random.

    Args:
        op: Torch's operation.
        name: The function.
        sample: Torch's description of the input.
        dtype: The dtype of the input.
        tally: Where to write down what is left out or changed.
    """
    names = inspect.signature(getattr(jaxact, name)).parameters
    given = dict(zip(names, [sample.input, *sample.args], strict=False)) | sample.kwargs
    given.pop("inplace", None)
    if name == "rrelu" and given.get("training"):
        tally.note("left out: draws at random")
        return None
    if given.get("dropout_p"):
        tally.note("run without dropout")
        given["dropout_p"] = 0.0
    differentiable = dtype in op.supported_backward_dtypes("cpu")
    return Call(op, name, given, [k for k, v in given.items() if differentiable and is_inexact(v) and v.dtype == dtype])


def is_inexact(value: Any) -> bool:
    """Say whether a value is a tensor of floats or complex numbers."""
    return torch.is_tensor(value) and (value.is_floating_point() or value.is_complex())


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.complex128 if dtype.is_complex else torch.float64


# Running the libraries


def cotangent(shape: tuple[int, ...]) -> Array:
    """Return what a gradient is taken for: powers of 2, which round nothing, of both signs, always the same."""
    return np.random.default_rng(0).choice(np.array([-2.0, -1.0, 1.0, 2.0]), shape)


def run_torch(call: Call) -> Results:
    """Return torch's outputs, and the gradients of the arguments that are wanted."""
    given = call.given | {name: call.given[name].detach().requires_grad_() for name in call.wanted}
    first, *rest = given
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, as of an imaginary part dropped
        outputs = _flat(call.op.op(given[first], **{name: given[name] for name in rest}))
        results = {f"output {i}": y.detach() for i, y in enumerate(outputs)}
        if call.wanted:
            cotangents = [torch.from_numpy(cotangent(tuple(y.shape))).to(y.dtype) for y in outputs]
            leaves = [given[name] for name in call.wanted]
            gradients = torch.autograd.grad(outputs, leaves, cotangents, allow_unused=True, materialize_grads=True)
            results |= {f"gradient of {name}": g for name, g in zip(call.wanted, gradients, strict=True)}
    return {what: to_numpy(result.resolve_conj()) for what, result in results.items()}


def run_jaxact(call: Call) -> Results:
    """Return jaxact's outputs, and the gradients of the arguments that are wanted, conjugated as torch has them."""
    given = {key: _converted(value) for key, value in call.given.items()}
    first, *rest = given

    def function(leaves: Arguments) -> list[jax.Array]:
        full = given | leaves
        return _flat(getattr(jaxact, call.name)(full[first], **{key: full[key] for key in rest}))

    outputs = function({})
    results = {f"output {i}": y for i, y in enumerate(outputs)}
    if call.wanted:
        _, pull_back = jax.vjp(function, {key: given[key] for key in call.wanted})
        (gradients,) = pull_back([jnp.asarray(cotangent(y.shape), y.dtype) for y in outputs])
        results |= {f"gradient of {key}": np.conj(g) if np.iscomplexobj(g) else g for key, g in gradients.items()}
    return {what: np.asarray(result) for what, result in results.items()}


def _flat(outputs: Any) -> list[Any]:
    """Return one output or several, of which some may be None, as a list."""
    return [y for y in (outputs if isinstance(outputs, tuple) else (outputs,)) if y is not None]


def _converted(value: Any) -> Any:
    if isinstance(value, torch.dtype):
        return jnp.dtype(str(value)[6:])
    return to_jax(value.detach()) if torch.is_tensor(value) else value


# The exact results


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
    for point in x:
        key = point.tobytes()  # NaNs are not equal, and with them complex numbers that differ
        if key in results:
            continue
        result = definition(call)(order, point) if call.dtype.is_complex or not np.isnan(point) else np.nan
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


# Judging


def distance(y: Array, exact: Array) -> Array:
    """Return how far results are from the exact ones; 0 where both are NaN or the same infinity.

    An infinity counts as the number at which the dtype of ``y`` overflows, so that a result may round to it.
    """
    overflow = 2.0 ** jnp.finfo(y.dtype).maxexp if jnp.finfo(y.dtype).maxexp < 1024 else np.inf
    total = np.zeros(y.shape)
    for part in (np.real, np.imag) if np.iscomplexobj(y) else (np.real,):
        a, b = np.clip(part(y).astype(np.float64), -overflow, overflow), np.clip(part(exact), -overflow, overflow)
        difference = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
        total = np.hypot(total, np.where(np.isnan(difference), np.inf, difference))
    return total


@dataclass(frozen=True, eq=False)
class Comparison:
    """An array from jaxact beside torch's and the exact one.

    Attributes:
        order: "value" or "derivative".
        alone: Whether each number comes from one number.
        ours: jaxact's, floats or complex numbers.
        theirs: torch's, of the same dtype.
        exact: The exact results, in float64 or complex128.
        forgiven: How far off a number may be whatever its size.
        unjudged: Where the exact results are not known.
    """

    order: str
    alone: bool
    ours: Array
    theirs: Array
    exact: Array
    forgiven: Array | float = 0.0
    unjudged: Mask | bool = False

    @functools.cached_property
    def error(self) -> Array:
        """The errors of jaxact."""
        return distance(self.ours, self.exact)

    @functools.cached_property
    def ulps(self) -> tuple[Array, Array]:
        """The errors of jaxact and torch in ULPs."""
        size = np.abs(np.where(np.isfinite(self.exact), self.exact, 1.0))
        unit = ulp(size, jnp.finfo(self.ours.dtype).dtype)
        return self.error / unit, distance(self.theirs, self.exact) / unit

    @functools.cached_property
    def right(self) -> Mask:
        """Where jaxact is right."""
        tiny = float(jnp.finfo(self.ours.dtype).smallest_normal)
        bound = BOUNDS[str(jnp.finfo(self.ours.dtype).dtype)][self.order]
        ours, theirs = self.ulps
        if np.iscomplexobj(self.ours):
            farthest = np.max(theirs, initial=0.0, where=np.isfinite(theirs))
            bound, theirs = COMPLEX_BOUNDS[self.order], np.maximum(theirs, farthest)
        right = (ours <= np.maximum(bound, 2 * theirs)) | (self.error <= self.forgiven)
        right |= (np.abs(self.exact) < tiny) & (self.error <= SUBNORMAL_BOUND * tiny)
        right |= self.unjudged
        return right & ~self.lost(self.ours)

    def lost(self, y: Array) -> Mask:
        """Return where results are NaN and the exact one is not, or, alone, 0 where it is a normal number."""
        normal = np.abs(self.exact) >= float(jnp.finfo(y.dtype).smallest_normal)
        return (np.isnan(y) & ~np.isnan(self.exact)) | (self.alone & (y == 0) & normal)


def compared(call: Call, what: str, ours: Array, theirs: Array, exact: Array) -> Comparison:
    """Compare a result with torch's, and with better ones than its in float64 where these are not exact."""
    order = "value" if what.startswith("output") else "derivative"
    alone = call.name not in MIXED and what in ("output 0", f"gradient of {call.first}")
    comparison = Comparison(order, alone, ours, theirs, exact)
    if alone:
        multiple = np.ones(exact.shape) if order == "value" else cotangent(exact.shape)
        comparison = dataclasses.replace(comparison, forgiven=_around_zeros(call, order) * np.abs(multiple))
        doubtful = ~comparison.right | np.isnan(exact)
        if BY_NAME[call.name].family not in ("rectifiers", "hard"):
            doubtful |= (exact == 0) & (call.x != 0)  # a tail that is lost in float64 too, where jaxact may lose it
        if doubtful.any() and definition(call) is not None:
            undefined = doubtful & np.isnan(call.x)
            exact, chosen = exact.copy(), undefined | _chosen(doubtful & ~undefined, comparison.ulps[0])
            exact[chosen] = exactly(call, order, call.x[chosen].astype(exact.dtype)) * multiple[chosen]
            unjudged = doubtful & ~chosen
            comparison = dataclasses.replace(comparison, exact=exact, unjudged=unjudged)
        return comparison
    if call.name == "multi_head_attention_forward" and order == "derivative" and call.dtype == torch.float64:
        wrong = ~comparison.right  # torch's float64, which cancels where a weight is nearly 1, does not decide it
        if wrong.any():
            exact = exact.copy()
            exact[wrong] = exactly_attention(call, what, wrong)
            comparison = dataclasses.replace(comparison, exact=exact)
    if not comparison.right.all() and not np.iscomplexobj(ours):
        comparison = dataclasses.replace(comparison, forgiven=2 * largest_errors(call)[what])
    return comparison


def _chosen(doubtful: Mask, error: Array) -> Mask:
    """Return at most MOST of the doubtful numbers."""
    by_error = np.flatnonzero(doubtful)[np.argsort(-error[doubtful], kind="stable")]
    others = by_error[MOST // 2 :]
    spread = others[np.linspace(0, others.size - 1, min(others.size, MOST // 2)).astype(int)]
    chosen = np.zeros(doubtful.shape, bool)
    chosen.flat[np.append(by_error[: MOST // 2], spread)] = True
    return chosen


def _around_zeros(call: Call, order: str) -> Array | float:
    """Return the absolute error that is none, for a derivative around its own zero."""
    zeros = [case.zero for case in CASES.values() if case.function == call.name and case.zero is not None]
    if order == "value" or not zeros or np.iscomplexobj(call.x):
        return 0.0
    nearest = np.min([np.abs(call.x.astype(np.float64) - zero) for zero in zeros], axis=0)
    return np.where(nearest <= WINDOW, WINDOW_ERROR, 0.0)


def judge(call: Call, theirs: Results, ours: Results, tally: Tally) -> None:
    """Judge what jaxact gives for a call that both take, and write down what comes of it."""
    exact = run_torch(call.widened())
    for what, result in theirs.items():
        tally.outputs += what.startswith("output")
        tally.gradients += what.startswith("gradient")
        tally.numbers += result.size
        error = _unlike(ours[what], result) or _unequal(ours[what], result)
        if error is None and result.dtype.kind not in "biu":
            with np.errstate(all="ignore"):
                comparison = compared(call, what, ours[what], result, exact[what])
                error = _off(comparison, call.x) or _other_zero(comparison, call)
                tally.unjudged += int(np.count_nonzero(comparison.unjudged))
                if exact[what].dtype != result.dtype:
                    tally.add(comparison)
        if error is not None:
            tally.misses.append(f"{call}: {what}{error}")


def _unlike(ours: Array, theirs: Array) -> str | None:
    if (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype):
        return None
    return f" is {ours.dtype}{list(ours.shape)}, torch's {theirs.dtype}{list(theirs.shape)}"


def _unequal(ours: Array, theirs: Array) -> str | None:
    if ours.dtype.kind not in "biu" or (ours == theirs).all():
        return None
    where = _first(ours != theirs)
    return f"{list(where)} is {ours[where]}, torch's {theirs[where]}"


def _off(c: Comparison, x: Array) -> str | None:
    if c.right.all():
        return None
    where = _first(~c.right)
    ours, theirs = (errors[where] for errors in c.ulps)
    at = f" at {x[where]!r}" if c.alone else ""
    return (
        f"{list(where)}{at} is {c.ours[where]!r}, torch's {c.theirs[where]!r}, exact {c.exact[where]!r}: "
        f"{ours:.3g} ULP, torch {theirs:.3g} ({np.count_nonzero(~c.right):,} of {c.ours.size:,} numbers)"
    )


def _other_zero(c: Comparison, call: Call) -> str | None:
    """Return what to say where a value is not the zero that torch has at both precisions, and in long arrays."""
    if not c.alone or c.order != "value" or np.iscomplexobj(c.ours):
        return None
    ours, theirs, exact = (np.signbit(y.astype(np.float64)) for y in (c.ours, c.theirs, c.exact))
    other = (c.ours == 0) & (c.theirs == 0) & (c.exact == 0) & (ours != theirs) & (exact == theirs)
    if other.any() and definition(call) is not None:
        long = torch.from_numpy(np.repeat(call.x[other].astype(np.float64), VECTOR)).to(call.dtype)
        again = run_torch(call.replaced(**{call.first: long}))["output 0"][::VECTOR]
        other[other] = np.signbit(again.astype(np.float64)) != ours[other]
    if not other.any():
        return None
    where = _first(other)
    return f"{list(where)} at {call.x[where]!r} is {c.ours[where]!r}, torch's {c.theirs[where]!r}"


def _first(mask: Mask) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(mask)[0])


def conform(op: Any, name: str, dtype: str, quick: bool = False) -> Tally:
    """Run torch's inputs for one operation at one dtype through both libraries.

    Args:
        op: Torch's OpInfo.
        name: The function.
        dtype: The dtype of the inputs.
        quick: Whether to run a few samples only.
    """
    tally = Tally(name, dtype)
    refused_on_purpose, reason = REFUSED.get((name, dtype), ((), ""))
    for number, sample in enumerate(inputs(op, DTYPES[dtype], quick)):
        made = call(op, name, sample, DTYPES[dtype], tally)
        if made is None:
            continue
        theirs, ours = _attempt(run_torch, made), _attempt(run_jaxact, made)
        before = len(tally.misses)
        if isinstance(theirs, dict) and isinstance(ours, dict):
            tally.samples += 1
            judge(made, theirs, ours, tally)
        elif isinstance(theirs, Exception) and isinstance(ours, (TypeError, ValueError, OverflowError)):
            tally.refused += 1
        elif refused_on_purpose and isinstance(ours, refused_on_purpose):
            tally.note(reason)
        else:
            told = [_line(result) if isinstance(result, Exception) else "takes it" for result in (ours, theirs)]
            tally.misses.append(f"{made}: jaxact: {told[0]}; torch: {told[1]}")
        tally.misses[before:] = [f"{name}, {dtype}, input {number}, {line}" for line in tally.misses[before:]]
    return tally


def _attempt(run: Callable[[Call], Results], call: Call) -> Results | Exception:
    try:
        return run(call)
    except Exception as error:  # of whatever type: the caller says which are right
        return error


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"

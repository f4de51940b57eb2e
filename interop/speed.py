"""How fast the activations are, beside torch, ``torch.compile``, ``jax.nn`` and what no function could beat.

All contenders for one job take turns in one process, and medians are compared. Page faults of fresh outputs
and spinning threads would swamp the kernels: run it under :data:`jaxact.interop.bench.ENVIRONMENT`.
"""

import datetime
import functools
import inspect
import math
import os
import platform
import random
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.utils.dlpack import from_dlpack

import jaxact
from jaxact.catalog import BY_NAME, CATALOG

from ._as_torch import as_torch
from ._to_jax import to_jax
from ._to_numpy import to_numpy
from ._to_torch import to_torch
from .counterparts import counterpart

DIRECTIONS = ("forward", "with backward")
DTYPES = ("float32", "bfloat16")
PEERS = ("torch", "torch.compile", "jax.nn")

# What is within noise of the bound holds it.
NOISE = 1.1
CALL_BOUND = 1.5
IMPORT_BOUND = 0.05
MEMORY_BOUND = 1.0
COPY_BOUND = 0.9
CONVERSION_BOUND = 3.0  # microseconds above the framework's own

# A row of a softmax, and the inputs of an eager call.
ROW = 1024
MLP_BATCH = 64
MLP_DEPTH = 16

# After so many seconds the contenders for one job go home, if they have had so many rounds.
PATIENCE = 5.0
FEWEST_ROUNDS = 10

# Matrix products make up their time, so that x + 1 is no measure for them.
APART = frozenset({"multi_head_attention_forward", "adaptive_log_softmax_with_loss", "adaptive_log_softmax_log_prob"})

# All axes but the first of what takes no rows, for inputs of few elements and of many.
SHAPES = {
    "softmax2d": ((16, 8, 8), (16, 32, 32)),
    "scaled_dot_product_attention": ((1, 16, 64), (8, 256, 64)),
}

# A contender does its job so many times, and waits until it is done.
Contender = Callable[[int], None]
Times = dict[str, float]


# The contenders

# What one writes with jax.nn for the function of that name, by the same parameters.
JAX_NN: dict[str, Callable[..., jax.Array]] = {
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "leaky_relu": jax.nn.leaky_relu,
    "prelu": lambda x, weight: jax.nn.leaky_relu(x, weight),
    "rrelu": lambda x: jax.nn.leaky_relu(x, (1 / 8 + 1 / 3) / 2),
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "celu": jax.nn.celu,
    "softplus": jax.nn.softplus,
    "logsigmoid": jax.nn.log_sigmoid,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "softsign": jax.nn.soft_sign,
    "tanhshrink": lambda x: x - jnp.tanh(x),
    "hardtanh": jax.nn.hard_tanh,
    "hardsigmoid": jax.nn.hard_sigmoid,
    "hardswish": jax.nn.hard_swish,
    "silu": jax.nn.silu,
    "gelu": lambda x, approximate="none": jax.nn.gelu(x, approximate=approximate == "tanh"),
    "mish": jax.nn.mish,
    "glu": jax.nn.glu,
    "softmax": lambda x, dim: jax.nn.softmax(x, axis=dim),
    "softmin": lambda x, dim: jax.nn.softmax(-x, axis=dim),
    "log_softmax": lambda x, dim: jax.nn.log_softmax(x, axis=dim),
    "softmax2d": lambda x: jax.nn.softmax(x, axis=-3),
    "gumbel_softmax": lambda x, key: jax.nn.softmax(x + jax.random.gumbel(key, x.shape, x.dtype)),
    "scaled_dot_product_attention": lambda q, k, v: jnp.swapaxes(
        jax.nn.dot_product_attention(*(jnp.swapaxes(x, 1, 2) for x in (q, k, v))), 1, 2
    ),
}


@dataclass(frozen=True)
class Case:
    """A function to measure, at its default parameters where it has some.

    Attributes:
        name: The name of the function, and of the variant.
        function: The function in the catalog.
        parameters: Its parameters; a "key" only JAX knows.
        inputs: How many inputs it takes, the same array each.
    """

    name: str
    function: str
    parameters: Mapping[str, Any]
    inputs: int = 1

    def jaxact(self, x: jax.Array) -> jax.Array:
        """Return jaxact's output."""
        return BY_NAME[self.function].function(*[x] * self.inputs, **self.parameters)

    def jax_nn(self, x: jax.Array) -> jax.Array:
        """Return jax.nn's output, if the function is in JAX_NN."""
        return JAX_NN[self.function](*[x] * self.inputs, **self.parameters)

    def torch(self, like: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return torch's function of one tensor, for tensors of this dtype and on this device."""
        row, inputs = BY_NAME[self.function], self.inputs
        parameters = {name: value for name, value in self.parameters.items() if name != "key"}
        function = counterpart(row, parameters, like)
        return lambda x: function(*[x] * inputs)

    def shape(self, size: int) -> tuple[int, ...]:
        """Return the shape of an input of so many elements, a multiple of ROW."""
        small, large = SHAPES.get(self.function, ((ROW,), (ROW,)))
        return -1, *(small if size % math.prod(large) else large)


def _cases() -> dict[str, Case]:
    cases = []
    for row in CATALOG:
        if row.name in APART:
            continue
        arguments = inspect.signature(row.function).parameters
        required = {k: v for k, v in row.parameters.items() if arguments[k].default is inspect.Parameter.empty}
        if row.name == "gumbel_softmax":
            required["key"] = jax.random.key(0)
        cases.append(Case(row.name, row.name, required, row.inputs))
        if row.name == "gelu":
            cases.append(Case("gelu_tanh", "gelu", {"approximate": "tanh"}))
    return {case.name: case for case in cases}


CASES = _cases()


def on_gpu() -> bool:
    """Say whether JAX runs on a GPU."""
    return bool(jax.default_backend() == "gpu")


@functools.lru_cache(maxsize=2)
def normal(size: int, dtype: str, seed: int) -> jax.Array:
    """Return normal numbers of standard deviation 3."""
    numbers = np.random.default_rng(seed).standard_normal(size, np.float32)
    return jnp.asarray(3 * numbers).astype(dtype)


def with_backward(function: Callable[[jax.Array], jax.Array]) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Return a function of input and cotangent that gives the output and the input's gradient."""

    def both(x: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
        y, pull_back = jax.vjp(function, x)
        return y, pull_back(cotangent)[0]

    return both


def _jax_contender(function: Callable[..., Any], *arrays: jax.Array) -> Contender:
    compiled = jax.jit(function)

    def run(calls: int) -> None:
        for _ in range(calls):
            out = compiled(*arrays)
        jax.block_until_ready(out)

    return run


def _torch_contender(
    function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, cotangent: torch.Tensor | None
) -> Contender:
    def run(calls: int) -> None:
        for _ in range(calls):
            out = function(x)
            if cotangent is not None:
                torch.autograd.grad(out, x, cotangent)
        if x.is_cuda:
            torch.cuda.synchronize()

    return run


def _compiled_contender(
    name: str, function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, cotangent: torch.Tensor | None
) -> Contender | None:
    """Return the contender of ``torch.compile``, or None where that fails, for want of a C++ compiler perhaps."""
    torch.compiler.reset()  # it would go on uncompiled after eight functions of the same code
    contender = _torch_contender(torch.compile(function, dynamic=False), x, cotangent)
    try:
        contender(1)
    except RuntimeError as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        warnings.warn(f"torch.compile of {name} failed and is left out: {reason}", stacklevel=2)
        return None
    return contender


def interleaved(contenders: Mapping[str, Contender], rounds: int, calls: int = 1) -> Times:
    """Return the median time of one call of each contender, in seconds.

    Args:
        contenders: What to time. In every round they come in another order.
        rounds: How many rounds; FEWEST_ROUNDS will do where they take long.
        calls: How many calls to time at once.
    """
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for contender in contenders.values():
        contender(calls)
    order = list(contenders)
    rng = random.Random(0)
    begin = time.perf_counter()
    for done in range(rounds):
        if done >= FEWEST_ROUNDS and time.perf_counter() - begin > PATIENCE:
            break
        rng.shuffle(order)
        for name in order:
            start = time.perf_counter()
            contenders[name](calls)
            samples[name].append((time.perf_counter() - start) / calls)
    return {name: statistics.median(seconds) for name, seconds in samples.items()}


# Kernels


@dataclass(frozen=True)
class Kernel:
    """The times of one function at one size, type and direction.

    Attributes:
        function: One of CASES.
        direction: One of DIRECTIONS.
        dtype: The type.
        size: How many elements the input has.
        milliseconds: The median of each contender; "floor" is ``x + 1`` (with backward also ``x * cotangent``) in
            XLA, and "copy", on a GPU and of functions of one array, is a copy of the input.
        traffic: What must be read and written at least, over what a copy of the input reads and writes.
    """

    function: str
    direction: str
    dtype: str
    size: int
    milliseconds: Times
    traffic: float

    def ratio(self, *peers: str) -> float:
        """Return the time of jaxact over that of the fastest of the peers, or of the floor where that is slower."""
        present = [self.milliseconds[peer] for peer in peers if peer in self.milliseconds]
        return self.milliseconds["jaxact"] / max(self.milliseconds["floor"], min(present, default=0.0))

    def bound_ratio(self, accurate: Iterable[str] = ()) -> float:
        """Return the ratio that is bounded: to the floor, jax.nn and those of the peers that are as accurate."""
        return self.ratio("jax.nn", *accurate)

    @property
    def aim_ratio(self) -> float:
        """The ratio that is aimed at: to the floor or the fastest peer."""
        return self.ratio(*PEERS)

    @property
    def copy_share(self) -> float | None:
        """The share of the bandwidth of a copy, where that was measured."""
        copy = self.milliseconds.get("copy")
        return None if copy is None else self.traffic * copy / self.milliseconds["jaxact"]


def kernel(case: Case, direction: str, dtype: str, size: int, *, rounds: int, compiled: bool) -> Kernel:
    """Measure a function.

    Args:
        case: The function.
        direction: One of DIRECTIONS.
        dtype: The type.
        size: How many elements the input has, a multiple of ROW.
        rounds: How often to measure.
        compiled: Whether ``torch.compile`` takes part, which takes seconds to start.
    """
    x = normal(size, dtype, 0).reshape(case.shape(size))
    cotangent = normal(size, dtype, 1).reshape(x.shape)
    output = jax.eval_shape(case.jaxact, x)
    functions = {"jaxact": case.jaxact}
    if case.function in JAX_NN:
        functions["jax.nn"] = case.jax_nn
    contenders: dict[str, Contender] = {}
    if direction == "forward":
        contenders["floor"] = _jax_contender(lambda x: x + 1, x)
        contenders |= {name: _jax_contender(function, x) for name, function in functions.items()}
    else:
        contenders["floor"] = _jax_contender(lambda x, cotangent: (x + 1, x * cotangent), x, cotangent)
        cotangent = cotangent.reshape(-1)[: output.size].reshape(output.shape)
        contenders |= {
            name: _jax_contender(with_backward(function), x, cotangent) for name, function in functions.items()
        }
    # torch reads the same memory, so that no library's input is the warmer one in a cache. It cannot on a GPU that
    # it does not see.
    tensor = to_torch(x)
    if tensor.is_cuda == on_gpu():
        tensor = tensor.requires_grad_(direction != "forward")
        gradient = None if direction == "forward" else to_torch(cotangent)
        function = case.torch(tensor)
        contenders["torch"] = _torch_contender(function, tensor, gradient)
        if compiled and (contender := _compiled_contender(case.name, function, tensor, gradient)):
            contenders["torch.compile"] = contender
    if on_gpu() and case.inputs == 1:
        contenders["copy"] = _jax_contender(jnp.copy, x)
    # A launch takes as long as a small kernel on a GPU: many are queued, and waited for once.
    times = interleaved(contenders, rounds, calls=20 if on_gpu() else 1)
    # With backward, input and cotangent are read, output and gradient written.
    moved = (x.size + output.size) * (1 if direction == "forward" else 2)
    return Kernel(
        function=case.name,
        direction=direction,
        dtype=dtype,
        size=size,
        milliseconds={name: 1e3 * seconds for name, seconds in times.items()},
        traffic=moved / (2 * x.size),
    )


# Calls, imports, memory, conversions


@dataclass(frozen=True)
class Call:
    """What an eager call on 1,024 float32 costs.

    Attributes:
        function: One of CASES.
        microseconds: The median of each contender; "floor" is a jitted ``x + 1``.
    """

    function: str
    microseconds: Times

    @property
    def bound_ratio(self) -> float:
        """The time of jaxact over that of a jitted ``x + 1``."""
        return self.microseconds["jaxact"] / self.microseconds["floor"]


def call(case: Case, *, rounds: int) -> Call:
    """Measure eager calls of a function."""
    x = normal(ROW, "float32", 0).reshape(case.shape(ROW))
    tensor = to_torch(x)
    add = jax.jit(lambda x: x + 1)
    functions: dict[str, Callable[[], Any]] = {"floor": lambda: add(x), "jaxact": lambda: case.jaxact(x)}
    if case.function in JAX_NN:
        functions["jax.nn"] = lambda: case.jax_nn(x)
    function = case.torch(tensor)
    functions["torch"] = lambda: function(tensor)
    return Call(case.name, _microseconds(functions, rounds))


def _microseconds(functions: Mapping[str, Callable[[], Any]], rounds: int) -> Times:
    def contender(function: Callable[[], Any]) -> Contender:
        def run(calls: int) -> None:
            for _ in range(calls):
                out = function()
            jax.block_until_ready(out)

        return run

    times = interleaved({name: contender(function) for name, function in functions.items()}, rounds, calls=100)
    return {name: 1e6 * seconds for name, seconds in times.items()}


@dataclass(frozen=True)
class Imports:
    """What importing costs in a fresh process.

    Attributes:
        jax: Median seconds of ``import jax``.
        jaxact: Median seconds of ``import jaxact`` after it.
    """

    jax: float
    jaxact: float

    @property
    def added(self) -> float:
        """The share that jaxact adds."""
        return self.jaxact / self.jax


def imports(*, rounds: int) -> Imports:
    """Measure the import in fresh processes."""
    program = (
        "import time; a = time.perf_counter(); import jax; b = time.perf_counter(); import jaxact; "
        "print(b - a, time.perf_counter() - b)"
    )
    # jax, as pip has installed it, is compiled to bytecode: jaxact from a checkout is after the first process.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    runs = []
    for _ in range(1 + rounds):
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        runs.append([float(seconds) for seconds in done.stdout.split()])
    return Imports(*map(statistics.median, zip(*runs[1:], strict=True)))


@dataclass(frozen=True)
class Temporaries:
    """The temporary memory of the compiled gradient of a deep MLP in float32.

    Attributes:
        function: One of CASES.
        bytes: The memory with jaxact's function, and with jax.nn's where it has one.
    """

    function: str
    bytes: dict[str, int]

    @property
    def bound_ratio(self) -> float | None:
        """The memory with jaxact over that with jax.nn, where jax.nn has the function."""
        return self.bytes["jaxact"] / self.bytes["jax.nn"] if "jax.nn" in self.bytes else None


def temporaries(case: Case) -> Temporaries:
    """Compile the gradient of an MLP of MLP_DEPTH layers, ROW wide, and read what memory it needs."""
    functions = {"jaxact": case.jaxact}
    if case.function in JAX_NN:
        functions["jax.nn"] = case.jax_nn
    return Temporaries(case.name, {name: _mlp_bytes(case, function) for name, function in functions.items()})


def _mlp_bytes(case: Case, function: Callable[[jax.Array], jax.Array]) -> int:
    def activation(hidden: jax.Array) -> jax.Array:
        return function(hidden.reshape(case.shape(hidden.size))).reshape(MLP_BATCH, -1)

    def loss(weights: list[jax.Array], x: jax.Array) -> jax.Array:
        for weight in weights:
            x = activation(x @ weight)
        return jnp.mean(x**2)

    # The output of glu is half as wide as its input.
    features = jax.eval_shape(activation, jax.ShapeDtypeStruct((MLP_BATCH, ROW), jnp.float32)).shape[-1]
    weights = [jax.ShapeDtypeStruct((features, ROW), jnp.float32)] * MLP_DEPTH
    x = jax.ShapeDtypeStruct((MLP_BATCH, features), jnp.float32)
    compiled = jax.jit(jax.grad(loss)).lower(weights, x).compile()
    analysis = compiled.memory_analysis()
    if analysis is None:
        raise RuntimeError(f"JAX does not say how much memory a program needs on {jax.default_backend()}")
    return int(analysis.temp_size_in_bytes)


@dataclass(frozen=True)
class Conversion:
    """What the border between frameworks costs, for 1,024 float32 on the CPU.

    Attributes:
        name: What is done.
        microseconds: The median of jaxact's way, and of the "native" one.
        bounded: Whether jaxact's may be only CONVERSION_BOUND above the native one.
    """

    name: str
    microseconds: Times
    bounded: bool

    @property
    def added(self) -> float:
        """The microseconds that jaxact's way costs more."""
        return self.microseconds["jaxact"] - self.microseconds["native"]


def conversions(*, rounds: int) -> list[Conversion]:
    """Measure the conversions of arrays, and calls through ``as_torch``."""
    x = jax.device_put(normal(ROW, "float32", 0), jax.devices("cpu")[0])
    tensor = to_torch(x, copy=True)
    array = tensor.numpy()  # aligned as XLA wants it
    tanh = as_torch(jaxact.tanh)
    leaf, cotangent = tensor.clone().requires_grad_(), torch.ones_like(tensor)
    pairs: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "JAX to torch": (lambda: to_torch(x), lambda: from_dlpack(x)),
        "JAX to NumPy": (lambda: to_numpy(x), lambda: np.from_dlpack(x)),
        "torch to JAX": (lambda: to_jax(tensor), lambda: jnp.from_dlpack(tensor)),
        "torch to NumPy": (lambda: to_numpy(tensor), lambda: np.from_dlpack(tensor)),
        "NumPy to JAX": (lambda: to_jax(array), lambda: jnp.from_dlpack(array)),
        "NumPy to torch": (lambda: to_torch(array), lambda: from_dlpack(array)),
        "as_torch(jaxact.tanh), forward": (lambda: tanh(tensor), lambda: torch.tanh(tensor)),
        "as_torch(jaxact.tanh), with backward": (
            lambda: torch.autograd.grad(tanh(leaf), leaf, cotangent),
            lambda: torch.autograd.grad(torch.tanh(leaf), leaf, cotangent),
        ),
    }
    return [
        Conversion(name, _microseconds({"jaxact": ours, "native": native}, rounds), " to " in name)
        for name, (ours, native) in pairs.items()
    ]


# Results


@dataclass(frozen=True)
class Miss:
    """A bound or an aim that is missed.

    Attributes:
        subject: The function, the import or the conversion.
        what: What was measured.
        measured: What was found.
        limit: What it should be, the noise included.
        aim: Whether this is an aim only.
    """

    subject: str
    what: str
    measured: float
    limit: float
    aim: bool = False


@dataclass(frozen=True)
class Results:
    """All that a run has found, with what it ran on.

    Attributes:
        date: The day.
        versions: The version of each library.
        device: What kind of device JAX ran on.
        cpus: How many CPUs there are.
        rounds: How often each was measured, at most.
        kernels: The kernels.
        calls: The eager calls.
        imports: The import.
        temporaries: The memory of the MLP.
        conversions: The conversions.
    """

    date: str
    versions: dict[str, str]
    device: str
    cpus: int
    rounds: int
    kernels: list[Kernel]
    calls: list[Call]
    imports: Imports
    temporaries: list[Temporaries]
    conversions: list[Conversion]

    def misses(self, accurate: Mapping[tuple[str, str], Iterable[str]] = MappingProxyType({})) -> list[Miss]:
        """Return what is missed: bounds and aims, those of the kernels at the largest size.

        Args:
            accurate: The peers that are as accurate as jaxact, by function and type, where known.
        """
        found = []
        for k in self.largest():
            where = f"{k.dtype}, {k.direction}: "
            ratio = k.bound_ratio(accurate.get((k.function, k.dtype), ()))
            if ratio > NOISE:
                found.append(Miss(k.function, f"{where}time over floor, jax.nn, accurate peer", ratio, NOISE))
            elif k.aim_ratio > NOISE:
                found.append(Miss(k.function, f"{where}time over floor, fastest peer", k.aim_ratio, NOISE, aim=True))
            if k.copy_share is not None and k.copy_share < COPY_BOUND:
                found.append(Miss(k.function, f"{where}share of the copy bandwidth", k.copy_share, COPY_BOUND))
        for call in self.calls:
            if call.bound_ratio > CALL_BOUND:
                found.append(Miss(call.function, "eager call over jitted x + 1", call.bound_ratio, CALL_BOUND))
        if self.imports.added > IMPORT_BOUND:
            found.append(Miss("import jaxact", "time over that of import jax", self.imports.added, IMPORT_BOUND))
        for memory in self.temporaries:
            if memory.bound_ratio is not None and memory.bound_ratio > MEMORY_BOUND:
                found.append(Miss(memory.function, "memory of the MLP over jax.nn", memory.bound_ratio, MEMORY_BOUND))
        for conversion in self.conversions:
            if conversion.bounded and conversion.added > CONVERSION_BOUND:
                found.append(
                    Miss(conversion.name, "microseconds above from_dlpack", conversion.added, CONVERSION_BOUND)
                )
        return found

    def largest(self) -> list[Kernel]:
        """Return the kernels at the largest size, to which the bounds apply."""
        size = max((k.size for k in self.kernels), default=0)
        return [k for k in self.kernels if k.size == size]

    def to_json(self) -> dict[str, Any]:
        """Return the figures and what is missed, as data."""
        return asdict(self) | {"misses": [asdict(miss) for miss in self.misses()]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Results":
        """Return the results that ``to_json`` has given away."""
        fields: dict[str, Any] = {key: value for key, value in data.items() if key != "misses"}
        return cls(
            **fields
            | {
                "kernels": [Kernel(**entry) for entry in fields["kernels"]],
                "calls": [Call(**entry) for entry in fields["calls"]],
                "imports": Imports(**fields["imports"]),
                "temporaries": [Temporaries(**entry) for entry in fields["temporaries"]],
                "conversions": [Conversion(**entry) for entry in fields["conversions"]],
            }
        )


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        functions: Some of CASES.
        sizes: How many elements the inputs have, multiples of ROW.
        dtypes: Their types.
        compiled: Whether ``torch.compile`` takes part, at the largest size.
        rounds: How often to measure, at most.
    """

    functions: tuple[str, ...]
    sizes: tuple[int, ...]
    dtypes: tuple[str, ...]
    compiled: bool
    rounds: int

    @property
    def steps(self) -> int:
        """How often ``run`` reports a step."""
        functions = len(self.functions)
        return functions * len(self.sizes) * len(self.dtypes) * len(DIRECTIONS) + 2 * functions + 2


def full() -> Plan:
    """Return the plan for numbers to show."""
    if on_gpu():
        return Plan(tuple(CASES), (2**22, 2**28), DTYPES, compiled=True, rounds=10)
    return Plan(tuple(CASES), (2**16, 2**20, 2**22), DTYPES, compiled=True, rounds=50)


def quick() -> Plan:
    """Return the plan for seeing that it works."""
    return Plan(tuple(CASES), (2**16,), DTYPES, compiled=False, rounds=5)


def run(plan: Plan, step: Callable[[str], None] = lambda _: None) -> Results:
    """Measure everything.

    Args:
        plan: What to measure.
        step: Called with what is done next, before each step.
    """
    rounds = plan.rounds
    few = max(3, rounds // 5)
    step("import")
    import_times = imports(rounds=few)
    kernels = []
    for dtype in plan.dtypes:
        for size in plan.sizes:
            for name in plan.functions:
                for direction in DIRECTIONS:
                    step(f"{name} {dtype} {size}")
                    compiled = plan.compiled and size == max(plan.sizes)
                    kernels.append(kernel(CASES[name], direction, dtype, size, rounds=rounds, compiled=compiled))
            normal.cache_clear()
    calls, memory = [], []
    for name in plan.functions:
        step(f"{name}, eager call")
        calls.append(call(CASES[name], rounds=rounds))
    for name in plan.functions:
        step(f"{name}, memory")
        memory.append(temporaries(CASES[name]))
    step("conversions")
    return Results(
        date=datetime.date.today().isoformat(),
        versions={
            "jaxact": jaxact.__version__,
            "jax": jax.__version__,
            "torch": torch.__version__.partition("+")[0],
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        device=jax.devices()[0].device_kind,
        cpus=os.cpu_count() or 1,
        rounds=rounds,
        kernels=kernels,
        calls=calls,
        imports=import_times,
        temporaries=memory,
        conversions=conversions(rounds=rounds),
    )

"""What a run has found, as data, and which bounds it misses."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

# What a kernel computes.
COMPUTED = ("value", "value and gradient")
PEERS = ("torch", "torch.compile", "jax.nn")

# What is within noise of the bound holds it.
NOISE = 1.1
CALL_BOUND = 1.5
IMPORT_BOUND = 0.05
MEMORY_BOUND = 1.0
COPY_BOUND = 0.9
CONVERSION_BOUND = 3.0  # microseconds above the framework's own

# Median times, by what was timed.
Times = dict[str, float]


@dataclass(frozen=True)
class Kernel:
    """The times of one function at one size and type.

    Attributes:
        function: The name of a workload.
        computes: One of COMPUTED.
        dtype: The type.
        size: How many elements the input has.
        milliseconds: The median of each contender; "floor" is ``x + 1`` (with the gradient also ``x * cotangent``) in
            XLA, and "copy", on a GPU and of functions of one array, is a copy of the input.
        traffic: What must be read and written at least, over what a copy of the input reads and writes.
    """

    function: str
    computes: str
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


@dataclass(frozen=True)
class EagerCall:
    """What an eager call on 1,024 float32 costs.

    Attributes:
        function: The name of a workload.
        microseconds: The median of each contender; "floor" is a jitted ``x + 1``.
    """

    function: str
    microseconds: Times

    @property
    def bound_ratio(self) -> float:
        """The time of jaxact over that of a jitted ``x + 1``."""
        return self.microseconds["jaxact"] / self.microseconds["floor"]


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


@dataclass(frozen=True)
class Temporaries:
    """The temporary memory of the compiled gradient of a deep MLP in float32.

    Attributes:
        function: The name of a workload.
        bytes: The memory with jaxact's function, and with jax.nn's where it has one.
    """

    function: str
    bytes: dict[str, int]

    @property
    def bound_ratio(self) -> float | None:
        """The memory with jaxact over that with jax.nn, where jax.nn has the function."""
        return self.bytes["jaxact"] / self.bytes["jax.nn"] if "jax.nn" in self.bytes else None


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
    calls: list[EagerCall]
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
            where = f"{k.dtype}, {k.computes}: "
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
                "calls": [EagerCall(**entry) for entry in fields["calls"]],
                "imports": Imports(**fields["imports"]),
                "temporaries": [Temporaries(**entry) for entry in fields["temporaries"]],
                "conversions": [Conversion(**entry) for entry in fields["conversions"]],
            }
        )

"""Torch's side of a comparison: the function in its own dtype, in float64, and with roundings drawn at random."""

import contextlib
import copy
import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import torch

from jaxact.interop._to_numpy import to_numpy
from jaxact.interop._to_torch import to_torch
from jaxact.interop._torch_private import not_compiled

from .lifting import in_float64
from .nodes import Results
from .rounding import Rounding
from .torch_recording import Recording

# Elements of parameters and inputs up to which one thread is used.
SMALL = 4_000_000


class TorchSide:
    """A torch function or module, and the inputs that it is called with.

    Attributes:
        name: Its name.
        function: It; of a module a copy, which shares the parameters: what a run leaves in it is not the user's.
        modules: The modules that it calls, where it is one or holds some, by the prefix of their names.
    """

    def __init__(self, function: Callable[..., Any], inputs: Sequence[Any], parameters: Sequence[str] = ()) -> None:
        function = not_compiled(function)
        self.name = getattr(function, "__name__", type(function).__name__)
        self.function = _copied(function) if isinstance(function, torch.nn.Module) else function
        self.modules = _modules_of(self.function)
        self.inputs = inputs
        named = {name: p for prefix, m in self.modules.items() for name, p in m.named_parameters(prefix)}
        for name in parameters:
            if name not in named:
                raise ValueError(f"compare: torch has no parameter {name!r}; it has {', '.join(named) or 'none'}")
        self.parameters = [named[name] for name in parameters]
        arrays = [x for x in jax.tree_util.tree_leaves(list(inputs)) if isinstance(x, np.ndarray)]
        self._small = sum(x.size for x in arrays) + sum(p.numel() for p in named.values()) < SMALL

    def run(
        self,
        cotangents: Mapping[str, np.ndarray] | None,
        *,
        wrt: Sequence[int] = (),
        exact: bool = False,
        within: Any = None,
        seed: int | None = None,
    ) -> Results:
        """Run it, and with cotangents of the outputs its gradients too.

        Args:
            cotangents: One for each inexact output by name, or None for no gradients.
            wrt: The places of the inputs to differentiate, among the leaves.
            exact: Whether to run it in float64.
            within: A context to run it in.
            seed: For torch's random numbers, if they are to be others than before.
        """
        leaves, call = self._call(exact)
        moving = [leaves[i].requires_grad_() for i in wrt] if cotangents is not None else []
        given = {name: to_torch(c, copy=True) for name, c in (cotangents or {}).items()}
        wanted = [*moving, *self.parameters] if cotangents is not None else []
        with (
            _settings(exact and self._small, self.parameters, seed),
            in_float64() if exact else contextlib.nullcontext(),
            within or contextlib.nullcontext(),
        ):
            outputs = dict(named_tensors(call()))
            gradients = _gradients(outputs, given, wanted) if wanted else []
        return Results({name: _numpy(y) for name, y in outputs.items()}, [_numpy(g) for g in gradients])

    def disturbed(self, cotangents: Any, *, wrt: Sequence[int], eps: float, seed: int) -> Results:
        """Run it in float64, with every operation's results moved at random by what a rounding to ``eps`` moves."""
        # A fused attention would be one operation, which rounds once.
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            return self.run(cotangents, wrt=wrt, exact=True, within=Rounding(eps, seed))

    def record(self, cotangents: Any, *, wrt: Sequence[int], keep: int = 0, rounding: Any = None) -> Recording:
        """Run it in float64, and record what it computes.

        Args:
            cotangents: As for :meth:`run`.
            wrt: As for :meth:`run`.
            keep: How many bytes of results to keep.
            rounding: A context that moves the results.
        """
        leaves, call = self._call(exact=True)
        moving = [leaves[i].requires_grad_() for i in wrt] if cotangents is not None else []
        given = {name: _tensor(c, exact=True) for name, c in (cotangents or {}).items()}
        recording = Recording(self.modules, keep)
        with _settings(self._small, self.parameters), in_float64(), rounding or contextlib.nullcontext(), recording:
            recording.take([x for x in leaves if isinstance(x, torch.Tensor)])
            outputs = dict(named_tensors(call()))
            recording.finish(outputs)
            if cotangents is not None:
                recording.before_backward(outputs, list(given.values()))
                recording.after_backward(_gradients(outputs, given, [*moving, *self.parameters]))
        return recording

    def named_modules(self) -> dict[str, torch.nn.Module]:
        """Return the modules by name."""
        return {n: m for prefix, root in self.modules.items() for n, m in root.named_modules(prefix=prefix)}

    def roundings(self) -> list[float]:
        """Return the roundings of the parameters' dtypes."""
        parameters = (p for root in self.modules.values() for p in root.parameters())
        return [torch.finfo(dtype).eps for dtype in {p.dtype for p in parameters if p.is_floating_point()}]

    def _call(self, exact: bool) -> tuple[list[torch.Tensor], Callable[[], Any]]:
        flat, structure = jax.tree_util.tree_flatten(list(self.inputs), is_leaf=lambda x: x is None)
        tensors = [_tensor(x, exact) for x in flat]

        # What is differentiated goes in as a copy, since torch lets no function write into a leaf of its graph.
        def call() -> Any:
            given = [x.clone() if isinstance(x, torch.Tensor) and x.requires_grad else x for x in tensors]
            return self.function(*jax.tree_util.tree_unflatten(structure, given))

        return tensors, call


def _tensor(x: Any, exact: bool) -> Any:
    if not isinstance(x, np.ndarray):
        return x
    tensor = to_torch(x, copy=True)
    if not exact:
        return tensor
    return tensor.to(
        torch.complex128 if tensor.is_complex() else torch.float64 if tensor.is_floating_point() else tensor.dtype
    )


def _numpy(x: torch.Tensor) -> np.ndarray:
    return to_numpy(x.detach(), copy=True)


def _gradients(
    outputs: Mapping[str, torch.Tensor], cotangents: Mapping[str, torch.Tensor], wanted: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    moved = {name: y for name, y in outputs.items() if y.requires_grad and name in cotangents}
    if not moved:
        return [torch.zeros_like(x) for x in wanted]
    given = [cotangents[name].to(y) for name, y in moved.items()]
    found = torch.autograd.grad(list(moved.values()), wanted, given, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(wanted, found, strict=True)]


def named_tensors(result: Any, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors of what a torch function returns, with paths, None left out, keys sorted as in JAX."""
    match result:
        case torch.Tensor():
            yield path, result
        case None:
            return
        case Mapping():
            keys = list(result) if dataclasses.is_dataclass(result) else sorted(result, key=str)
            for key in keys:
                yield from named_tensors(result[key], f"{path}[{key!r}]")
        case tuple() | list():
            for i, part in enumerate(result):
                yield from named_tensors(part, f"{path}[{i}]")
        case _ if dataclasses.is_dataclass(result):
            for field in dataclasses.fields(result):
                yield from named_tensors(getattr(result, field.name), f"{path}[{field.name!r}]")
        case bool() | int() | float() | complex():
            yield path, torch.as_tensor(result)
        case _:
            raise TypeError(
                f"compare: the torch function returned a {type(result).__name__} at {path or 'the top'}; return tensors"
            )


@contextlib.contextmanager
def _settings(small: bool, moving: Sequence[torch.Tensor], seed: int | None = None) -> Iterator[None]:
    """Gradients on, also of frozen parameters, no fast path of inference; and all as it was afterwards.

    Args:
        moving: The parameters to differentiate.
        seed: For torch's random numbers, if they are to be others than before.
        small: Whether to keep to one thread: with small arrays, threads wait for each other longer than they compute.
    """
    fast, threads = torch.backends.mha.get_fastpath_enabled(), torch.get_num_threads()
    needs = [p.requires_grad for p in moving]
    torch.backends.mha.set_fastpath_enabled(False)
    if small:
        torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            if seed is not None:
                torch.manual_seed(seed)
            for p in moving:
                p.requires_grad_()
            yield
    finally:
        for p, needed in zip(moving, needs, strict=True):
            p.requires_grad_(needed)
        torch.backends.mha.set_fastpath_enabled(fast)
        torch.set_num_threads(threads)


def _copied(module: torch.nn.Module) -> torch.nn.Module:
    """Return a copy of a module that shares its parameters, which a forward pass only reads, and has own buffers."""
    try:
        return copy.deepcopy(module, {id(p): p for p in module.parameters()})
    except (TypeError, RuntimeError, NotImplementedError):  # it holds what cannot be copied: a handle, a result
        return module


def _modules_of(function: Any) -> dict[str, torch.nn.Module]:
    """Return the modules that a function is, is bound to, or finds in its closure and its globals, by prefix."""
    if isinstance(function, torch.nn.Module):
        return {"": function}
    held: dict[str, Any] = {}
    if isinstance(owner := getattr(function, "__self__", None), torch.nn.Module):
        return {"": owner}
    inner = inspect.unwrap(getattr(function, "func", function))  # of functools.partial
    if inspect.isfunction(inner):
        variables = inspect.getclosurevars(inner)
        held = {**variables.nonlocals, **variables.globals}
    found = {name: value for name, value in held.items() if isinstance(value, torch.nn.Module)}
    return {"": next(iter(found.values()))} if len(found) == 1 else found


_DROPOUTS = (
    *(torch.nn.Dropout, torch.nn.Dropout1d, torch.nn.Dropout2d, torch.nn.Dropout3d),
    *(torch.nn.AlphaDropout, torch.nn.FeatureAlphaDropout),
)
_NORMS = (
    *(torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d, torch.nn.SyncBatchNorm),
    *(torch.nn.InstanceNorm1d, torch.nn.InstanceNorm2d, torch.nn.InstanceNorm3d),
)


def unready(side: TorchSide) -> str | None:
    """Return why the modules cannot be compared as they are, if one would draw at random or learn while it runs."""
    for prefix, root in side.modules.items():
        for name, module in root.named_modules(prefix=prefix):
            if not module.training:
                continue
            drops = isinstance(module, _DROPOUTS) and module.p > 0
            drops |= isinstance(module, torch.nn.RNNBase | torch.nn.MultiheadAttention) and module.dropout > 0
            learns = isinstance(module, _NORMS) and module.track_running_stats
            if drops or learns or isinstance(module, torch.nn.RReLU):
                what = f"{name or 'it'} ({type(module).__name__}) "
                what += "updates its running statistics" if learns else "draws at random"
                return f"the torch module is in training mode, where {what}: call .eval() on it first"
    return None

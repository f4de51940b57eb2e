"""A call of a function in both libraries, made of one of PyTorch's test inputs, and what each of them gives."""

import functools
import inspect
import warnings
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from conformance_tally import Tally

import jaxact
from jaxact.interop import to_jax, to_numpy

Array = np.ndarray[Any, Any]
Arguments = dict[str, Any]  # of a call, by name, the input first
Results = dict[str, Array]  # of a call: outputs and gradients, by what they are


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

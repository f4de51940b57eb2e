"""PyTorch's own test inputs, run through torch and through jaxact, and judged.

PyTorch's test suite describes each operation by an OpInfo, which makes inputs for it: samples, and for functions of
one array also large, tiny, infinite, NaN, empty and non-contiguous ones, its "reference inputs". What jaxact gives
for one, value or gradient, is right if

- it has torch's shape and dtype, and every integer and boolean is torch's;
- every float is no farther from the exact result than twice torch's own, or within the bounds of ``reference.py``
  (for complex numbers than twice torch's farthest of an array, or within some ULPs of their modulus);
  but never NaN where the exact result is not, nor 0 in a tail where it is a normal number. The exact result is
  torch's in float64 or complex128, except where jaxact's is not right by that, or that is NaN or 0 in a tail: there
  mpmath knows better, and at NaN torch's code for long arrays has the word;
- torch refuses the input, and jaxact does.
"""

from collections.abc import Callable
from typing import Any

from conformance_calls import Call, Results, call, run_jaxact, run_torch
from conformance_inputs import DTYPES, inputs
from conformance_judging import judge
from conformance_tally import Tally

from jaxact.catalog import BY_NAME

# What jaxact refuses on purpose, with the error it raises.
REFUSED = {
    ("threshold", "uint8"): (OverflowError, "refused: a negative value for unsigned integers, which torch wraps"),
    ("softmax", "complex64"): (TypeError, "refused: dtype= a real one, for which torch drops the imaginary part"),
}
REFUSED |= {(name, "complex64"): REFUSED["softmax", "complex64"] for name in ("softmin", "log_softmax")}
REFUSED |= {(name, "complex128"): REFUSED[name, "complex64"] for name in ("softmax", "softmin", "log_softmax")}


def why_without(name: str) -> str | None:
    """Return why PyTorch has no inputs for a function; None if it has."""
    row = BY_NAME[name]
    if row.torch_function is not None:
        return "draws at random, and no OpInfo describes it" if "key" in row.required else None
    if row.torch_module is not None:
        return "torch has it as a module only, which no OpInfo describes"
    return "torch has no such function"


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

"""What each argument must be: checked, and returned as it is worked with, or refused with a message that helps."""

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxact._dtypes import (
    BOOLEAN,
    COMPLEX,
    FLOATS,
    REALS,
    compute_dtype,
    cut_to_integer,
    fits,
    integer_range,
    result_dtype,
)

# The types of JAX's arrays and tracers met so far, and those that are no tracers: asking isinstance(x, jax.Array)
# takes a tenth of an eager call.
ARRAY_TYPES: set[type] = set()
CONCRETE_TYPES: set[type] = set()


def operand(name: str, x: Any, argument: str = "input") -> Any:
    """Return ``x`` as something ``jax.jit`` takes for an array, or raise the error that helps.

    Args:
        name: The public function, for the message.
        x: A JAX or NumPy array, a number, or an object with ``__jax_array__`` (a Flax variable).
        argument: What the function calls ``x``, for the message.

    Raises:
        TypeError: For anything that is no array: a list, a torch tensor, strings, None.
        OverflowError: For 64-bit NumPy data out of the range of the 32-bit type that JAX holds it in.
    """
    if isinstance(x, jax.Array):
        ARRAY_TYPES.add(type(x))
        if not isinstance(x, jax.core.Tracer):
            CONCRETE_TYPES.add(type(x))
        return x
    if isinstance(x, (np.ndarray, np.generic)):
        return _numpy_operand(name, x, argument)
    if isinstance(x, (bool, int, float, complex)):
        return x
    if hasattr(x, "__jax_array__"):
        return x.__jax_array__()
    kind = f"{type(x).__module__}.{type(x).__qualname__}".removeprefix("builtins.")
    if type(x).__module__.partition(".")[0] == "torch":
        way_out = "convert it with jaxact.interop.to_jax"
    elif isinstance(x, (list, tuple)):
        way_out = "wrap it in jax.numpy.asarray"
    else:
        way_out = "convert it to an array first"
    raise TypeError(f"{name}: {argument} must be a JAX or NumPy array or a number, got {kind}; {way_out}")


def _numpy_operand(name: str, x: np.ndarray | np.generic, argument: str) -> np.ndarray | np.generic:
    if x.dtype.kind in "OSUMmT" or x.dtype.names is not None:
        raise TypeError(
            f"{name}: {argument} must be numeric, got a NumPy array of dtype {x.dtype}; convert it with .astype first"
        )
    narrow = jax.dtypes.canonicalize_dtype(x.dtype)
    if narrow != x.dtype and not fits(x, narrow):
        raise OverflowError(
            f"{name}: {argument} is {x.dtype} with values outside {narrow}, in which JAX holds it; "
            "enable jax_enable_x64 or convert it with .astype first"
        )
    return x


def array(name: str, argument: str, x: Any) -> jax.Array:
    """Return ``x`` as an array, or raise as :func:`operand` does."""
    x = operand(name, x, argument)
    return x if isinstance(x, jax.Array) else jnp.asarray(x)  # asarray costs microseconds even on arrays


def arrays_of_one_dtype(name: str, **arguments: Any) -> dict[str, jax.Array]:
    """Return the arguments as arrays of the float dtype of the first; those of a weak type, as numbers, become it.

    Args:
        name: The public function, for the message.
        arguments: What was passed, by the names of the arguments.

    Raises:
        TypeError: If one is no array, if the first is not of a float dtype, or another of another dtype.
    """
    arrays = {argument: array(name, argument, x) for argument, x in arguments.items()}
    first, *others = arrays
    dtype = result_dtype(name, arrays[first].dtype, FLOATS, argument=first)
    for argument in others:
        x = arrays[argument]
        if x.dtype != dtype:
            if not x.weak_type:
                raise TypeError(
                    f"{name}: {argument} must be of the dtype of {first}, {dtype}, got {x.dtype}; "
                    "convert it with .astype"
                )
            arrays[argument] = x.astype(dtype)
    return arrays


def real_scalar(name: str, argument: str, value: jax.Array, dtype: np.dtype) -> jax.Array:
    """Return ``value`` at ``dtype``, or raise if it is no real scalar.

    Args:
        name: The public function, for the message.
        argument: The argument's name, for the message.
        value: What was passed, as an array.
        dtype: The dtype at which the function computes.

    Raises:
        TypeError: If it is complex.
        ValueError: If it has axes.
    """
    value = jnp.asarray(value)
    if value.dtype in COMPLEX:
        raise TypeError(f"{name}: {argument} must be a real number, got one of dtype {value.dtype}")
    if value.ndim:
        raise ValueError(
            f"{name}: {argument} must be a number or a 0-d array, got an array of shape {value.shape}; "
            "use jax.vmap for a batch of them"
        )
    return cut_to_integer(value, dtype) if dtype.kind in "iu" else lax.convert_element_type(value, dtype)


def matching_array(name: str, argument: str, value: Any, dtype: np.dtype) -> jax.Array:
    """Return an array argument at the dtype at which ``dtype`` is computed.

    Args:
        name: The public function, for the message.
        argument: The argument's name, for the message.
        value: What was passed: an array or a number.
        dtype: The dtype that an array must have.

    Raises:
        TypeError: If the dtypes differ.
    """
    value = jnp.asarray(value)
    if value.dtype != dtype and not value.weak_type:
        raise TypeError(
            f"{name}: {argument} must have the input's dtype {dtype}, got {value.dtype}; convert one with .astype"
        )
    return value.astype(compute_dtype(dtype))


def prng_key(name: str, key: Any, argument: str = "key") -> jax.Array:
    """Return ``key``, or raise if it is no JAX PRNG key, neither of the typed kind nor a raw one of uint32.

    Args:
        name: The public function, for the message.
        key: What was passed.
        argument: The argument's name, for the message.

    Raises:
        TypeError: If it is no key.
    """
    dtype = getattr(key, "dtype", None)
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0
    raw = isinstance(key, (jax.Array, np.ndarray)) and dtype == np.uint32 and key.ndim == 1
    if not (typed or raw):
        raise TypeError(f"{name}: {argument} must be a JAX PRNG key, for example jax.random.key(0), got {key!r}")
    return key


def known(*values: Any) -> bool:
    """Say whether all values are real numbers that can be looked at now: not traced, and no wrong type or shape."""
    for value in values:
        if type(value) is not float and (
            isinstance(value, (complex, str, jax.core.Tracer))
            or value is None
            or np.ndim(value)
            or np.iscomplexobj(value)
        ):
            return False
    return True


def require_representable(name: str, x: Any, **parameters: Any) -> None:
    """Raise ``OverflowError`` unless the dtype of ``x``, if it is an integer one, can hold each parameter.

    Args:
        name: The public function, for the message.
        x: The input.
        parameters: Real scalars; a traced one is taken on trust.
    """
    if (info := integer_range(x)) is None:
        return
    for argument, value in parameters.items():
        if known(value) and not info.min <= np.trunc(value) <= info.max:
            raise OverflowError(
                f"{name}: {argument} must be in the range of the input's dtype {info.dtype}, "
                f"[{info.min}, {info.max}], got {value}"
            )


def known_value(name: str, argument: str, value: Any) -> Any:
    """Return the Python value of a NumPy scalar or of a 0-d array, anything else as it is, or raise if it is traced.

    Args:
        name: The public function, for the message.
        argument: The argument's name, for the message.
        value: What was passed.

    Raises:
        TypeError: If it is traced.
    """
    if isinstance(value, jax.core.Tracer):
        raise TypeError(
            f"{name}: {argument} must be a Python value known when tracing, got a traced array; "
            "mark it static in jax.jit (static_argnames) or close over it"
        )
    if isinstance(value, (np.generic, np.ndarray, jax.Array)) and value.ndim == 0 and value.dtype in BOOLEAN | REALS:
        return value.item()
    return value


def flag(name: str, argument: str, value: Any) -> bool:
    """Return ``value`` as a bool, or raise if it is no boolean that is known.

    Args:
        name: The public function, for the message.
        argument: The argument's name, for the message.
        value: What was passed: a bool, one of NumPy's, or a 0-d boolean array.

    Raises:
        TypeError: If it is anything else, or traced.
    """
    found = known_value(name, argument, value)
    if not isinstance(found, bool):
        raise TypeError(f"{name}: {argument} must be True or False, got {value!r}")
    return found


def flags(name: str, **given: Any) -> list[bool]:
    """Return what :func:`flag` does for several arguments."""
    return [flag(name, argument, value) for argument, value in given.items()]


def integer(name: str, argument: str, value: Any) -> int:
    """Return ``value`` as an int, or raise if it is no integer that is known.

    Args:
        name: The public function, for the message.
        argument: The argument's name, for the message.
        value: What was passed: an int, one of NumPy's, or a 0-d integer array, but no boolean.

    Raises:
        TypeError: If it is anything else, or traced.
    """
    found = known_value(name, argument, value)
    try:
        if isinstance(found, bool):
            raise TypeError
        return operator.index(found)
    except TypeError:
        raise TypeError(f"{name}: {argument} must be an int, got {value!r}") from None


def static_argument(name: str, value: Any, argument: str) -> Any:
    """Return ``value``, a 0-d array or a NumPy scalar as a Python value, or raise if it can be no constant.

    Args:
        name: The public function, for the message.
        value: What was passed.
        argument: The argument's name, for the message.

    Raises:
        TypeError: If it is a traced array, or not hashable.
    """
    value = known_value(name, argument, value)
    try:
        hash(value)
    except TypeError:
        raise TypeError(f"{name}: {argument} cannot be a {type(value).__name__}, got {value!r}") from None
    return value


def canonical_dim(name: str, dim: Any, ndim: int) -> int:
    """Return ``dim`` as an axis counted from 0.

    A 0-d array counts as having one axis, as in torch.

    Args:
        name: The public function, for the message.
        dim: The axis, negative to count from the end.
        ndim: Number of axes of the input.

    Raises:
        TypeError: If ``dim`` is no integer.
        ValueError: If it is out of range.
    """
    axis = integer(name, "dim", dim)
    axes = max(ndim, 1)
    if not -axes <= axis < axes:
        raise ValueError(f"{name}: dim must be in [{-axes}, {axes - 1}] for an input of {ndim} axes, got {dim}")
    return axis % axes

"""The boundary that every public function shares: what it accepts, at which dtype it computes, one jit.

An activation is written as a plain formula on an array. :func:`activation` puts around it what does not
belong into a formula: wrong arguments refused with a message that helps, PyTorch's dtype rules, float16
and bfloat16 computed in float32 and rounded once, and one compiled kernel a call.
"""

import functools
import inspect
import operator
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jaxact._kernels.parameters import Scalar as Scalar

P = ParamSpec("P")
Formula = Callable[Concatenate[jax.Array, P], jax.Array]
Activation = Callable[Concatenate[ArrayLike, P], jax.Array]

BOOLEAN = frozenset({np.dtype(bool)})
INTEGERS = frozenset(map(np.dtype, ("uint8", "int8", "int16", "int32", "int64")))
WIDE_UNSIGNED = frozenset(map(np.dtype, ("uint16", "uint32", "uint64")))
HALVES = frozenset(map(jnp.dtype, (jnp.float16, jnp.bfloat16)))
FLOATS = HALVES | frozenset(map(np.dtype, ("float32", "float64")))
REALS = INTEGERS | WIDE_UNSIGNED | FLOATS
COMPLEX = frozenset(map(np.dtype, ("complex64", "complex128")))
FLOAT32 = np.dtype("float32")

# The types of JAX's arrays and tracers met so far, and those that are no tracers: asking isinstance(x, jax.Array)
# takes a tenth of an eager call.
_ARRAY_TYPES: set[type] = set()
_CONCRETE_TYPES: set[type] = set()
# The numbers that came as parameters, under x64 or not, as arrays; None for those that came once.
_CONSTANTS: dict[tuple[float | str, bool], jax.Array | None] = {}


def activation(
    keeps: frozenset[np.dtype] = FLOATS,
    *,
    to_float32: frozenset[np.dtype] = frozenset(),
    static: tuple[str, ...] = (),
    arrays: tuple[str, ...] = (),
    check: Callable[..., None] | None = None,
    widen: bool = True,
) -> Callable[[Formula[P]], Activation[P]]:
    """Make a formula on an array a public function: checked arguments, torch's dtypes, one compiled kernel.

    The first argument of the decorated function is the array. Arguments named in ``static`` are Python
    values fixed when the function is traced; those named in ``arrays`` are arrays of their own shape; every
    other one is a real scalar, a number or a 0-d array, which may be traced and differentiated. The formula
    sees array and scalars at the dtype at which it computes: float32 for float16 and bfloat16, else the dtype
    of the result, which is of a weak type where the arrays are. A static argument called ``dtype`` converts the
    input first, as in torch's softmax family; the formula need not look at it.

    Args:
        keeps: The dtypes that are accepted and returned.
        to_float32: The dtypes that are accepted and converted to float32.
        static: Names of the arguments that are compile-time constants.
        arrays: Names of the arguments that are arrays. A float one must have the dtype of the first argument and
            comes at the dtype at which the formula computes; a PRNG key, called ``key``, comes as it is.
        check: Looks at the values of the arguments, and raises. It is called with them before they are traced, or
            with the first alone if there is no other, and must take a traced one on trust.
        widen: Whether float16 and bfloat16 come as float32. A formula that has a cheaper way for them takes them as
            they are, and returns float32, to be rounded once.

    Returns:
        The decorator.
    """

    def decorate(formula: Formula[P]) -> Activation[P]:
        name = formula.__name__
        signature = inspect.signature(formula)
        first, *names = signature.parameters
        accepted = frozenset(names)
        required = frozenset(key for key in names if signature.parameters[key].default is inspect.Parameter.empty)
        static_names = frozenset(static)
        scalars = accepted.difference(static, arrays)
        numeric = accepted.difference(static, {"key"})

        @functools.partial(jax.jit, static_argnames=static)
        @functools.wraps(formula)
        def kernel(x: ArrayLike, /, *args: P.args, **kwargs: P.kwargs) -> jax.Array:
            bound = bind(x, *args, **kwargs)
            x = jnp.asarray(x)
            weak = x.weak_type
            if check is not None and len(bound.arguments) == 1:
                check(x)  # the defaults, which may not suit the dtype
            if (requested := bound.arguments.get("dtype")) is not None:
                x = x.astype(requested_dtype(name, x.dtype, requested))
                weak = False
            dtype = result_dtype(name, x.dtype, keeps, to_float32)
            compute = compute_dtype(dtype) if widen else dtype
            bound.arguments[first] = x.astype(compute)
            for key in bound.arguments.keys() & scalars:
                bound.arguments[key] = real_scalar(name, key, bound.arguments[key], compute)
            for key in bound.arguments.keys() & set(arrays):
                weak = weak and (key == "key" or jnp.asarray(bound.arguments[key]).weak_type)
                bound.arguments[key] = matching_array(name, key, bound.arguments[key], dtype)
            y = formula(*bound.args, **bound.kwargs).astype(dtype)
            return weakly_typed(y) if weak else y

        @functools.wraps(formula)
        def call(x: ArrayLike, /, *args: P.args, **kwargs: P.kwargs) -> jax.Array:
            # Each line here costs every eager call some percent, so what needs no look is passed by.
            if type(x) not in _ARRAY_TYPES:
                x = operand(name, x)
            if args or kwargs:
                return kernel(x, **parameters(x, args, kwargs))
            return kernel(x)

        def bind(*args: Any, **kwargs: Any) -> inspect.BoundArguments:
            try:
                return signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{name}() {error}") from None

        def parameters(x: ArrayLike, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
            given = dict(zip(names, args, strict=False), **kwargs) if args else kwargs
            if len(given) != len(args) + len(kwargs):
                bind(x, *args, **kwargs)  # raises
            if check is not None and required <= given.keys() <= accepted:
                check(x, **given)
            concrete = type(x) in _CONCRETE_TYPES
            for key, value in given.items():
                kind = type(value)
                if kind is float and key in numeric:
                    if concrete:  # a trace takes the number itself
                        given[key] = _constant(value)
                elif kind is not int or key == "key":
                    given[key] = argument(key, value)
            return given

        def argument(key: str, value: Any) -> Any:
            if key in static_names:
                return static_argument(name, value, key)
            if key == "key":
                return value if value is None and key not in required else prng_key(name, value)
            return operand(name, value, key)

        return call

    return decorate


def _constant(value: float) -> Any:
    """Return a number as an array on the device once it comes again: jax.jit would bring it there at every call.

    The array does in every context what the number does, wherever it was made: it is of a weak type, and uncommitted,
    so it follows the input to other devices and onto any mesh. (``jax.numpy.asarray`` would commit it to a mesh that
    is set.) To make it takes longer than some calls with the number, so one that is new every time stays a number.
    """
    key = value or str(value), jax.config.jax_enable_x64  # type: ignore[attr-defined]  # 0.0 equals -0.0
    constant = _CONSTANTS.get(key)
    if constant is not None:
        return constant
    if key not in _CONSTANTS:
        if len(_CONSTANTS) == 1024:
            _CONSTANTS.clear()
        _CONSTANTS[key] = None
        return value
    constant = jax.device_put(value)
    if isinstance(constant, jax.core.Tracer):  # a program is being traced, which closes over the input
        return value
    _CONSTANTS[key] = constant
    return constant


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
        _ARRAY_TYPES.add(type(x))
        if not isinstance(x, jax.core.Tracer):
            _CONCRETE_TYPES.add(type(x))
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


def fits(x: np.ndarray | np.generic, dtype: np.dtype) -> bool:
    """Say whether every value of ``x`` is in the range of ``dtype``, up to rounding.

    Args:
        x: A NumPy array or scalar of a 64-bit type (or complex128).
        dtype: The narrower type of the same kind.
    """
    if np.size(x) == 0:
        return True
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return bool(info.min <= x.min() and x.max() <= info.max)
    with np.errstate(over="ignore"):
        return bool((np.isfinite(x.astype(dtype)) == np.isfinite(x)).all())


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


def cut_to_integer(value: jax.Array, dtype: np.dtype) -> jax.Array:
    """Return a real scalar cut to an integer dtype, the nearest one where it is beyond its range."""
    info = np.iinfo(dtype)
    if value.dtype.kind in "iu":
        own = np.iinfo(value.dtype)
        ends = (value.dtype.type(end) for end in (max(info.min, own.min), min(info.max, own.max)))
        return jnp.clip(value, *ends).astype(dtype)
    value = value.astype(FLOAT32) if value.dtype in HALVES else value
    # As a float, the largest integer would be rounded up, unlike the power of two above it.
    above, below = value >= 2.0 ** info.max.bit_length(), value <= info.min
    inside = jnp.where(above | below, 0, value).astype(dtype)
    return jnp.where(above, dtype.type(info.max), jnp.where(below, dtype.type(info.min), inside))


def weakly_typed(y: jax.Array) -> jax.Array:
    """Return ``y`` of a weak type, as ``jax.numpy`` returns numbers for numbers, which widen no array they meet.

    A conversion is always to a strong type, except by the primitive beneath it, with which ``jax.numpy`` does this.
    """
    weak: jax.Array = lax.convert_element_type_p.bind(y, new_dtype=y.dtype, weak_type=True, sharding=None)
    return weak


def matching_array(name: str, argument: str, value: Any, dtype: np.dtype) -> Any:
    """Return an array argument at the dtype at which ``dtype`` is computed, or a PRNG key as it is.

    Args:
        name: The public function, for the message.
        argument: The argument's name, for the message.
        value: What was passed: an array, a number, a PRNG key or None.
        dtype: The dtype that an array must have.

    Raises:
        TypeError: If the dtypes differ.
    """
    if value is None or argument == "key":
        return value
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


def matmul_precision(dtype: np.dtype) -> lax.Precision | None:
    """Return the precision of matrix products of arrays that came as ``dtype``; None is the user's or the device's.

    On accelerators the default may round float32 operands to as few bits as bfloat16 has.
    """
    chosen = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    return None if dtype in HALVES or chosen else lax.Precision.HIGHEST


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


def integer_range(x: Any) -> np.iinfo | None:
    """Return the range of the dtype that JAX holds ``x`` in, or None if that is none of integers."""
    dtype = getattr(x, "dtype", None)
    return np.iinfo(jax.dtypes.canonicalize_dtype(dtype)) if dtype in INTEGERS | WIDE_UNSIGNED else None


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


def integer(name: str, argument: str, value: Any) -> int:
    """Return ``value`` as an int, or raise if it is no integer that is known.

    Args:
        name: The public function, for the message.
        argument: The argument's name, for the message.
        value: What was passed: an int, one of NumPy's, or a 0-d integer array; a boolean is none.

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


def result_dtype(
    name: str, dtype: np.dtype, keeps: frozenset[np.dtype], to_float32: frozenset[np.dtype] = frozenset()
) -> np.dtype:
    """Return the dtype that ``name`` gives back for an input of ``dtype``.

    Args:
        name: The public function, for the message.
        dtype: The input's dtype.
        keeps: The dtypes that are accepted and returned.
        to_float32: The dtypes that are accepted and converted to float32.

    Raises:
        TypeError: If the function does not accept ``dtype``.
    """
    if dtype in keeps:
        return dtype
    if dtype in to_float32:
        return FLOAT32
    accepted = ", ".join(sorted(map(str, keeps | to_float32)))
    raise TypeError(f"{name}: input of dtype {dtype} is not accepted, only {accepted}; convert it with .astype")


def requested_dtype(name: str, given: np.dtype, dtype: Any) -> np.dtype:
    """Return the dtype that the argument ``dtype`` asks for.

    Args:
        name: The public function, for the message.
        given: The input's own dtype.
        dtype: A dtype as NumPy and JAX spell them.

    Raises:
        TypeError: If ``dtype`` is no dtype (a torch dtype, say), or ``given`` is complex and it is not.
        ValueError: If JAX cannot hold ``dtype`` now, as float64 without x64.
    """
    try:
        wanted: np.dtype = jnp.dtype(dtype)
    except TypeError:
        raise TypeError(f"{name}: dtype must be a JAX or NumPy dtype such as jax.numpy.float32, got {dtype}") from None
    if jax.dtypes.canonicalize_dtype(wanted) != wanted:
        raise ValueError(f"{name}: dtype {wanted} needs 64-bit mode; set jax_enable_x64, or ask for a 32-bit dtype")
    if given in COMPLEX and wanted not in COMPLEX:
        raise TypeError(f"{name}: a {given} input cannot be converted to {wanted}; take .real first")
    return wanted


def compute_dtype(dtype: np.dtype) -> np.dtype:
    """Return the dtype to compute at: float32 for float16 and bfloat16, else ``dtype`` itself."""
    return FLOAT32 if dtype in HALVES else dtype


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

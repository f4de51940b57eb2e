"""The decorator that makes a formula on an array a public function: :func:`activation`.

A formula's signature says what each of its parameters is, by the annotation:

- :data:`Scalar`, a real number or a 0-d array, which may be traced and differentiated;
- ``ArrayLike``, an array of the dtype of the input, or a number;
- ``Static[...]``, a Python value fixed when the function is traced; of ``Static[bool]`` it is checked that it is one;
- :data:`Dtype`, static too: what the input is converted to first, as in torch's softmax family;
- :data:`Key`, a PRNG key.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, Concatenate, ParamSpec, TypeAlias, TypeVar, get_args, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from jaxact._checks import (
    ARRAY_TYPES,
    CONCRETE_TYPES,
    flag,
    matching_array,
    operand,
    prng_key,
    real_scalar,
    static_argument,
)
from jaxact._dtypes import FLOATS, compute_dtype, requested_dtype, result_dtype, weakly_typed
from jaxact._kernels.parameters import Scalar

P = ParamSpec("P")
T = TypeVar("T")
Formula = Callable[Concatenate[jax.Array, P], jax.Array]
Function = Callable[Concatenate[ArrayLike, P], jax.Array]

SCALAR, ARRAY, STATIC, FLAG, DTYPE, KEY = "scalar", "array", "static", "flag", "dtype", "key"
Static: TypeAlias = Annotated[T, STATIC]
Dtype: TypeAlias = Annotated[DTypeLike | None, DTYPE]
Key: TypeAlias = Annotated[jax.Array, KEY]

# The numbers that came as parameters, under x64 or not, as arrays; None for those that came once.
_CONSTANTS: dict[tuple[float | str, bool], jax.Array | None] = {}


def activation(
    keeps: frozenset[np.dtype] = FLOATS,
    *,
    to_float32: frozenset[np.dtype] = frozenset(),
    check: Callable[..., None] | None = None,
    widen: bool = True,
) -> Callable[[Formula[P]], Function[P]]:
    """Make a formula on an array a public function: checked arguments, torch's dtypes, one compiled kernel.

    The formula sees array and scalars at the dtype at which it computes: float32 for float16 and bfloat16, else the
    dtype of the result, which is of a weak type where the arrays are.

    Args:
        keeps: The dtypes that are accepted and returned.
        to_float32: The dtypes that are accepted and converted to float32.
        check: Looks at the values of all arguments, and raises. It is called with them before they are traced, or
            within the trace where only the first is given, and must take a traced one on trust.
        widen: Whether float16 and bfloat16 come as float32. A formula that has a cheaper way for them takes them as
            they are, and returns float32, to be rounded once.

    Returns:
        The decorator.
    """

    def decorate(formula: Formula[P]) -> Function[P]:
        boundary = _Boundary(formula, keeps, to_float32, check, widen)
        name, needs_parameters = boundary.name, bool(boundary.required)

        @functools.partial(jax.jit, static_argnames=boundary.static)
        @functools.wraps(formula)
        def kernel(x: ArrayLike, /, **parameters: Any) -> jax.Array:
            return boundary.within(x, parameters)

        @functools.wraps(formula)
        def call(x: ArrayLike, /, *args: P.args, **kwargs: P.kwargs) -> jax.Array:
            # Each line here costs every eager call some percent, so what needs no look is passed by.
            if type(x) not in ARRAY_TYPES:
                x = operand(name, x)
            if args or kwargs or needs_parameters:
                return kernel(x, **boundary.before(x, args, kwargs))
            return kernel(x)

        call.__signature__ = _plain(formula)  # type: ignore[attr-defined]  # that of a function is not declared
        return call

    return decorate


def _plain(formula: Callable[..., Any]) -> inspect.Signature:
    """Return the formula's signature with types alone, for readers of the documentation."""
    types, signature = get_type_hints(formula), inspect.signature(formula)
    parameters = [p.replace(annotation=types[p.name]) for p in signature.parameters.values()]
    return signature.replace(parameters=parameters)


class _Boundary:
    """What stands around a formula: what is done :meth:`before` its arguments are traced, and :meth:`within` the trace.

    Attributes:
        name: The public function's name.
        required: The names of the parameters without a default.
        static: The names of those that are fixed when the function is traced.
    """

    def __init__(
        self,
        formula: Callable[..., jax.Array],
        keeps: frozenset[np.dtype],
        to_float32: frozenset[np.dtype],
        check: Callable[..., None] | None,
        widen: bool,
    ) -> None:
        self.name = formula.__name__
        self._formula = formula
        self._keeps = keeps
        self._to_float32 = to_float32
        self._check = check
        self._widen = widen
        self._signature = inspect.signature(formula)
        _, *parameters = self._signature.parameters.values()
        self._kinds = {p.name: _kind(p.annotation) for p in parameters}
        self._positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        self._defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        self.required = self._kinds.keys() - self._defaults.keys()
        self.static = [name for name, kind in self._kinds.items() if kind in (STATIC, FLAG, DTYPE)]
        self._flags = {name for name, kind in self._kinds.items() if kind is FLAG}

    def before(self, x: ArrayLike, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters that are given, by name and as the trace takes them, or raise the error that helps."""
        given = dict(zip(self._positional, args, strict=False), **kwargs) if args else kwargs
        if len(given) != len(args) + len(kwargs) or not self.required <= given.keys() <= self._kinds.keys():
            self._raise_for_signature(x, args, kwargs)
        for name in self._flags & given.keys():
            given[name] = flag(self.name, name, given[name])
        if self._check is not None:
            self._check(x, **(self._defaults | given))
        concrete = type(x) in CONCRETE_TYPES
        for name, value in given.items():
            kind = self._kinds[name]
            if type(value) is float and (kind is SCALAR or kind is ARRAY):
                if concrete:  # a trace takes the number itself
                    given[name] = _constant(value)
            elif type(value) is not int or kind is KEY:
                given[name] = self._argument(name, kind, value)
        return given

    def _raise_for_signature(self, x: ArrayLike, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            self._signature.bind(x, *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}() {error}") from None

    def _argument(self, name: str, kind: str, value: Any) -> Any:
        if name in self.static:
            return static_argument(self.name, value, name)
        if kind is KEY:
            return value if value is None and name in self._defaults else prng_key(self.name, value, name)
        return operand(self.name, value, name)

    def within(self, x: ArrayLike, given: dict[str, Any]) -> jax.Array:
        """Return the formula's result for these parameters, at torch's dtype."""
        x = jnp.asarray(x)
        if self._check is not None and not given:
            self._check(x, **self._defaults)  # which may not suit the dtype
        weak = x.weak_type
        for name, value in given.items():
            if self._kinds[name] is DTYPE and value is not None:
                x = x.astype(requested_dtype(self.name, x.dtype, value))
                weak = False
        dtype = result_dtype(self.name, x.dtype, self._keeps, self._to_float32)
        compute = compute_dtype(dtype) if self._widen else dtype
        x = x.astype(compute)
        for name, value in given.items():
            if self._kinds[name] is SCALAR:
                given[name] = real_scalar(self.name, name, value, compute)
            elif self._kinds[name] is ARRAY:
                weak = weak and jnp.asarray(value).weak_type
                given[name] = matching_array(self.name, name, value, dtype)
        y = self._formula(x, **given).astype(dtype)
        return weakly_typed(y) if weak else y


def _kind(annotation: Any) -> str:
    """Return what a parameter is, which its annotation says."""
    if annotation == Scalar:
        return SCALAR
    if annotation == Static[bool]:
        return FLAG
    for part in (annotation, *get_args(annotation)):  # Key | None is a Key
        if hasattr(part, "__metadata__"):
            kind: str = part.__metadata__[0]
            return kind
    return ARRAY


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

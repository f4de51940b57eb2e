"""Which objects are dense arrays of numbers, and why the others are refused."""

import dataclasses
import sys
from collections.abc import Callable, Container, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np

from ._dtypes import DTYPES, NUMPY_DTYPES, is_numeric, numpy_dtypes

if TYPE_CHECKING:
    import torch

Dense: TypeAlias = "np.ndarray | jax.Array | torch.Tensor"


def is_compiling() -> bool:
    """Say whether Dynamo, the tracer of ``torch.compile``, is reading this code instead of running it."""
    torch = sys.modules.get("torch")
    return torch is not None and torch.compiler.is_dynamo_compiling()


def is_tensor(x: Any) -> "TypeGuard[torch.Tensor]":
    """Say whether ``x`` is a torch tensor, without importing torch: whoever has one has imported it."""
    return isinstance(x, getattr(sys.modules.get("torch"), "Tensor", ()))


def is_number(x: Any) -> TypeGuard[complex]:
    """Say whether ``x`` is a number of Python's own, which has no dtype."""
    return isinstance(x, (bool, int, float, complex)) and not isinstance(x, np.generic)


def is_setting(x: Any) -> bool:
    """Say whether ``x``, found in a tree, is no array but a setting: a number of Python's own or text."""
    return is_number(x) or isinstance(x, (str, bytes))


def is_sparse(x: Any) -> bool:
    """Say whether ``x`` is a sparse JAX array, which jax.tree would take for a container."""
    return isinstance(x, getattr(sys.modules.get("jax.experimental.sparse"), "JAXSparse", ()))


def is_plain_numpy(x: Any) -> TypeGuard[np.ndarray]:
    """Say, quickly, that ``x`` is a NumPy array that DLPack exports as it is, if a writable one is not needed."""
    return type(x) is np.ndarray and x.dtype in NUMPY_DTYPES and x.flags.c_contiguous and x.flags.aligned


def is_plain_jax(x: Any, dtypes: Container[np.dtype]) -> TypeGuard[jax.Array]:
    """Say, quickly, that ``x`` is a JAX array of one of the dtypes whose data are in the memory of the CPU."""
    return (
        isinstance(x, jax.Array)
        and not isinstance(x, jax.core.Tracer)
        and x.dtype in dtypes
        and not x.is_deleted()
        and is_on_cpu(x)
    )


def is_plain_tensor(x: Any) -> "TypeGuard[torch.Tensor]":
    """Say, quickly, that ``x`` is a contiguous tensor in the CPU's memory, with nothing to be done to its values."""
    torch = sys.modules.get("torch")
    return (
        torch is not None
        and type(x) is torch.Tensor
        # Whether anybody watches, as is_recorded asks; not public, and ten times as quick.
        and torch._C._len_torch_dispatch_stack() == 0
        and x.is_cpu
        and x.layout is torch.strided
        and not (x.requires_grad or x.is_nested or x.is_conj() or x.is_neg())
        and has_memory(x)
        and x.is_contiguous()
        and (x.storage_offset() + x.numel()) * x.itemsize <= x.untyped_storage().nbytes()
    )


def is_recorded() -> bool:
    """Say whether torch writes down what is done with tensors that have data: ``make_fx``, ``torch.func.linearize``."""
    recorder = sys.modules.get("torch.fx.experimental.proxy_tensor")
    return recorder is not None and recorder.get_proxy_mode() is not None


def is_on_cpu(x: jax.Array) -> bool:
    """Say whether the array is one piece, in the memory of this process."""
    devices = x.sharding.device_set
    device: Any = next(iter(devices))
    return len(devices) == 1 and device.platform == "cpu" and device.process_index == jax.process_index()


def has_memory(x: "torch.Tensor") -> bool:
    """Say whether the tensor has memory: a sparse one has not, nor one that torch.func traces, nor lazy zeros."""
    try:
        return x.data_ptr() != 0 or x.numel() == 0
    except RuntimeError:
        return False


def is_lazy_zeros(x: "torch.Tensor") -> bool:
    """Say whether the tensor is zeros that torch keeps no memory for, as forward mode makes them.

    That is a tensor with elements at no address. Torch has no public word for it.
    """
    return x.numel() > 0 and x.data_ptr() == 0


def dense(name: str, x: Any, importers: Iterable[Callable[[Any], Dense]]) -> Dense:
    """Return ``x`` as a plain dense array of one of the three kinds, in the same memory.

    Tensors come out detached. Subclasses of arrays and tensors, numbers, and what has ``__jax_array__`` or
    ``__dlpack__`` become plain arrays.

    Args:
        name: The public function, for the message.
        x: What may be an array.
        importers: Functions that take an object with ``__dlpack__``, tried in this order.

    Raises:
        TypeError: If ``x`` is no dense array of numbers.
        ValueError: If it is one whose data are gone or out of reach.
        OverflowError: If it is an int of more than 64 bits.
    """
    if is_tensor(x):
        return _dense_tensor(name, x)
    if isinstance(x, jax.Array):
        return _dense_jax(name, x)
    if isinstance(x, (np.ndarray, np.generic)):
        return _dense_numpy(name, x)
    if is_number(x):
        return _dense_number(name, x)
    if hasattr(x, "__jax_array__"):
        return _dense_jax(name, x.__jax_array__())
    if hasattr(x, "__dlpack__"):
        return _dense_foreign(name, x, importers)
    raise TypeError(
        f"{name}: got a {_type_name(x)}, which is no dense array, no number and no container that jax.tree knows; "
        f"{_way_out(x)}"
    )


def _type_name(x: Any) -> str:
    return f"{type(x).__module__}.{type(x).__qualname__}".removeprefix("builtins.")


def _way_out(x: Any) -> str:
    kind = type(x).__name__
    if hasattr(x, "todense"):
        return "call .todense() first"
    if hasattr(x, "state_dict"):
        return "pass its .state_dict()"
    if hasattr(x, "__array__"):
        return "pass numpy.asarray(...) of it"
    register = f"register it, once: jax.tree_util.register_pytree_node({kind}, "
    if isinstance(x, dict):
        items = ("**" if dataclasses.is_dataclass(x) else "") + "dict(zip(keys, values))"
        parts = f"lambda x: (tuple(x.values()), tuple(x)), lambda keys, values: {kind}({items}))"
        return f"pass dict(...) of it, or {register}{parts}"
    if isinstance(x, (list, tuple)):
        plain = "list" if isinstance(x, list) else "tuple"
        return f"pass {plain}(...) of it, or {register}lambda x: (tuple(x), None), lambda _, items: {kind}(items))"
    if dataclasses.is_dataclass(x):
        return f"pass vars(...) of it, or register it, once: jax.tree_util.register_dataclass({kind})"
    if hasattr(x, "shape") and hasattr(x, "dtype"):
        return "it has no data: give it some, as with jax.numpy.zeros(x.shape, x.dtype)"
    if isinstance(x, Iterable) and not isinstance(x, (str, bytes)):
        return "pass list(...) of it, or numpy.asarray(list(...)) if it holds numbers"
    return "leave it out"


def _dense_numpy(name: str, x: "np.ndarray | np.generic") -> np.ndarray:
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{name}: got a masked array, whose mask would be lost; call .filled(value) first")
    if not is_numeric(x.dtype):
        raise TypeError(f"{name}: got a NumPy array of dtype {x.dtype}; {_numeric_way_out(x.dtype)}")
    return np.asarray(x)


def _numeric_way_out(dtype: np.dtype) -> str:
    if dtype == jax.dtypes.float0:
        return "it is the derivative by integers, which has no values; leave it out, or put numpy.zeros(x.shape) there"
    if dtype.names is not None:
        return "convert its fields one by one, as {field: array[field] for field in array.dtype.names}"
    if dtype.kind in "mM":
        return "call .astype('int64') first"
    if dtype.isbuiltin == 2:
        whole = jnp.issubdtype(dtype, jnp.integer)
        return (
            "numbers of less than a byte are packed differently everywhere; call "
            f".astype('{'int8' if whole else 'float32'}') first, which holds them all"
        )
    if dtype.kind == "V":
        return "pass its bytes, .view('uint8')"
    if dtype.kind == "O":
        return "call .astype('float64') first if it holds numbers, or pass .tolist() if it holds arrays"
    return "call .astype('float64') first if it spells numbers, or number it, numpy.unique(..., return_inverse=True)[1]"


def _dense_jax(name: str, x: jax.Array) -> jax.Array:
    if isinstance(x, jax.core.Tracer):
        raise TypeError(
            f"{name}: got a traced JAX array, which has no data yet; convert outside of jax.jit, jax.grad and "
            "jax.vmap, or call the torch function through jaxact.interop.as_jax"
        )
    if x.dtype not in DTYPES:
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            raise TypeError(f"{name}: got JAX random keys; convert jax.random.key_data(keys)")
        raise TypeError(f"{name}: got a JAX array of dtype {x.dtype}; {_numeric_way_out(x.dtype)}")
    if x.is_deleted():
        raise ValueError(f"{name}: got a JAX array that was deleted or donated; convert it before, with copy=True")
    if not x.is_fully_addressable:
        raise ValueError(
            f"{name}: got a JAX array with shards on other processes; gather it with "
            "jax.experimental.multihost_utils.process_allgather, or convert its addressable_shards"
        )
    return x


def _dense_tensor(name: str, x: "torch.Tensor") -> "torch.Tensor":
    import torch

    if x.is_nested:
        raise TypeError(f"{name}: got a nested tensor, which is not dense; convert the list x.unbind()")
    if x.layout is not torch.strided:
        layout = str(x.layout).removeprefix("torch.").lstrip("_")
        raise TypeError(f"{name}: got a {layout} tensor, which is not dense; call .to_dense() first")
    if x.dtype not in numpy_dtypes():
        raise TypeError(f"{name}: got a tensor of {x.dtype}, which JAX and NumPy lack; {_tensor_way_out(x)}")
    if x.is_meta:
        raise TypeError(
            f"{name}: got a meta tensor, which has no data; give it some, as with torch.zeros_like(x, device='cpu')"
        )
    if type(x).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        raise TypeError(
            f"{name}: got a {_type_name(x)}, which has no data of its own; "
            + ("call .full_tensor() first" if hasattr(x, "full_tensor") else "convert the tensor that it stands for")
        )
    try:
        have = x.untyped_storage().nbytes()
    except RuntimeError:
        raise TypeError(
            f"{name}: got a tensor traced by torch.func, which has no data; convert outside of torch.func.grad and "
            "torch.func.vmap, or call the JAX function through jaxact.interop.as_torch"
        ) from None
    if have < (want := _extent(x)):
        raise ValueError(
            f"{name}: got a tensor that needs {want} bytes of a storage that was resized to {have}; convert it before, "
            "with copy=True, or give it new data"
        )
    if name != "to_torch" and is_recorded():  # which leaves a tensor what it is
        raise TypeError(
            f"{name}: got a tensor while make_fx or torch.func.linearize records, in whose graph the result would be a "
            "constant; convert before, or call the JAX function through jaxact.interop.as_torch"
        )
    if x.requires_grad:
        x = x.detach()
    return x if type(x) is torch.Tensor else x.as_subclass(torch.Tensor)


def _tensor_way_out(x: "torch.Tensor") -> str:
    if x.is_quantized:
        return "call .dequantize() first"
    if x.is_complex():
        return "call .to(torch.complex64) first, which holds it"
    return f"pass its bits, .view(torch.uint{8 * x.itemsize})"


def _extent(x: "torch.Tensor") -> int:
    """Return how many bytes of its storage the tensor reaches over."""
    if x.numel() == 0:
        return 0
    last = sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    return int(x.storage_offset() + last + 1) * x.itemsize


def _dense_number(name: str, x: complex) -> np.ndarray:
    array = np.asarray(x)
    if array.dtype == object:
        raise OverflowError(f"{name}: got the int {x}, which 64 bits do not hold; convert it to a float first")
    return array


def _dense_foreign(name: str, x: Any, importers: Iterable[Callable[[Any], Dense]]) -> Dense:
    failures = []
    for import_dlpack in importers:
        try:
            array = import_dlpack(x)
        except Exception as error:  # it is foreign code that runs here
            failures.append(str(error))
        else:
            try:
                return dense(name, array, ())
            except (TypeError, ValueError) as error:
                error.add_note(f"what was got is what {_importer(array)} makes of a {_type_name(x)}")
                raise
    why = "; ".join(dict.fromkeys(failures))
    raise TypeError(
        f"{name}: got a {_type_name(x)}, whose data cannot be taken over DLPack ({why}); convert it with the library "
        "that it comes from, or leave it out"
    )


def _importer(array: Dense) -> str:
    return f"{'torch' if is_tensor(array) else 'numpy' if isinstance(array, np.ndarray) else 'jax.dlpack'}.from_dlpack"

"""Torch modules as native JAX functions: :func:`port`."""

import inspect
import numbers
from collections.abc import Callable, Iterator
from pkgutil import resolve_name
from typing import Any

import jax
from torch import nn

from jaxact.catalog import CATALOG, Activation

from ._arguments import STATIC, lay_out
from ._ported_modules import PortedModule, PortedSequential, attention
from ._to_jax import to_jax

# The row of each class whose forward method jaxact has.
_ROWS: dict[type[nn.Module], Activation] = {
    resolve_name(row.torch_module): row for row in CATALOG if row.torch_module and row.torch_method == "forward"
}
# What computes each class. A ReLU6 is a Hardtanh in torch, whose bounds are attributes that may be set.
_FUNCTIONS: dict[type[nn.Module], Callable[..., Any]] = {cls: row.function for cls, row in _ROWS.items()} | {
    nn.ReLU6: _ROWS[nn.Hardtanh].function,
    nn.MultiheadAttention: attention,
}
_CONTAINERS = (nn.Sequential, nn.Identity)
_OF_SEVERAL_INPUTS = tuple(cls for cls, row in _ROWS.items() if row.inputs > 1)
_PARTS = tuple(resolve_name(part) for row in _ROWS.values() for part in row.torch_parts)
# Private names, because torch does not say publicly which hooks a module has.
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def port(module: nn.Module) -> jax.tree_util.Partial:
    """Make a torch activation module a native JAX function: jaxact's, with the module's settings and weights.

    It takes every class of ``torch.nn.modules.activation`` and ``torch.nn.modules.adaptive``, ``nn.Identity``, and
    ``nn.Sequential`` of them, nested too. The result runs no torch, and works under every transform of JAX; in its
    arguments and results it is as the module's forward method.

    **Weights.** What comes back is a ``jax.tree_util.Partial``, a pytree whose leaves are the module's parameters:
    ``jax.grad(lambda net, x: loss(net(x)))(net, x)`` differentiates them, and ``jax.tree.map`` over it and its
    gradient is a step of training. ``net.func(params, x)`` and ``net.args[0]``, a dict by torch's names, are the
    parts. Everything else is static, and equal modules have equal structure: what ``jax.jit`` has compiled for one
    serves the next. Weights are copied, so that later changes of the module do not show; parameters that require
    no grad are leaves like the others.

    **Randomness.** The training mode is that of each module when it is ported. In training ``nn.RReLU`` takes a JAX
    PRNG key as ``key``, and ``nn.MultiheadAttention`` with dropout one as ``dropout_key``, as jaxact's functions do. An
    ``nn.Sequential`` takes ``key`` too; every ``nn.RReLU`` in it draws with another key, folded from that one.

    **Not as in torch.** ``inplace=True`` has no meaning and is ignored. A softmax without ``dim``, which torch
    deprecates, is refused. Of ``nn.AdaptiveLogSoftmaxWithLoss`` only the forward method is ported; for ``log_prob`` and
    ``predict`` pass its weights to :func:`jaxact.adaptive_log_softmax_log_prob`.

    Args:
        module: The module, of one of these classes itself: a subclass may compute something else.

    Returns:
        A function of the arguments of the module's forward method, with arrays in the place of tensors. It can
        be pickled, and loaded where torch is not installed.

    Raises:
        TypeError: If ``module`` is no module, or it or one inside is of another class, or has a setting that is
            no number.
        ValueError: If one has hooks, a forward method or parameters of its own, or no ``dim``.

    Warns:
        PrecisionWarning: If weights are rounded because 64-bit mode is off, see :func:`to_jax`.

    Example:
        >>> import jax, jax.numpy as jnp, torch
        >>> from jaxact.interop import port
        >>> net = port(torch.nn.Sequential(torch.nn.PReLU(), torch.nn.Hardtanh(max_val=5.0)))
        >>> x = jnp.array([-1.0, 2.0, -3.0, 7.0])
        >>> print(net(x))
        [-0.25  2.   -0.75  5.  ]
        >>> gradient = jax.grad(lambda net, x: net(x).sum())(net, x)
        >>> gradient.args[0]
        {'0.weight': Array([-4.], dtype=float32)}

    See Also:
        :func:`as_jax`, which takes any module and runs torch, :class:`torch.nn.Sequential`
    """
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"port: module must be a torch.nn.Module, got {type(module).__name__}; the functions of "
            "torch.nn.functional have the same names in jaxact"
        )
    parameters = dict(module.named_parameters())  # one that occurs twice goes by its first name
    ported = tuple(_ported(module, "", {id(parameter): name for name, parameter in parameters.items()}))
    used = {name for one in ported for name in one.fixed.leaves if isinstance(name, str)}
    if unused := sorted(parameters.keys() - used):
        raise ValueError(
            f"port: torch's modules have no parameters {', '.join(unused)}, and what they are for is not known; remove "
            "them, or use jaxact.interop.as_jax"
        )
    function = PortedSequential(ported) if type(module) in _CONTAINERS else ported[0]
    return jax.tree_util.Partial(function, to_jax(parameters, copy=True))


def _ported(module: nn.Module, path: str, names: dict[int, str]) -> Iterator[PortedModule]:
    """Yield what computes a module, a part at a time, in their order.

    Args:
        module: The module.
        path: Where it stands, as torch writes it.
        names: The names of the parameters, by their ids.
    """
    where = _where(module, path)
    if type(module) in _CONTAINERS:
        _refuse_changed(module, where)
        inside = [name for name, _ in module.named_modules(remove_duplicate=False) if name and "." not in name]
        for name, child in zip(inside, module, strict=True) if isinstance(module, nn.Sequential) else ():
            if isinstance(child, _OF_SEVERAL_INPUTS):
                raise TypeError(
                    f"port: {where} passes one input, and {type(child).__name__} takes several; port it alone"
                )
            yield from _ported(child, f"{path}.{name}" if path else name, names)
        return
    for part_path, part in module.named_modules(prefix=path):
        part_where = _where(part, part_path)
        if type(part) not in (_FUNCTIONS if part is module else _PARTS):
            raise TypeError(f"port: {part_where} is {_unknown(type(part))}; jaxact.interop.as_jax takes any module")
        _refuse_changed(part, part_where)

    def kind(setting: Any) -> str:
        if id(setting) in names:
            return names[id(setting)]
        if isinstance(setting, (numbers.Real, str)):
            return STATIC
        raise TypeError(
            f"port: {where} holds a {type(setting).__name__} where one of its parameters or a number should be; put "
            "one of these there"
        )

    layout, _ = lay_out("port", (), _fixed(module, where), kind)
    yield PortedModule(_FUNCTIONS[type(module)], layout)


def _fixed(module: nn.Module, where: str) -> dict[str, Any]:
    """Return what the module fixes of the arguments of its function."""
    if isinstance(module, nn.MultiheadAttention):
        return {
            "batch_first": module.batch_first,
            "embed_dim_to_check": module.embed_dim,
            "num_heads": module.num_heads,
            "in_proj_weight": module.in_proj_weight,
            "in_proj_bias": module.in_proj_bias,
            "bias_k": module.bias_k,
            "bias_v": module.bias_v,
            "add_zero_attn": module.add_zero_attn,
            "dropout_p": module.dropout,
            "out_proj_weight": module.out_proj.weight,
            "out_proj_bias": module.out_proj.bias,
            "training": module.training,
            "use_separate_proj_weight": module.in_proj_weight is None,
            "q_proj_weight": module.q_proj_weight,
            "k_proj_weight": module.k_proj_weight,
            "v_proj_weight": module.v_proj_weight,
        }
    if isinstance(module, nn.AdaptiveLogSoftmaxWithLoss):
        tails: Any = module.tail
        return {
            "head_weight": module.head.weight,
            "tail_weights": [(tail[0].weight, tail[1].weight) for tail in tails],
            "cutoffs": module.cutoffs,
            "head_bias": module.head.bias,
        }
    _, *arguments = inspect.signature(_FUNCTIONS[type(module)]).parameters
    fixed = {name: getattr(module, name) for name in arguments if name not in ("dtype", "key")}  # these are the call's
    if "dim" in fixed and fixed["dim"] is None:
        raise ValueError(
            f"port: {where} has dim=None, with which torch chooses an axis by their number and warns; set its dim first"
        )
    return fixed


def _where(module: nn.Module, path: str) -> str:
    return f"{type(module).__name__} at {path}" if path else type(module).__name__


def _unknown(cls: type[nn.Module]) -> str:
    """Return what a class is that is not ported."""
    for base in cls.__mro__:
        if base in (*_FUNCTIONS, *_CONTAINERS, *_PARTS) and base is not cls:
            return f"a subclass of {base.__name__}, which may compute something else"
    return "none of torch's activation modules, nn.Identity and nn.Sequential, which port takes"


def _refuse_changed(module: nn.Module, where: str) -> None:
    """Raise if a module does not compute what its class does."""
    if "forward" in vars(module):
        raise ValueError(f"port: {where} has a forward method of its own; jaxact.interop.as_jax takes any module")
    if any(getattr(module, hooks) for hooks in _HOOKS):
        raise ValueError(
            f"port: {where} has hooks, which would not run; remove them, or use jaxact.interop.as_jax, which runs them"
        )

"""What :func:`port` returns: jaxact's functions, called with the settings and weights of torch modules.

Nothing here imports torch, so that a ported module is pickled, loaded and called where torch is not installed.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxact import multi_head_attention_forward, rrelu
from jaxact._checks import operand

from ._arguments import Layout

Parameters = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class PortedModule:
    """One module as a function of its parameters and its inputs.

    Equal torch modules make equal ones of one hash, so that ``jax.jit`` finds again what it compiled for the first.

    Attributes:
        function: The function that computes it.
        fixed: What the module fixes of its keyword arguments: settings by value, weights by the parameter's name.
    """

    function: Callable[..., Any]
    fixed: Layout

    def __call__(self, parameters: Parameters, /, *args: Any, **kwargs: Any) -> Any:
        _, fixed = self.fixed.fill(**{name: itertools.repeat(weight) for name, weight in parameters.items()})
        return self.function(*args, **fixed, **kwargs)


@dataclasses.dataclass(frozen=True)
class PortedSequential:
    """An ``nn.Sequential``: modules of one input each, one after the other.

    Attributes:
        modules: The modules, those of nested ones in line.
    """

    modules: tuple[PortedModule, ...]

    def __call__(self, parameters: Parameters, x: ArrayLike, /, *, key: jax.Array | None = None) -> jax.Array:
        y = jnp.asarray(operand("port", x))
        for i, module in enumerate(self.modules):
            if key is not None and module.function is rrelu:
                y = module(parameters, y, key=jax.random.fold_in(key, i))
            else:
                y = module(parameters, y)
        return y


def attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    key_padding_mask: ArrayLike | None = None,
    need_weights: bool = True,
    attn_mask: ArrayLike | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
    *,
    dropout_key: jax.Array | None = None,
    batch_first: bool,
    **fixed: Any,
) -> tuple[jax.Array, jax.Array | None]:
    """Return what the forward method of ``torch.nn.MultiheadAttention``, whose arguments these are, returns."""
    swapped = functools.partial(_swapped, batch_first)
    output, weights = multi_head_attention_forward(
        swapped(query, "query"),
        swapped(key, "key"),
        swapped(value, "value"),
        key_padding_mask=key_padding_mask,
        need_weights=need_weights,
        attn_mask=attn_mask,
        average_attn_weights=average_attn_weights,
        is_causal=is_causal,
        dropout_key=dropout_key,
        **fixed,
    )
    return swapped(output, "output"), weights


def _swapped(batch_first: bool, x: Any, argument: str) -> Any:
    """Return ``x`` with batch and sequence swapped, if it has a batch and that comes first."""
    x = operand("multi_head_attention_forward", x, argument)
    return jnp.swapaxes(x, 0, 1) if batch_first and np.ndim(x) == 3 else x

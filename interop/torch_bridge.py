"""JAX functions in PyTorch: :func:`as_torch`.

A call flattens its arguments into tensors, constants (arrays and floats that JAX traces, without a gradient)
and static values. The values and the structure pick a :class:`_Program`, a JAX function of flat arrays that is
compiled once for each set of shapes and dtypes. The derivatives of a program and its batched form are programs
again, so one ``torch.autograd.Function`` serves every order of derivative and every ``torch.func`` transform.
"""

import contextlib
import functools
import inspect
import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch

from .tensors import to_jax, to_torch

# jax.enable_x64 exists since jax 0.8; until then the context manager was experimental.
_enable_x64: Any = getattr(jax, "enable_x64", None) or getattr(jax.experimental, "enable_x64")  # noqa: B009
_DOUBLES = (torch.float64, torch.complex128)

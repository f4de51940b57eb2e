"""Torch functions called in torch's own modes, whatever is on in the thread that calls."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from ._torch_private import is_watched


def undisturbed(default_dtype: torch.dtype, fn: Callable[..., Any], *args: Any) -> Any:
    """Call a function in torch's own modes, whatever those of the thread are.

    Callbacks run on the thread of whoever calls JAX or on one of JAX's, and a gradient under
    ``torch.inference_mode()`` is 0 without a word. The two modes that are common where nobody trains are turned
    off, which costs a microsecond; against all others a thread of its own helps, where one is on.
    """
    if _others_are_on():
        return undisturbed_thread(default_dtype, fn, *args)
    if torch.is_grad_enabled() and not torch.is_inference_mode_enabled():
        return _with_default_dtype(default_dtype, fn, *args)
    with torch.inference_mode(False):  # turns gradients on, too
        return _with_default_dtype(default_dtype, fn, *args)


def undisturbed_thread(default_dtype: torch.dtype, fn: Callable[..., Any], *args: Any) -> Any:
    """Call a function in a new thread, in which no mode of torch is on."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_with_default_dtype, default_dtype, fn, *args).result()


_PLAIN = torch.empty(0)


def _others_are_on() -> bool:
    """Say whether this thread has a mode on besides no_grad and inference_mode."""
    return (
        torch.is_autocast_enabled("cpu")
        or torch.overrides.has_torch_function((_PLAIN,))  # torch.set_default_device, and modes of the user
        or is_watched()
    )


_default_dtype_is_set = threading.RLock()


def _with_default_dtype(dtype: torch.dtype, fn: Callable[..., Any], *args: Any) -> Any:
    """Call a function under a default dtype, which is one for all threads."""
    if torch.get_default_dtype() == dtype:
        return fn(*args)
    with _default_dtype_is_set:
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            return fn(*args)
        finally:
            torch.set_default_dtype(before)

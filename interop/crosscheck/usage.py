"""What is said where something cannot be done: to who asks by the command line, and where an extra is missing."""

from collections.abc import Callable
from typing import Any

PAGES_NEED = ("jinja2", "markupsafe", "matplotlib")


class UsageError(ValueError):
    """What was asked for cannot be done; the message says why."""


def html_writer() -> Callable[..., None]:
    """Return :func:`~jaxact.interop.crosscheck.html.write_html`.

    Raises:
        ModuleNotFoundError: If what it needs is not installed; the message says what to install.
    """
    try:
        from .html import write_html
    except ModuleNotFoundError as error:
        if error.name not in PAGES_NEED:
            raise
        message = f"a page needs {error.name}; install it with: pip install 'jaxact[report]'"
        raise ModuleNotFoundError(message, name=error.name) from None
    writer: Callable[[Any, Any], None] = write_html
    return writer

"""Where this code runs: on the user's machine, or inside a container and for which input."""

from __future__ import annotations

import os
import sys


def is_local() -> bool:
    """Whether this is not one of Squall's containers."""
    return os.environ.get("SQUALL_IS_REMOTE") != "1"


def current_input_id() -> str | None:
    """The id of the input that runs now; None outside of containers."""
    return _current(0)


def parent() -> str:
    """The input that a call from here is nested in, as the server knows it; empty outside of containers."""
    context = sys.modules.get("squall.runner.context")
    return context.parent() if context is not None else ""


def current_function_call_id() -> str | None:
    """The id of the call whose input runs now; None outside of containers."""
    return _current(1)


def current_function_id() -> str | None:
    """The id of the function that this container is for; None outside of containers."""
    context = sys.modules.get("squall.runner.context")
    return (context.function_id or None) if context is not None else None


def _current(which: int) -> str | None:
    context = sys.modules.get("squall.runner.context")
    return (context.current()[which] or None) if context is not None else None

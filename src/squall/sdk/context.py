"""Where this code runs: on the user's machine, or inside a container and for which input."""

from __future__ import annotations

import os
import sys


def is_local() -> bool:
    """Whether this is not one of Squall's containers."""
    return os.environ.get("SQUALL_IS_REMOTE") != "1"


def current_input_id() -> str | None:
    """The id of the input that runs now; None outside of containers."""
    return _context("input_id")


def current_function_call_id() -> str | None:
    """The id of the call whose input runs now; None outside of containers."""
    return _context("call_id")


def _context(name: str) -> str | None:
    context = sys.modules.get("squall.runner.context")
    return getattr(context, name, None) or None

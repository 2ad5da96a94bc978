"""What runs here and now. The SDK reads it out of `sys.modules`, for it may not import the runner."""

from __future__ import annotations

from contextvars import ContextVar

#: Ids of the running input and of its call; empty while none runs. Where inputs share the container, each has
#: its own in `shared`.
input_id = ""
call_id = ""
#: What the server knows of the running input, where that is not its own id: the line that it came over.
line_id = ""
#: The function that this container is for.
function_id = ""
shared: ContextVar[tuple[str, str]] = ContextVar("squall_input")


def current() -> tuple[str, str]:
    """The ids of the input and of the call that this code runs for."""
    return shared.get((input_id, call_id))


def parent() -> str:
    """The id by which the server knows the input that this code runs for."""
    return line_id or current()[0]

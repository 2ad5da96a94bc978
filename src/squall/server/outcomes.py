"""What the platform tells of an input that it ended itself. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squall.server.names import one_line
from squall.wire.values import ErrorInfo, Outcome

if TYPE_CHECKING:
    from squall.wire.messages import ContainerState

#: From a code of scheduling.model.FailInput to a name in squall.exception; others are a container's end.
_ERRORS = {
    "killed": "InternalFailure",
    "lost": "InternalFailure",
    "interrupted": "InternalFailure",
    "start_failed": "ExecutionError",
    "unplaceable": "ResourceExhaustedError",
    "deadlock": "ResourceExhaustedError",
}
#: Why a container never became ready, likewise.
_START_ERRORS = {"image": "ImageBuildError", "startup_timeout": "FunctionTimeoutError"}
#: Ends of containers that are the tenant's own doing.
FAULTS = frozenset({"oom", "exit", "signal", "protocol"})
#: Reasons of a failed start that pass when the operator acts.
SHORTAGES = frozenset({"disk"})
#: Reasons of a failed start that another try may not meet.
PASSING = frozenset({"killed", "lost", "stopped"})


def failed(code: str, message: str) -> Outcome:
    """The outcome of a FailInput."""
    if code in ("cancelled", "removed"):
        return cancelled(message)
    return Outcome("failed", error=ErrorInfo(_ERRORS.get(code, "RemoteError"), message))


def cancelled(message: str = "the call was cancelled") -> Outcome:
    return Outcome("cancelled", error=ErrorInfo("InputCancellation", message))


def start_failed(state: ContainerState) -> Outcome:
    """Why no container of a function becomes ready; an import error is the user's own exception."""
    message = one_line(state.message) or f"the container could not start ({one_line(state.reason, 40)})"
    if state.reason == "import":
        return Outcome(
            "exception",
            payload=state.error,
            error=ErrorInfo("ExecutionError", message, f"squall: {message}\n"),
        )
    return Outcome("failed", error=ErrorInfo(_START_ERRORS.get(state.reason, "ExecutionError"), message))

"""Why a container ended, in a word and a line, and what that means for the input that ran. Pure."""

from __future__ import annotations

import errno
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from squall.wire.values import ErrorInfo, Outcome

if TYPE_CHECKING:
    from squall.runtime.spec import ExitStatus

#: Signals that a program brings upon itself.
_OWN = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGSYS})
#: Ends that are the doing of the input that ran: it fails, and nobody runs it again for nothing.
FAULTS = frozenset({"oom", "exit", "signal", "protocol"})


@dataclass(frozen=True)
class End:
    """`reason` is one word of `wire.messages.ContainerState`. `innocent`: it is known whose doing it was, and
    inputs that ran beside that lose nothing but time.
    """

    reason: str
    message: str
    innocent: bool = False


STOPPED = End("stopped", "the container was told to stop")
STUCK = End("stopped", "an input did not end after it was cancelled", innocent=True)
TERMINATED = End("stopped", "the call was cancelled together with its containers", innocent=True)


def described(status: ExitStatus, ordered: End | None, memory_limit_mib: int | None) -> End:
    """The end of a container that ended so; `ordered` is why we ended it ourselves."""
    if status.oom:
        limit = "" if memory_limit_mib is None else f" (its limit is {memory_limit_mib} MiB)"
        return End("oom", f"the container ran out of memory{limit}: give the function more with memory=")
    if ordered is not None:
        return ordered
    if status.signal is not None:
        return _by_signal(status.signal)
    hint = "; it had met its limit of processes" if status.pids_hit else ""
    return End("exit", f"the container's process exited with code {status.code}{hint}")


def is_full_disk(error: BaseException | None) -> bool:
    """Whether it says so, or what it came from does. The launcher's errors come as words."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if os.strerror(errno.ENOSPC) in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _by_signal(number: int) -> End:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if number in _OWN:
        return End("signal", f"the container's process crashed ({name}); its last output may say where")
    return End("killed", f"the container's process was killed from outside ({name})")


def too_slow(seconds: float) -> End:
    return End(
        "startup_timeout",
        f"the container was not ready within {seconds:g} seconds: give it more with startup_timeout=",
    )


def failed(end: End) -> Outcome:
    """The outcome of the input whose doing the end was."""
    return Outcome("failed", error=ErrorInfo("RemoteError", end.message))


def cancelled() -> Outcome:
    return Outcome("cancelled", error=ErrorInfo("InputCancellation", "the call was cancelled"))


def timed_out(seconds: float) -> Outcome:
    message = f"the input ran longer than its function's timeout of {seconds:g} seconds"
    return Outcome("timeout", error=ErrorInfo("FunctionTimeoutError", message))

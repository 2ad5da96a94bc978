"""From the container's init to a program of the tenant's: what is given up on the way, in which order.

The child is undumpable from its fork to its exec, so nobody inside can look into it, trace it or open what it
has open; by its exec it holds nothing of ours.
"""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import termios
from typing import TYPE_CHECKING, NoReturn

from squall.runtime import capabilities, seccomp
from squall.runtime.linux import processes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from squall.runtime.launcher.messages import Message

#: Open files: what most programs expect as the soft limit, and room to raise it.
SOFT_FILES, HARD_FILES = 65_536, 1_048_576
#: Bytes of the longest reason why a program cannot be run.
COMPLAINT = 4096


class ProgramError(Exception):
    """The program cannot be started; the message is one line for a user."""


def fork(
    start: Message, standard: Sequence[int], program_filter: bytes, *, terminal: bool = False
) -> tuple[int, int]:
    """Start `argv` of `start` with its `env` in `cwd`, and the descriptors `standard` as its 0, 1 and 2.

    With `terminal`, they are one, which becomes its controlling terminal. Gives its pid, and a pipe that
    tells why it cannot be run, or ends without a word once it runs the tenant's code.
    """
    complaints, complaint = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(start, standard, complaint, program_filter, terminal=terminal)
    os.close(complaint)
    return pid, complaints


def _become(
    start: Message, standard: Sequence[int], complaint: int, program_filter: bytes, *, terminal: bool
) -> NoReturn:
    """Give up everything that a tenant may not have, then run the program. Tells why it cannot."""
    argv = start["argv"]
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _descriptors(standard, complaint)
        if terminal:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        _limits()
        _identity()
        _work_in(start["cwd"])
        seccomp.install(program_filter)
        os.execvpe(argv[0], argv, start["env"])
    except OSError as error:
        reason = f"cannot run {argv[0]!r}: {error.strerror or error}"
        os.write(complaint, reason.encode()[:COMPLAINT])
    except Exception as error:
        os.write(complaint, f"cannot run {argv[0]!r}: {error}".encode()[:COMPLAINT])
    os._exit(127)


def _descriptors(standard: Sequence[int], complaint: int) -> None:
    os.setsid()
    for fd, source in enumerate(standard):
        os.dup2(source, fd)
    processes.close_all_but({0, 1, 2, complaint})


def _limits() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, SOFT_FILES), min(most, HARD_FILES)))
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.umask(0o022)


def _identity() -> None:
    """Root of the workspace's user namespace, with the default capabilities inside it and no more."""
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    capabilities.drop_bounding(capabilities.CONTAINER_CAPS)
    capabilities.set_caps(capabilities.CONTAINER_CAPS)


def _work_in(directory: str) -> None:
    try:
        os.makedirs(directory, exist_ok=True)
        os.chdir(directory)
    except OSError as error:
        raise ProgramError(f"cannot work in {directory!r}: {error.strerror}") from None

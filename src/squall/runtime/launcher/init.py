"""A container's pid 1: trusted code of ours that composes the container, starts its program, and reaps.

It stays undumpable and keeps the host's uid, which nobody inside can name; the kernel drops every signal that
the inside sends to it. When the program ends, it tells how and ends too, and the kernel kills what is left.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from squall.runtime import capabilities, seccomp
from squall.runtime.launcher import messages, skeleton
from squall.runtime.linux import processes

if TYPE_CHECKING:
    from squall.runtime.launcher.messages import Message

#: Open files: what most programs expect as the soft limit, and room to raise it.
SOFT_FILES, HARD_FILES = 65_536, 1_048_576


class ProgramError(Exception):
    """The program cannot be started; the message is one line for a user."""


@dataclass(frozen=True)
class Parts:
    """The descriptors of a skeleton: the launcher's socket, the root, a network namespace, the mounts."""

    control: int
    root: int
    network: int | None
    sources: list[int]


def run(plan: skeleton.Plan, parts: Parts, program_filter: bytes) -> NoReturn:
    """Be the init of a new container. Never returns."""
    control = socket.socket(fileno=parts.control)
    try:
        _enter(plan, parts)
        start, outputs = messages.receive(control)
        ready = time.monotonic()
        processes.unshare(processes.NEWCGROUP)  # placed by now: its own group is the root it sees
        program = _start(start, outputs, program_filter)
    except messages.Closed:
        os._exit(0)
    except Exception as error:
        _tell(control, {"error": str(error)})
        os._exit(1)
    pidfd = processes.pidfd_open(program)
    _tell(control, {"started": ready}, [pidfd])
    os.close(pidfd)
    _tell(control, {"status": _reap_until(program)})
    os._exit(0)


def _enter(plan: skeleton.Plan, parts: Parts) -> None:
    for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    processes.set_title("init")
    if parts.network is None:
        processes.loopback_up()
    else:
        processes.setns(parts.network, processes.NEWNET)
    socket.sethostname(plan.hostname)
    skeleton.build(plan, parts.root, parts.sources)
    processes.close_all_but({0, 1, 2, parts.control})


def _tell(control: socket.socket, message: Message, descriptors: list[int] | None = None) -> None:
    """Tell the launcher. The container goes on when it has died."""
    try:
        messages.send(control, message, descriptors)
    except OSError:
        return


def _reap_until(program: int) -> int:
    """Reap all that ends here until the program does; its wait status."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == program:
            return status


def _start(start: Message, outputs: list[int], program_filter: bytes) -> int:
    """Fork the program; return its pid once it runs the tenant's code."""
    complaint_read, complaint_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(start, outputs, complaint_write, program_filter)
    os.close(complaint_write)
    messages.close_all(outputs)
    complaint = os.read(complaint_read, 4096).decode(errors="replace")
    os.close(complaint_read)
    if complaint:
        raise ProgramError(complaint)
    return pid


def _become(start: Message, outputs: list[int], complaint: int, program_filter: bytes) -> NoReturn:
    """Give up everything that a tenant may not have, then run the program. Tells why it cannot."""
    argv = start["argv"]
    try:
        _descriptors(outputs, complaint)
        _limits()
        _identity()
        _work_in(start["cwd"])
        seccomp.install(program_filter)
        os.execvpe(argv[0], argv, start["env"])
    except OSError as error:
        reason = f"cannot run {argv[0]!r}: {error.strerror or error}"
        os.write(complaint, reason.encode()[:4096])
    except Exception as error:
        os.write(complaint, f"cannot run {argv[0]!r}: {error}".encode()[:4096])
    os._exit(127)


def _descriptors(outputs: list[int], complaint: int) -> None:
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    for fd, source in enumerate((null, *outputs)):
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

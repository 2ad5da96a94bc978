"""A container's pid 1: trusted code of ours that composes the container, starts its program, and reaps.

It stays undumpable and keeps the host's uid, which nobody inside can name; the kernel drops every signal that
the inside sends to it (but SIGCHLD, which it only wakes up from). It starts what joins the container later,
too (guests.py). When the program ends, it tells how and ends as well, and the kernel kills what is left.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from squall.runtime.launcher import messages, program, skeleton
from squall.runtime.launcher.guests import Guests
from squall.runtime.linux import processes

if TYPE_CHECKING:
    from squall.runtime.launcher.messages import Message


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
        main = _start(start, outputs, program_filter)
    except messages.Closed:
        os._exit(0)
    except Exception as error:
        _tell(control, {"error": str(error)})
        os._exit(1)
    pidfd = processes.pidfd_open(main)
    _tell(control, {"started": ready}, [pidfd])
    os.close(pidfd)
    _tell(control, {"status": Guests(control, start, main, program_filter).run()})
    os._exit(0)


def _enter(plan: skeleton.Plan, parts: Parts) -> None:
    # All of them: whoever started the launcher (nohup, a shell in the background) may have had more ignored.
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
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


def _start(start: Message, outputs: list[int], program_filter: bytes) -> int:
    """Fork the program; return its pid once it runs the tenant's code."""
    null = os.open("/dev/null", os.O_RDWR)
    pid, complaints = program.fork(start, [null, *outputs], program_filter)
    messages.close_all([null, *outputs])
    complaint = os.read(complaints, program.COMPLAINT).decode(errors="replace")
    os.close(complaints)
    if complaint:
        raise program.ProgramError(complaint)
    return pid

"""A zone: the trusted pid 1 of a workspace's pid namespace, which keeps the workspace's containers.

It makes their skeletons and network namespaces on the launcher's word. It runs in the workspace's user
namespace, invisible from the containers (their pid namespaces lie below its own) and undumpable. It does not
notice when a launcher is replaced by another (see keeper.py); without any, it goes on as long as it has
containers. When it dies, they die.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from squall.runtime.launcher import init, messages, skeleton
from squall.runtime.linux import mounts, processes

if TYPE_CHECKING:
    import socket

    from squall.runtime.launcher.messages import Message

#: The namespaces of the zone itself; it shares none with the host.
ZONE_NAMESPACES = processes.NEWNS | processes.NEWPID | processes.NEWIPC | processes.NEWUTS | processes.NEWNET
SKELETON_NAMESPACES = processes.NEWNS | processes.NEWPID | processes.NEWIPC | processes.NEWUTS


def become(connection: socket.socket, root: int, work: str, program_filter: bytes) -> NoReturn:
    """Turn this fresh process into a zone with the small file system `root`. Never returns.

    `work` is a directory of the host on which that root is mounted for a moment.
    """
    try:
        _settle(connection, root, work)
        pidfd = processes.pidfd_open(os.getpid())
        messages.send(connection, {"up": True}, [pidfd])
        os.close(pidfd)
        own_network = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        messages.send(connection, {"error": str(error)})
        os._exit(1)
    while True:
        try:
            request, descriptors = messages.receive(connection)
        except (OSError, ValueError):
            _outlive_launcher()
        _answer(connection, request, descriptors, own_network, program_filter)


def _settle(connection: socket.socket, root: int, work: str) -> None:
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # what ends is reaped by the kernel
    signal.set_wakeup_fd(-1)
    processes.hide_memory()
    processes.set_title("squall-zone")
    processes.close_all_but({connection.fileno(), root, 2})
    mounts.set_propagation(mounts.MS_PRIVATE)
    mounts.attach_at(root, work)
    os.chdir(work)
    mounts.attach_at(mounts.new_filesystem("proc", mounts.NOSUID | mounts.NODEV | mounts.NOEXEC), "proc")
    mounts.attach_at(mounts.new_filesystem("sysfs", mounts.NOSUID | mounts.NODEV | mounts.NOEXEC), "sys")
    mounts.pivot_root_here()
    null = os.open(skeleton.NULL, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    processes.close_all_but({0, 1, 2, connection.fileno()})


def _outlive_launcher() -> NoReturn:
    """Without a launcher: keep the containers until the last one has ended."""
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
    os._exit(0)


def _answer(
    connection: socket.socket,
    request: Message,
    descriptors: list[int],
    own_network: int,
    program_filter: bytes,
) -> None:
    answer: Message = {"id": request["id"]}
    made: list[int] = []
    try:
        if request["op"] == "skeleton":
            pidfd, placed = _make_skeleton(request, descriptors, program_filter)
            made.append(pidfd)
            answer["placed"] = placed
        else:
            made.append(_make_network(own_network))
    except OSError as error:
        answer["error"] = str(error)
    messages.close_all(descriptors)
    with suppress(OSError):  # the launcher has died: the next receive tells
        messages.send(connection, answer, made)
    messages.close_all(made)


def _make_skeleton(request: Message, descriptors: list[int], program_filter: bytes) -> tuple[int, bool]:
    """Start a container's init: a pidfd of it, and whether it is in its control group already.

    The init reports to the launcher by its own socket.
    """
    plan = skeleton.Plan.from_json(request["plan"])
    control, root, *rest = descriptors
    network = None if plan.network else rest.pop(0)
    cgroup = rest.pop(0) if request["cgroup"] else None
    pid, pidfd, placed = _clone(SKELETON_NAMESPACES | (processes.NEWNET if plan.network else 0), cgroup)
    if pid == 0:
        init.run(plan, init.Parts(control, root, network, rest), program_filter)
    return pidfd, placed


def _clone(flags: int, cgroup: int | None) -> tuple[int, int, bool]:
    """Clone, into a control group where the kernel does that: the pid, a pidfd, and whether it is there."""
    if cgroup is not None:
        with suppress(OSError):
            return *processes.clone_into(flags, cgroup), True
    return *processes.clone_watched(flags), False


def _make_network(own_network: int) -> int:
    """A new network namespace of this user namespace, with its loopback up."""
    processes.unshare(processes.NEWNET)
    try:
        processes.loopback_up()
        return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        processes.setns(own_network, processes.NEWNET)

"""What a workspace has on this host: its user namespace and, while it runs something, its zone."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from squall.runtime.launcher import messages, trees, zone
from squall.runtime.linux import processes

if TYPE_CHECKING:
    from squall.runtime.launcher.keeper import Keeper, Kept
    from squall.runtime.launcher.messages import Message

RANGE = 65_536
#: A zone does one clone a request; beyond this it is broken, not slow.
ZONE_TIMEOUT_S = 20.0
#: A zone without containers ends after this long; the user namespace stays (pooled networks belong to it).
ZONE_IDLE_S = 300.0


class WorkspaceError(Exception):
    """A workspace cannot be served; the message is one line for a user."""


class ZoneDiedError(WorkspaceError):
    """Somebody killed the zone: the next request gets another one."""


@dataclass
class Zone:
    """A running zone: its process, and the socket to it."""

    pid: int
    pidfd: int
    connection: socket.socket

    def call(self, request: Message, descriptors: list[int] | None = None) -> tuple[int, Message]:
        """Ask the zone for a thing that is a descriptor; what it says beside. Raises `WorkspaceError`."""
        try:
            answer, received = self._ask({"id": time.monotonic_ns(), **request}, descriptors)
        except (OSError, ValueError) as error:
            processes.send_signal(self.pidfd, signal.SIGKILL)
            raise ZoneDiedError(f"the workspace's zone has died ({error}); try again") from None
        if "error" in answer:
            raise WorkspaceError(f"the kernel refuses a container: {answer['error']}")
        return received[0], answer

    def _ask(self, request: Message, descriptors: list[int] | None) -> tuple[Message, list[int]]:
        messages.send(self.connection, request, descriptors)
        while True:
            answer, received = messages.receive(self.connection)
            if answer["id"] == request["id"]:
                return answer, received
            messages.close_all(received)  # an earlier launcher asked for it, and died

    def close(self) -> None:
        """Kill the zone and with it its containers; reap it."""
        processes.send_signal(self.pidfd, signal.SIGKILL)
        processes.wait_ended(self.pidfd, ZONE_TIMEOUT_S)
        self.connection.close()
        os.close(self.pidfd)
        try:
            os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            return


@dataclass(frozen=True)
class Means:
    """What zones are made with: where they are on record, who keeps them, what confines their containers."""

    records: Path
    keeper: Keeper
    program_filter: bytes


class Workspace:
    """A tenant's user namespace, for the launcher's life, and its zone, made when it is needed."""

    def __init__(self, name: str, uid_base: int, means: Means, userns: int = -1) -> None:
        self.name = name
        self.uid_base = uid_base
        self.userns = processes.user_namespace(uid_base, RANGE) if userns < 0 else userns
        self.containers: set[str] = set()
        self.zone: Zone | None = None
        self.idle_since = time.monotonic()
        self._means = means
        self._record = means.records / f"{uid_base}.json"

    @classmethod
    def revived(cls, kept: Kept, means: Means) -> Workspace:
        """As an earlier launcher had it, with its zone."""
        parts = kept.descriptors
        workspace = cls(kept.value["workspace"], kept.value["uid_base"], means, parts["userns"])
        connection = socket.socket(fileno=parts["connection"])
        connection.settimeout(ZONE_TIMEOUT_S)
        workspace.zone = Zone(kept.value["pid"], parts["pidfd"], connection)
        return workspace

    def remember(self) -> None:
        """Have the zone kept for a later launcher."""
        if self.zone is None:
            return
        value = {"workspace": self.name, "uid_base": self.uid_base, "pid": self.zone.pid}
        parts = {
            "pidfd": self.zone.pidfd,
            "connection": self.zone.connection.fileno(),
            "userns": self.userns,
        }
        self._means.keeper.keep(f"zone {self.name}", value, parts)

    def call(self, request: Message, descriptors: list[int] | None = None) -> tuple[int, Message]:
        """Ask the zone, started if there is none."""
        if self.zone is not None and processes.wait_ended(self.zone.pidfd, 0):
            self.end_zone()
        if self.zone is None:
            self.zone = start_zone(self.userns, str(self._means.records), self._means.program_filter)
            record(self._record, self.name, self.zone.pid)
            self.remember()
        return self.zone.call(request, descriptors)

    def make_network(self) -> int:
        """A new network namespace that belongs to this workspace."""
        network, _ = self.call({"op": "network"})
        return network

    def enter(self, container_id: str) -> None:
        self.containers.add(container_id)

    def leave(self, container_id: str) -> None:
        self.containers.discard(container_id)
        self.idle_since = time.monotonic()

    def end_zone(self) -> None:
        if self.zone is not None:
            self.zone.close()
            self.zone = None
            self._record.unlink(missing_ok=True)
            self._means.keeper.drop(f"zone {self.name}")

    def end_idle_zone(self, now: float) -> None:
        if not self.containers and now - self.idle_since > ZONE_IDLE_S:
            self.end_zone()


def start_zone(userns: int, work: str, program_filter: bytes) -> Zone:
    """Start a zone in a user namespace, as a child of this process."""
    root = trees.zone_root()
    ours, theirs = messages.pair()
    pid = os.fork()
    if pid == 0:
        _enter_zone(userns, theirs, root, work, program_filter)
    theirs.close()
    os.close(root)
    os.waitpid(pid, 0)
    ours.settimeout(ZONE_TIMEOUT_S)
    try:
        answer, received = messages.receive(ours)
    except (OSError, ValueError) as error:
        ours.close()
        raise WorkspaceError(f"no zone: {error}") from None
    if "error" in answer:
        ours.close()
        raise WorkspaceError(f"the kernel refuses a zone: {answer['error']}")
    return Zone(processes.pid_of(received[0]), received[0], ours)


def _enter_zone(userns: int, connection: socket.socket, root: int, work: str, program_filter: bytes) -> None:
    """In the forked child: join the user namespace; the zone is a second clone, our parent's child."""
    try:
        processes.setns(userns, processes.NEWUSER)
        if processes.clone(processes.CLONE_PARENT | zone.ZONE_NAMESPACES) == 0:
            zone.become(connection, root, work, program_filter)
    except OSError as error:
        messages.send(connection, {"error": str(error)})
    finally:
        os._exit(0)


def record(path: Path, name: str, pid: int) -> None:
    """Note a zone for a later life of the launcher: pid and start time tell it from a stranger's process."""
    noted = {"workspace": name, "pid": pid, "start_time": processes.start_time(pid), "boot_id": boot_id()}
    new = path.with_suffix(".new")
    new.write_text(json.dumps(noted), "utf-8")
    new.rename(path)


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()

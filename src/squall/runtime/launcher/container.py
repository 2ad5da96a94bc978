"""One container in the launcher's hands: how it is put together, and how it ends.

Starting is asynchronous where a tenant could slow it down: the launcher composes, places and lets go; the
container's init builds the inside and reports by a socket of its own, whose end (and pidfd) the loop watches.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from squall.runtime.cgroups import Cgroup, CgroupError, Cgroups, oom_score_adj
from squall.runtime.gpus import DRIVER_FILES
from squall.runtime.launcher import messages, trees
from squall.runtime.launcher.gpus import GpuError, Gpus
from squall.runtime.launcher.skeleton import Plan
from squall.runtime.launcher.sources import SourceError, Sources
from squall.runtime.launcher.workspaces import Workspace, WorkspaceError, ZoneDiedError
from squall.runtime.linux import processes
from squall.runtime.network import Lease, NetworkError, NetworkPool, resolv_conf
from squall.runtime.spec import ContainerSpec, ExitStatus, Usage

if TYPE_CHECKING:
    from pathlib import Path

    from squall.runtime.launcher.keeper import Keeper, Kept
    from squall.runtime.launcher.sweeper import Sweeper
    from squall.runtime.spec import Command, Mount

#: From the request to the program's start. Only a file system that hangs takes so long.
START_TIMEOUT_S = 60.0
#: How long a killed init may take before the launcher stops waiting for it.
KILL_TIMEOUT_S = 10.0


class LaunchError(Exception):
    """A container cannot be started; the message is one line for a user."""


@dataclass
class Host:
    """What containers are made with on this machine."""

    trees: trees.Trees
    sources: Sources
    sweeper: Sweeper
    scratch: Path
    cgroups: Cgroups | None
    network: NetworkPool | None
    network_reason: str
    memory_mib: int
    keeper: Keeper
    gpus: Gpus


class Container:
    """From `start` to `finish`. The loop watches `control` and `init`.

    What another launcher needs to go on with it is kept by `remember`, each time that it changes and before
    any agent hears of the change.
    """

    def __init__(
        self, host: Host, workspace: Workspace, spec: ContainerSpec, control: socket.socket | None = None
    ) -> None:
        self.spec = spec
        self.by_us = False
        self.started = False
        self.wanted = True
        self.error: str | None = None
        #: How the start went: (name, CLOCK_MONOTONIC seconds), for traces.
        self.stages = [("launcher.request", time.monotonic())]
        self.deadline = time.monotonic() + START_TIMEOUT_S
        self.pid = -1
        self.init = -1
        self.main = -1
        self.outputs: list[int] = []
        self.final: ExitStatus | None = None
        self._inits_end: socket.socket | None = None
        if control is None:
            control, self._inits_end = messages.pair()
        self.control = control
        self.control.setblocking(False)
        self._host = host
        self._workspace = workspace
        self._status: int | None = None
        self._cgroup: Cgroup | None = None
        self._lease: Lease | None = None

    @classmethod
    def revived(cls, host: Host, workspace: Workspace, kept: Kept) -> Container:
        """As an earlier launcher had it: running, or ended (`final`) and not forgotten yet."""
        value, parts = kept.value, kept.descriptors
        control = socket.socket(fileno=parts["control"]) if "control" in parts else socket.socket()
        container = cls(host, workspace, ContainerSpec(argv=(), **value["spec"]), control)
        for name in ("by_us", "started", "wanted", "error", "pid"):
            setattr(container, name, value[name])
        container._status = value["status"]
        container.outputs = [parts["stdout"], parts["stderr"]]
        if value["final"] is not None:
            container.final = status_from_json(value["final"])
            control.close()
            return container
        container.init, container.main = parts["init"], parts.get("main", -1)
        container._cgroup = host.cgroups.find(container.spec.id) if host.cgroups else None
        container._adopt_network(value["lease"], parts)
        workspace.enter(container.spec.id)
        container.read_control()
        return container

    def remember(self) -> None:
        """Have it kept for a later launcher."""
        spec, lease = self.spec, self._lease
        value: dict[str, Any] = {
            name: getattr(self, name) for name in ("by_us", "started", "wanted", "error", "pid")
        }
        value["spec"] = {name: getattr(spec, name) for name in ("id", "workspace", "uid_base", "upper")}
        value["status"] = self._status
        value["lease"] = lease and {"address": lease.address, "slot": lease.slot, "link": lease.link}
        value["final"] = self.final and status_to_json(self.final)
        parts = dict(zip(("stdout", "stderr"), self.outputs, strict=True))
        if self.final is None:
            parts |= {"control": self.control.fileno(), "init": self.init}
            parts |= {} if self.main < 0 else {"main": self.main}
            parts |= {} if lease is None else {"network": lease.fd}
        self._host.keeper.keep(f"container {spec.id}", value, parts)

    def forget(self) -> None:
        """It has ended, and nobody wants its output or status any more."""
        self.close_outputs()
        self._host.keeper.drop(f"container {self.spec.id}")

    def start(self) -> None:
        """Raises `LaunchError`, or `ZoneDiedError`; nothing is left behind then."""
        self._workspace.enter(self.spec.id)
        try:
            self._start()
        except ZoneDiedError:
            self.finish()
            raise
        except (OSError, ValueError) as error:
            self.finish()
            raise LaunchError(self.error or f"cannot start a container: {error}") from None
        except (
            trees.TreeError,
            SourceError,
            WorkspaceError,
            CgroupError,
            NetworkError,
            GpuError,
            LaunchError,
        ) as error:
            self.finish()
            raise LaunchError(self.error or str(error)) from None

    def read_control(self) -> bool:
        """Take in what the init reports. False when it will report no more."""
        try:
            while True:
                message, descriptors = messages.receive(self.control)
                if "started" in message:
                    self.started, self.main = True, descriptors[0]
                    self.stages.append(("init.ready", message["started"]))
                    self.pid = processes.pid_of(self.main)
                self.error = message.get("error", self.error)
                self._status = message.get("status", self._status)
                if self.outputs:  # else its start fails, and it is not kept yet
                    self.remember()
        except BlockingIOError:
            return True
        except (OSError, ValueError):
            return False

    def kill(self, number: int) -> None:
        """Signal the program; with SIGKILL, end everything."""
        if not self.by_us and number in (signal.SIGKILL, signal.SIGTERM):
            self.by_us = True
            self.remember()
        if number == signal.SIGKILL:
            processes.send_signal(self.init, number)
            if self._cgroup is not None:
                self._cgroup.kill()
        elif self.main >= 0:
            processes.send_signal(self.main, number)

    def join(self, command: Command) -> socket.socket:
        """Have the init start a further program: the asker's end of its socket. Raises `LaunchError`."""
        ours, inits = messages.pair()
        with inits:
            try:
                messages.send(self.control, {"guest": command.to_json()}, [inits.fileno()])
            except (OSError, ValueError) as error:
                ours.close()
                raise LaunchError(f"the container takes no further program: {error}") from None
        return ours

    def usage(self) -> Usage:
        return self._cgroup.usage() if self._cgroup is not None else Usage()

    def finish(self) -> ExitStatus:
        """After the init's end: take stock, and give back all but the output pipes."""
        if self.init >= 0:
            processes.send_signal(self.init, signal.SIGKILL)
            processes.wait_ended(self.init, KILL_TIMEOUT_S)
        self.read_control()
        status = self._exit_status()
        self._release()
        if self.started and self.wanted:
            self.final = status
            self.remember()
        else:
            self.forget()
        return status

    def close_outputs(self) -> None:
        messages.close_all(self.outputs)
        self.outputs = []

    def _start(self) -> None:
        opened: list[int] = []
        try:
            self._make_scratch()
            root = self._make_root(opened)
            sources = [self._make_mount(mount, opened) for mount in self.spec.mounts]
            if self.spec.network == "egress":
                self._lease = self._network().acquire(self.spec.workspace, self._workspace.make_network)
            self._mark("launcher.composed")
            plan, parts = self._plan(sources, opened)
            placed = self._make_skeleton(plan, root, parts, opened)
            self._mark("launcher.skeleton")
            self._place(placed=placed)
            writers = self._make_pipes(opened)
            self.remember()
            program = {"argv": self.spec.argv, "env": self.spec.env, "cwd": self.spec.cwd}
            messages.send(self.control, program, writers)
        finally:
            messages.close_all(opened)
            if self._inits_end is not None:
                self._inits_end.close()

    def _mark(self, stage: str) -> None:
        self.stages.append((stage, time.monotonic()))

    def _make_root(self, opened: list[int]) -> int:
        scratch = self._host.scratch / self.spec.id
        opened.append(self._host.trees.root(self.spec, self._workspace.userns, scratch))
        return opened[-1]

    def _make_mount(self, mount: Mount, opened: list[int]) -> tuple[int, bool]:
        copy, is_directory = self._host.trees.mount(mount, self._workspace.userns)
        opened.append(copy)
        return copy, is_directory

    def _plan(self, sources: list[tuple[int, bool]], opened: list[int]) -> tuple[Plan, list[int]]:
        """What the init is to build, and the mounts it needs for it."""
        targets = [(m.target, d) for m, (_, d) in zip(self.spec.mounts, sources, strict=True)]
        parts = [fd for fd, _ in sources]
        devices: list[str] = []
        if self.spec.gpus:
            targets.append((DRIVER_FILES, True))
            devices = self._host.gpus.device_names(self.spec.gpus)
            opened.append(self._host.gpus.driver_files())
            parts.append(opened[-1])
        for name in devices:
            opened.append(self._host.gpus.device(name))
            parts.append(opened[-1])
        plan = Plan(
            self.spec.hostname, tuple(targets), tuple(devices), self._etc_files(), network=self._lease is None
        )
        return plan, parts

    def _make_skeleton(self, plan: Plan, root: int, sources: list[int], opened: list[int]) -> bool:
        """Have the zone start the init; whether it was born in its control group."""
        network = [] if self._lease is None else [self._lease.fd]
        group = self._make_group(opened)
        assert self._inits_end is not None
        descriptors = [self._inits_end.fileno(), root, *network, *group, *sources]
        request = {"op": "skeleton", "plan": plan.to_json(), "cgroup": bool(group)}
        self.init, answer = self._workspace.call(request, descriptors)
        return bool(answer["placed"])

    def _make_group(self, opened: list[int]) -> list[int]:
        """Make the control group; its directory, where a process can be born into it."""
        if self._host.cgroups is None:
            return []
        self._cgroup = self._host.cgroups.create(self.spec.id, self.spec.resources, self._host.memory_mib)
        if self._cgroup.entrance is None:
            return []
        opened.append(os.open(self._cgroup.entrance, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        return opened[-1:]

    def _place(self, *, placed: bool) -> None:
        """Put the init, and so all that comes of it, in the container's group before it may run anything."""
        pid = processes.pid_of(self.init)
        if pid < 0:
            raise LaunchError("the container's init died; see the launcher's log")
        if self._cgroup is not None and not placed:
            self._cgroup.add(pid)
        score = oom_score_adj(self.spec.resources, self._host.memory_mib)
        with open(f"/proc/{pid}/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(score))

    def _make_scratch(self) -> None:
        if self.spec.upper is not None:
            return
        scratch = self._host.scratch / self.spec.id
        scratch.mkdir(mode=0o755)
        for name in ("upper", "work"):
            (scratch / name).mkdir(mode=0o755)
        os.chown(scratch / "upper", self.spec.uid_base, self.spec.uid_base)

    def _make_pipes(self, opened: list[int]) -> list[int]:
        """The program's stdout and stderr. They are its user's, so that it may open /dev/stdout."""
        writers = []
        for _ in range(2):
            reader, writer = os.pipe()
            self.outputs.append(reader)
            writers.append(writer)
            opened.append(writer)
            os.fchown(writer, self.spec.uid_base, self.spec.uid_base)
        return writers

    def _adopt_network(self, lease: dict[str, Any] | None, parts: dict[str, int]) -> None:
        if lease is None:
            return
        if self._host.network is None:
            os.close(parts["network"])
        else:
            self._lease = Lease(parts["network"], workspace=self.spec.workspace, **lease)
            self._host.network.adopt(self._lease)

    def _network(self) -> NetworkPool:
        if self._host.network is None:
            raise LaunchError(f"no network for containers on this host: {self._host.network_reason}")
        return self._host.network

    def _etc_files(self) -> dict[str, str]:
        name = self.spec.hostname
        address = self._lease.address if self._lease else "127.0.1.1"
        hosts = f"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{address}\t{name}\n"
        return {"resolv.conf": resolv_conf() if self._lease else "", "hosts": hosts, "hostname": f"{name}\n"}

    def _exit_status(self) -> ExitStatus:
        status = signal.SIGKILL if self._status is None else self._status
        code = os.waitstatus_to_exitcode(status)
        ended = ExitStatus(code=code) if code >= 0 else ExitStatus(signal=-code)
        if self._cgroup is None:
            return replace(ended, by_us=self.by_us)
        return replace(
            ended,
            by_us=self.by_us,
            oom=self._cgroup.oom_killed(),
            pids_hit=self._cgroup.pids_hit(),
            usage=self._cgroup.usage(),
        )

    def _release(self) -> None:
        self.control.close()
        messages.close_all([fd for fd in (self.init, self.main) if fd >= 0])
        self.init = self.main = -1
        if self._cgroup is not None:
            self._cgroup.remove()
            self._cgroup = None
        if self._lease is not None and self._host.network is not None:
            self._host.network.release(self._lease)
            self._lease = None
        self._sweep()
        self._workspace.leave(self.spec.id)

    def _sweep(self) -> None:
        upper = self.spec.upper
        if upper is None:
            directory = os.open(self._host.scratch, os.O_PATH | os.O_CLOEXEC)
            name = f".{self.spec.id}-{time.monotonic_ns()}"  # out of the way of another one of that id
            with suppress(FileNotFoundError):
                os.rename(self.spec.id, name, src_dir_fd=directory, dst_dir_fd=directory)
        else:
            try:
                directory = self._host.sources.open(os.path.dirname(upper.rstrip("/")), writable=True)
            except SourceError:
                return  # the agent has removed the build already
            name = trees.work_name(self.spec.id)
        self._host.sweeper.remove(directory, name)
        os.close(directory)


def status_to_json(status: ExitStatus) -> dict[str, Any]:
    return asdict(status)


def status_from_json(data: dict[str, Any]) -> ExitStatus:
    return ExitStatus(**{**data, "usage": Usage(**data["usage"])})

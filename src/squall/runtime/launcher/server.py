"""The launcher's loop: one thread that takes the agent's requests and watches the containers.

Requests are `{"id", "op", ...}`; answers carry the same id with `ok` or `error`. The end of a container is
told to every connected agent and kept, with what is left in its output pipes, until an agent says `forget`.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from squall.runtime.launcher import agents
from squall.runtime.launcher.container import Container, LaunchError, status_to_json
from squall.runtime.launcher.jobs import JobError, Jobs
from squall.runtime.launcher.sources import SourceError
from squall.runtime.launcher.validate import (
    SpecError,
    checked_id,
    checked_path,
    parse_command,
    parse_spec,
)
from squall.runtime.launcher.workspaces import Means, Workspace, WorkspaceError, ZoneDiedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from squall.runtime.launcher.agents import Agent
    from squall.runtime.launcher.config import Config
    from squall.runtime.launcher.container import Host
    from squall.runtime.launcher.jobs import Job
    from squall.runtime.launcher.keeper import Kept
    from squall.runtime.launcher.messages import Message
    from squall.runtime.spec import ExitStatus

PROTOCOL = 1
#: A launcher that nobody uses, and that keeps nothing, ends after this long.
ORPHAN_S = 900.0
#: How long the last containers may take when everything is to end.
CLOSE_TIMEOUT_S = 15.0


class RequestError(Exception):
    """A request that cannot be granted; the message is one line for a user."""


class Server:
    """Owns the containers, the workspaces and the agents' connections."""

    def __init__(self, config: Config, host: Host, listener: socket.socket, program_filter: bytes) -> None:
        self._config = config
        self._host = host
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._agents: list[Agent] = []
        self._workspaces: dict[str, Workspace] = {}
        self._containers: dict[str, Container] = {}
        self._ended: dict[str, tuple[Container, ExitStatus]] = {}
        self._waiting: dict[str, tuple[Agent, object]] = {}
        self._jobs = Jobs(config.base_maker, config.state / "bases", host.sources, host.sweeper)
        self._closing: float | None = None
        self._used = time.monotonic()
        self._closers: list[tuple[Agent, object]] = []
        self._watch(listener, self._accept)
        self._means = Means(config.state / "zones", host.keeper, program_filter)
        host.keeper.restore = self._remember_all
        self._operations: dict[str, Callable[[Agent, Message], None]] = {
            "hello": self._hello,
            "start": self._start,
            "kill": self._kill,
            "abandon": self._abandon,
            "join": self._join,
            "usage": self._usage,
            "list": self._list,
            "adopt": self._adopt,
            "forget": self._forget,
            "remove": self._remove,
            "debian_base": lambda agent, request: self._job(agent, request, self._jobs.debian_base),
            "host_base": lambda agent, request: self._job(agent, request, self._jobs.host_base),
            "cancel_job": self._cancel_job,
            "close": self._close,
        }

    def revive(self, kept: dict[str, Kept]) -> None:
        """Go on with the zones and containers of an earlier launcher.

        Those whose program had not begun are killed: the agent who asked for them knows of no success.
        """
        for name, entry in kept.items():
            if name.startswith("zone "):
                workspace = Workspace.revived(entry, self._means)
                self._workspaces[workspace.name] = workspace
        for name, entry in kept.items():
            if not name.startswith("container "):
                continue
            spec = entry.value["spec"]
            workspace = self._workspace(spec["workspace"], spec["uid_base"])
            container = Container.revived(self._host, workspace, entry)
            if container.final is not None:
                self._ended[container.spec.id] = (container, container.final)
                continue
            self._follow(container)
            if not container.started:
                container.wanted = False
                container.kill(signal.SIGKILL)

    def _remember_all(self) -> None:
        for workspace in self._workspaces.values():
            workspace.remember()
        for container in (*self._containers.values(), *(ended for ended, _ in self._ended.values())):
            container.remember()

    def run(self) -> None:
        """Serve until an agent or a signal says close and all containers have ended."""
        wake, waker = socket.socketpair()
        for end in (wake, waker):
            end.setblocking(False)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._begin_closing())
        self._watch(wake, lambda: wake.recv(64))
        while not self._may_leave():
            for key, _ in self._selector.select(self._patience()):
                if self._selector.get_map().get(key.fd) is key:  # not closed by an event before it
                    key.data()
            self._housekeeping()
        self._leave()

    def _may_leave(self) -> bool:
        if self._closing is None:
            return False
        return not (self._containers or self._jobs) or time.monotonic() > self._closing

    def _patience(self) -> float | None:
        """Seconds until something is due without an event; None if nothing is."""
        if self._closing is not None or any(not c.started for c in self._containers.values()):
            return 1.0
        if not self._agents or self._jobs or any(w.zone for w in self._workspaces.values()):
            return 30.0
        return None

    def _housekeeping(self) -> None:
        now = time.monotonic()
        for container in list(self._containers.values()):
            if not container.started and now > container.deadline:
                container.error = "the container did not start in time; a file system it needs may hang"
                container.kill(signal.SIGKILL)
        for workspace in self._workspaces.values():
            workspace.end_idle_zone(now)
        for agent in [a for a in self._agents if not a.alive]:
            self._selector.unregister(agent.connection)
            agent.connection.close()
            self._agents.remove(agent)
            self._jobs.end_of(agent)
        self._jobs.end_late(now)
        self._sweep()
        if self._agents or self._containers or self._ended or self._jobs:
            self._used = now
        elif now - self._used > ORPHAN_S:
            self._begin_closing()

    def _sweep(self) -> None:
        """Start deletions, and watch them so that the next ones start when they end."""
        for pidfd in self._host.sweeper.start():
            self._watch(pidfd, partial(self._swept, pidfd))

    def _swept(self, pidfd: int) -> None:
        self._selector.unregister(pidfd)
        self._host.sweeper.end(pidfd)

    def _watch(self, file: socket.socket | int, action: Callable[[], Any]) -> None:
        self._selector.register(file, selectors.EVENT_READ, action)

    # Agents.

    def _accept(self) -> None:
        agent = agents.accept(self._listener, self._config.owner_uid)
        if agent is not None:
            self._agents.append(agent)
            self._watch(agent.connection, lambda: self._serve(agent))

    def _serve(self, agent: Agent) -> None:
        """One request a turn, so that a busy agent delays no container's end."""
        request = agent.receive()
        if request is None:
            return
        try:
            operation = self._operations.get(str(request.get("op")))
            if operation is None:
                raise RequestError(f"unknown operation {request.get('op')!r}")
            operation(agent, request)
        except ZoneDiedError as error:
            agent.send({"id": request.get("id"), "error": str(error), "passing": True})
        except (RequestError, SpecError, LaunchError, WorkspaceError, SourceError, JobError) as error:
            agent.send({"id": request.get("id"), "error": str(error)})
        except OSError as error:
            agent.send({"id": request.get("id"), "error": f"{request.get('op')} failed: {error}"})
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            print(f"launcher: {request.get('op')} failed: {reason}", file=sys.stderr, flush=True)
            agent.send(
                {"id": request.get("id"), "error": f"the launcher has a fault ({reason}); please report it"}
            )

    def _answer(
        self, agent: Agent, request: Message, ok: object, descriptors: list[int] | None = None
    ) -> None:
        agent.send({"id": request.get("id"), "ok": ok}, descriptors)

    # Operations.

    def _hello(self, agent: Agent, request: Message) -> None:
        losses = list(self._host.cgroups.losses) if self._host.cgroups else ["Nothing limits containers."]
        if self._host.network is not None:
            losses += self._host.network.losses
        else:
            losses.append(f"Containers have no network: {self._host.network_reason}.")
        self._answer(agent, request, {"protocol": PROTOCOL, "pid": os.getpid(), "losses": losses})

    def _start(self, agent: Agent, request: Message) -> None:
        if self._closing is not None:
            raise RequestError("the launcher is closing")
        spec = parse_spec(request.get("spec"), self._config.uid_first, self._config.uid_last)
        if spec.id in self._containers or spec.id in self._ended:
            raise RequestError(f"container {spec.id} exists already")
        container = Container(self._host, self._workspace(spec.workspace, spec.uid_base), spec)
        container.start()
        self._waiting[spec.id] = (agent, request.get("id"))
        self._follow(container)

    def _kill(self, agent: Agent, request: Message) -> None:
        number = request.get("signal")
        if not isinstance(number, int) or not 0 < number < signal.NSIG:
            raise RequestError(f"{number!r} is no signal")
        container = self._containers.get(checked_id(request.get("container")))
        if container is not None:
            container.kill(number)
        self._answer(agent, request, {})

    def _abandon(self, agent: Agent, request: Message) -> None:
        """Kill a container whose end nobody wants to hear of."""
        name = checked_id(request.get("container"))
        container = self._containers.get(name)
        if container is not None:
            container.wanted = False
            container.remember()
            container.kill(signal.SIGKILL)
        self._forget(agent, request)

    def _join(self, agent: Agent, request: Message) -> None:
        """Have a program join a container. The answer is a socket to its init, which says the rest."""
        name = checked_id(request.get("container"))
        command = parse_command(request.get("command"))
        container = self._containers.get(name)
        if container is None or not container.started:
            raise RequestError(f"container {name} does not run")
        with container.join(command) as connection:
            self._answer(agent, request, {}, [connection.fileno()])

    def _usage(self, agent: Agent, request: Message) -> None:
        name = checked_id(request.get("container"))
        usage: dict[str, Any] = {}
        if name in self._containers:
            usage = vars(self._containers[name].usage())
        elif name in self._ended:
            usage = vars(self._ended[name][1].usage)
        self._answer(agent, request, usage)

    def _list(self, agent: Agent, request: Message) -> None:
        running = [name for name, c in self._containers.items() if c.started]
        self._answer(agent, request, {"containers": [*self._ended, *running]})

    def _adopt(self, agent: Agent, request: Message) -> None:
        """A container's pid and output pipes once more, and its status if it has ended meanwhile."""
        name = checked_id(request.get("container"))
        container, status = self._ended.get(name, (self._containers.get(name), None))
        if container is None or not container.started:
            raise RequestError(f"there is no container {name}")
        ok = {"pid": container.pid, "status": status_to_json(status) if status else None}
        self._answer(agent, request, ok, container.outputs)

    def _forget(self, agent: Agent, request: Message) -> None:
        ended = self._ended.pop(checked_id(request.get("container")), None)
        if ended is not None:
            ended[0].forget()
        self._answer(agent, request, {})

    def _remove(self, agent: Agent, request: Message) -> None:
        """Delete a tree that containers wrote or a base system, as its files belong to root."""
        parent, name = os.path.split(checked_path(request.get("path")))
        directory = self._host.sources.open(parent, writable=True)

        def done(gone: bool) -> None:
            if gone:
                self._answer(agent, request, {})
            else:
                agent.send({"id": request.get("id"), "error": f"{name} could not be deleted"})

        self._host.sweeper.remove(directory, name, done)
        os.close(directory)

    def _job(
        self, agent: Agent, request: Message, start: Callable[[Agent, Message], tuple[Job, int]]
    ) -> None:
        """Start a program of root's; the answer has the end of its output, an event tells its own end."""
        if self._closing is not None:
            raise RequestError("the launcher is closing")
        job, output = start(agent, request)
        self._watch(job.pidfd, lambda: self._job_ended(job))
        self._answer(agent, request, {}, [output])
        os.close(output)

    def _job_ended(self, job: Job) -> None:
        self._selector.unregister(job.pidfd)
        self._jobs.ended(job)

    def _cancel_job(self, agent: Agent, request: Message) -> None:
        self._jobs.cancel(agent, request.get("job"))
        self._answer(agent, request, {})

    def _close(self, agent: Agent, request: Message) -> None:
        self._closers.append((agent, request.get("id")))
        self._begin_closing()

    # Containers.

    def _follow(self, container: Container) -> None:
        self._containers[container.spec.id] = container
        self._watch(container.control, lambda: self._reported(container))
        self._watch(container.init, lambda: self._over(container))

    def _workspace(self, name: str, uid_base: int) -> Workspace:
        known = self._workspaces.get(name)
        if known is None:
            if any(w.uid_base == uid_base for w in self._workspaces.values()):
                raise RequestError(f"uid_base {uid_base} belongs to another workspace")
            known = Workspace(name, uid_base, self._means)
            self._workspaces[name] = known
        if known.uid_base != uid_base:
            raise RequestError(f"workspace {name} has uid_base {known.uid_base}")
        return known

    def _reported(self, container: Container) -> None:
        if not container.read_control():
            self._selector.unregister(container.control)
        self._tell_started(container)

    def _tell_started(self, container: Container) -> None:
        waiting = self._waiting.get(container.spec.id)
        if container.started and waiting is not None:
            del self._waiting[container.spec.id]
            agent, request_id = waiting
            ok = {"pid": container.pid, "stages": container.stages}
            agent.send({"id": request_id, "ok": ok}, container.outputs)

    def _over(self, container: Container) -> None:
        """The init has ended, and with it every process of the container."""
        for file in (container.control, container.init):
            if file in self._selector.get_map():
                self._selector.unregister(file)
        container.read_control()
        self._tell_started(container)
        status = container.finish()
        name = container.spec.id
        del self._containers[name]
        if not container.wanted:
            self._waiting.pop(name, None)
        elif container.started:
            self._ended[name] = (container, status)
            for agent in self._agents:
                agent.send({"event": "exit", "container": name, "status": status_to_json(status)})
        else:
            agent, request_id = self._waiting.pop(name)
            reason = container.error or "the container died before its program ran"
            passing = container.error is None  # it had nothing to complain of: it was killed
            agent.send({"id": request_id, "error": reason, "passing": passing})

    # The end.

    def _begin_closing(self) -> None:
        if self._closing is None:
            self._closing = time.monotonic() + CLOSE_TIMEOUT_S
            for container in self._containers.values():
                container.kill(signal.SIGKILL)
            self._jobs.end_all()

    def _leave(self) -> None:
        """Give everything back that this life holds on the host."""
        for container, _ in self._ended.values():
            container.forget()
        for workspace in self._workspaces.values():
            workspace.end_zone()
        self._host.keeper.end()
        if self._host.network is not None:
            self._host.network.teardown()
        if self._host.cgroups is not None:
            self._host.cgroups.close()
        self._jobs.close()
        self._host.sweeper.finish()
        self._config.socket.unlink(missing_ok=True)
        for agent, request_id in self._closers:
            agent.send({"id": request_id, "ok": {}})

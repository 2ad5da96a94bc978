"""The `namespaces` driver: the agent's end of the launcher's socket, for asyncio.

It holds no privilege. Containers outlive it: the launcher keeps their pipes and their ends until this driver,
or the one of the agent's next life, has taken them. They outlive the launcher as well: the driver connects to
the next one and goes on, and who waits for an end or asks for usage meanwhile only waits longer.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from squall.runtime.driver import DriverError, LostError, Runtime, Started
from squall.runtime.joined import JoinedGuest
from squall.runtime.launcher import messages
from squall.runtime.launcher.container import status_from_json
from squall.runtime.spec import ContainerSpec, ExitStatus, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from squall.runtime.driver import Guest
    from squall.runtime.launcher.messages import Message
    from squall.runtime.spec import Command

Answer = tuple[Any, list[int]]

#: How long the next launcher may take before containers count as lost, and between two tries (seconds).
RETURN_S, TRY_S = 30.0, 0.1
_CLOSED = "the connection to the launcher is closed"


class NamespacesRuntime(Runtime):
    """Containers from the launcher that serves at a socket. Make it with `connect`."""

    name: ClassVar[str] = "namespaces"

    def __init__(self, path: Path) -> None:
        """Call it from the loop that is to serve the driver."""
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._connection: socket.socket | None = None
        self._last_id = 0
        self._answers: dict[int, asyncio.Future[Answer]] = {}
        self._ends: dict[str, asyncio.Future[ExitStatus]] = {}
        self._jobs: dict[int, asyncio.Future[int]] = {}
        self._starting: set[str] = set()
        self._refused: set[str] = set()
        self._returning: asyncio.Task[None] | None = None
        self._returned = asyncio.Event()
        self.patience = RETURN_S

    @classmethod
    async def connect(cls, path: Path) -> NamespacesRuntime:
        """Connect to the launcher at `path`. Raises `DriverError`."""
        runtime = cls(path)
        runtime._open()
        hello, _ = await runtime._ask("hello")
        runtime.losses = tuple(hello["losses"])
        return runtime

    async def start(self, spec: ContainerSpec) -> Started:
        await self._ready()
        self._ends[spec.id] = self._loop.create_future()
        self._starting.add(spec.id)
        try:
            ok, descriptors = await self._ask("start", spec=_resolved(spec).to_json())
        except BaseException as error:
            self._ends.pop(spec.id, None)
            if isinstance(error, asyncio.CancelledError):
                self._abandon(spec.id)
            raise
        finally:
            self._starting.discard(spec.id)
        stages = tuple((name, at) for name, at in ok["stages"])
        return Started(spec.id, ok["pid"], *descriptors, stages=stages)

    async def wait(self, container_id: str) -> ExitStatus:
        end = self._ends.get(container_id)
        if end is None:
            raise DriverError(f"there is no container {container_id}")
        status = await asyncio.shield(end)
        if self._ends.pop(container_id, None) is not None:
            await self._insist("forget", container=container_id)
        return status

    async def kill(self, container_id: str, signal: int = 9) -> None:
        await self._insist("kill", container=container_id, signal=int(signal))

    async def join(self, container_id: str, command: Command) -> Guest:
        await self._ready()  # once only: a command that runs twice is not what was asked for
        _, (connection,) = await self._ask("join", container=container_id, command=command.to_json())
        return await JoinedGuest.of(connection)

    async def usage(self, container_id: str) -> Usage:
        ok, _ = await self._insist("usage", container=container_id)
        return Usage(**ok)

    async def adopt(self) -> list[Started]:
        """With those that ended while no agent was there: their output waits, `wait` returns at once."""
        listed, _ = await self._ask("list")
        return [await self._adopt(name) for name in listed["containers"] if name not in self._ends]

    async def remove(self, path: str) -> None:
        """Delete a tree of root's, or what containers wrote. Gone on return. Raises `DriverError`."""
        await self._insist("remove", path=_real(path))

    async def debian_base(self, path: str, suite: str, output: Callable[[int], None]) -> int:
        """Have a Debian of the machine's own release `suite` made at `path`, where nothing is.

        `output` gets the descriptor of what the program says, and owns it. Gives an exit code. Raises
        `DriverError`.
        """
        return await self._job("debian_base", output, path=_real(path), suite=suite)

    async def host_base(self, path: str, output: Callable[[int], None], *, own_python: bool) -> int:
        """The same with a copy of the host's programs, and with the interpreter that runs the launcher."""
        return await self._job("host_base", output, path=_real(path), own_python=own_python)

    async def close(self) -> None:
        """End the launcher with all that it holds."""
        if self._connection is not None:
            with suppress(DriverError):
                await self._ask("close")
        self.disconnect()

    def disconnect(self) -> None:
        """Leave the launcher and its containers running."""
        if self._returning is not None:
            self._returning.cancel()
            self._returning = None
        self._let_go()
        self._give_up()

    def _let_go(self) -> None:
        """Close the connection; requests without an answer will have none."""
        if self._connection is not None:
            self._loop.remove_reader(self._connection)
            self._connection.close()
            self._connection = None
        _fail([*self._answers.values(), *self._jobs.values()], LostError(_CLOSED))
        self._answers.clear()

    def _give_up(self) -> None:
        """What ran is lost to us, and nobody waits any longer."""
        _fail(list(self._ends.values()), LostError(_CLOSED))
        self._returned.set()

    def _lost(self) -> None:
        self._refused |= self._starting
        self._let_go()
        self._returned.clear()
        if self._returning is None:
            self._returning = self._loop.create_task(self._return())

    async def _return(self) -> None:
        """Find the next launcher, and our containers in it: for ever, though others wait `patience` only."""
        giving_up = self._loop.call_later(self.patience, self._give_up)
        while True:
            try:
                self._open()
                await self._find()
                break
            except DriverError:
                self._let_go()
                await asyncio.sleep(TRY_S)
        giving_up.cancel()
        self._returning = None
        self._returned.set()

    async def _find(self) -> None:
        """Learn what became of our containers; end those whose start was refused and those given up."""
        listed, _ = await self._ask("list")
        given_up = {name for name, end in self._ends.items() if end.done() and end.exception() is not None}
        for name in (self._refused | given_up).intersection(listed["containers"]):
            self._abandon(name)
        self._refused.clear()
        for name in given_up:
            del self._ends[name]
        for name, end in list(self._ends.items()):
            if name not in listed["containers"]:
                _fail([end], LostError("it died with the launcher"))
            elif not end.done():
                await self._find_again(name, end)

    async def _find_again(self, name: str, end: asyncio.Future[ExitStatus]) -> None:
        ok, descriptors = await self._ask("adopt", container=name)
        messages.close_all(descriptors)  # whoever started it has them
        if ok["status"] is not None and not end.done():
            end.set_result(status_from_json(ok["status"]))

    async def _ready(self) -> None:
        """Wait for the next launcher if there is none now, for a while."""
        if self._returning is not None:
            await self._returned.wait()

    async def _insist(self, operation: str, **fields: Any) -> Answer:
        """Ask for what may be asked twice, of the next launcher if one dies meanwhile."""
        while True:
            await self._ready()
            try:
                return await self._ask(operation, **fields)
            except LostError:
                if self._connection is None and (self._returning is None or self._returned.is_set()):
                    raise

    def _abandon(self, name: str) -> None:
        try:
            self._send({"id": 0, "op": "abandon", "container": name})
        except DriverError:
            self._refused.add(name)  # for the next launcher

    async def _adopt(self, name: str) -> Started:
        ok, descriptors = await self._ask("adopt", container=name)
        self._ends[name] = self._loop.create_future()
        if ok["status"] is not None:
            self._ends[name].set_result(status_from_json(ok["status"]))
        return Started(name, ok["pid"], *descriptors)

    async def _job(self, operation: str, output: Callable[[int], None], **fields: Any) -> int:
        """A program that the launcher runs; it ends early when we are cancelled."""
        await self._ready()
        number = self._last_id + 1  # of the request that comes now
        ended: asyncio.Future[int] = self._loop.create_future()
        self._jobs[number] = ended
        try:
            _, (descriptor,) = await self._ask(operation, **fields)
            output(descriptor)
            return await ended
        except asyncio.CancelledError:
            with suppress(DriverError):
                self._send({"id": 0, "op": "cancel_job", "job": number})
            raise
        finally:
            del self._jobs[number]

    def _open(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with messages.reachable(self._path) as name:
                connection.connect(name)
        except OSError as error:
            connection.close()
            raise DriverError(
                f"no launcher at {self._path}: {error.strerror}; start the node again"
            ) from None
        connection.setblocking(False)
        self._connection = connection
        self._loop.add_reader(connection, self._readable)

    async def _ask(self, operation: str, **fields: Any) -> Answer:
        """One request and its answer. Raises `DriverError` with the launcher's reason."""
        self._last_id = number = self._last_id + 1
        waiting: asyncio.Future[Answer] = self._loop.create_future()
        self._answers[number] = waiting
        try:
            self._send({"id": number, "op": operation, **fields})
        except BaseException:
            self._answers.pop(number, None)
            raise
        return await waiting

    def _send(self, message: Message) -> None:
        if self._connection is None:
            raise LostError(_CLOSED)
        try:
            messages.send(self._connection, message)
        except ValueError as error:
            raise DriverError(str(error)) from None
        except BlockingIOError:
            raise DriverError("the launcher does not answer: it reads no more requests") from None
        except OSError:
            self._lost()
            raise LostError(_CLOSED) from None

    def _readable(self) -> None:
        try:
            while self._connection is not None:
                message, descriptors = messages.receive(self._connection)
                self._received(message, descriptors)
        except BlockingIOError:
            return
        except (OSError, ValueError):
            self._lost()

    def _received(self, message: Message, descriptors: list[int]) -> None:
        if message.get("event") == "exit":
            end = self._ends.get(message["container"])
            if end is not None and not end.done():
                end.set_result(status_from_json(message["status"]))
            return
        if message.get("event") == "job":
            job = self._jobs.get(message["job"])
            if job is not None and not job.done():
                _end_job(job, message)
            return
        waiting = self._answers.pop(message["id"], None)
        if waiting is None or waiting.done():
            messages.close_all(descriptors)
        elif "error" in message:
            kind = LostError if message.get("passing") else DriverError
            waiting.set_exception(kind(message["error"]))
        else:
            waiting.set_result((message["ok"], descriptors))


def _fail(waiting: Sequence[asyncio.Future[Any]], error: DriverError) -> None:
    for future in waiting:
        if not future.done():
            future.set_exception(error)
            future.exception()  # told to whoever waits; nobody has to


def _end_job(job: asyncio.Future[int], message: Message) -> None:
    if message["error"]:
        job.set_exception(DriverError(message["error"]))
    else:
        job.set_result(message["code"])


def _real(path: str) -> str:
    """The launcher follows no symbolic link of the host, so they are resolved here."""
    return os.path.realpath(path)


def _resolved(spec: ContainerSpec) -> ContainerSpec:
    return replace(
        spec,
        mounts=tuple(replace(m, source=_real(m.source)) for m in spec.mounts),
        layers=tuple(_real(layer) for layer in spec.layers),
        upper=None if spec.upper is None else _real(spec.upper),
    )

"""A client, blocking or asyncio, under one face that flows await."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from squall.client.api import AsyncClient, Client
from squall.sdk import context
from squall.sdk.flows import finish
from squall.sdk.method_calls import MethodCall
from squall.sdk.refusals import translated

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from squall.client.api import Call, Event
    from squall.client.direct import Line
    from squall.runner.protocol.spool import MemoryFile

C = TypeVar("C", bound="Client | AsyncClient")


class Gate(ABC):
    """A counter of room to wait at, which can be opened for good."""

    @abstractmethod
    async def acquire(self) -> int:
        """Wait for room, and take all there is; 0 once the gate is open for good, and nobody wants more."""

    @abstractmethod
    def release(self, room: int) -> None:
        """Room for so many more."""

    @abstractmethod
    def open(self) -> None:
        """Nobody waits any more."""


class Port(ABC, Generic[C]):
    """Refusals of the server are raised as exceptions of `squall.exception`."""

    #: Flows beside this one have threads of their own.
    threaded = False

    def __init__(self, client: C, method: str = "") -> None:
        self.client: C = client
        self._method = method

    def of_method(self, method: str) -> Port[C]:
        """The same way, for calls whose inputs are for this method of a class."""
        return type(self)(self.client, method)

    def open_call(
        self, function_id: str, kind: str, *, durable: bool = False, parent: str = "", trace: bool = False
    ) -> Call:
        call = self.client.open_call(function_id, kind, durable=durable, parent=parent, trace=trace)
        return MethodCall(call, self._method) if self._method else call

    def line(self, function_id: str) -> Line | None:
        """A direct line into a container, for one call, if there should be one."""
        if self.client.lines is None:
            return None
        return self.client.lines.take(
            (function_id, self._method),
            lambda: self.open_call(function_id, "direct", parent=context.parent()),
        )

    def called(self, function_id: str, seconds: float) -> None:
        """A call by way of the server took so long."""
        if self.client.lines is not None:
            self.client.lines.called((function_id, self._method), seconds)

    def attach_call(self, call_id: str, start: int = 0, end: int | None = None) -> Call:
        return self.client.attach_call(call_id, start, end, parent=context.parent())

    @abstractmethod
    async def request(self, method: str, body: Any, *, timeout: float | None = 60.0) -> Any:
        """See squall.client.api."""

    @abstractmethod
    async def upload(self, blob: str, data: bytes | memoryview) -> None:
        """See squall.client.api."""

    @abstractmethod
    async def offer(self, file: MemoryFile) -> str:
        """See squall.client.api."""

    @abstractmethod
    async def download(self, blob: str) -> bytes:
        """See squall.client.api."""

    @abstractmethod
    async def next(self, call: Call, timeout: float | None = None) -> Event:
        """The next event of a call. Raises builtins.TimeoutError after `timeout` seconds."""

    @abstractmethod
    async def accepted(self, call: Call, upto: int) -> None:
        """See squall.client.api."""

    @abstractmethod
    def beside(self, flow: Coroutine[Any, Any, None]) -> Callable[[], None]:
        """Run a flow, which must not raise, beside this one: in a thread, or as a task.

        What comes back ends it, where that is possible: a thread ends when it looks.
        """

    @abstractmethod
    def gate(self, room: int) -> Gate:
        """A gate that flows of this port can wait at."""

    @abstractmethod
    async def pause(self) -> None:
        """Let others run."""


class BlockingPort(Port[Client]):
    """Nothing here suspends: what waits, waits in the calling thread."""

    threaded = True

    async def request(self, method: str, body: Any, *, timeout: float | None = 60.0) -> Any:
        with translated():
            return self.client.request(method, body, timeout=timeout)

    async def upload(self, blob: str, data: bytes | memoryview) -> None:
        with translated():
            self.client.upload(blob, data)

    async def offer(self, file: MemoryFile) -> str:
        return self.client.offer(file)

    async def download(self, blob: str) -> bytes:
        with translated():
            return self.client.download(blob)

    async def next(self, call: Call, timeout: float | None = None) -> Event:
        with translated():
            return call.next(timeout)

    async def accepted(self, call: Call, upto: int) -> None:
        with translated():
            call.accepted(upto)

    def beside(self, flow: Coroutine[Any, Any, None]) -> Callable[[], None]:
        # A daemon: an input iterator of the user's that blocks forever must not keep the process alive.
        threading.Thread(target=finish, args=(flow,), name="squall-map", daemon=True).start()
        return lambda: None

    def gate(self, room: int) -> Gate:
        return _ThreadGate(room)

    async def pause(self) -> None:
        pass


class AsyncioPort(Port[AsyncClient]):
    #: A loop holds its tasks weakly.
    _tasks: ClassVar[set[Any]] = set()

    async def request(self, method: str, body: Any, *, timeout: float | None = 60.0) -> Any:
        with translated():
            return await self.client.request(method, body, timeout=timeout)

    async def upload(self, blob: str, data: bytes | memoryview) -> None:
        with translated():
            await self.client.upload(blob, data)

    async def offer(self, file: MemoryFile) -> str:
        return await self.client.offer(file)

    async def download(self, blob: str) -> bytes:
        with translated():
            return await self.client.download(blob)

    async def next(self, call: Call, timeout: float | None = None) -> Event:
        with translated():
            return await call.next_async(timeout)

    async def accepted(self, call: Call, upto: int) -> None:
        with translated():
            await call.accepted_async(upto)

    def beside(self, flow: Coroutine[Any, Any, None]) -> Callable[[], None]:
        import asyncio

        task = asyncio.get_running_loop().create_task(flow)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

        def stop() -> None:
            task.cancel()

        return stop

    def gate(self, room: int) -> Gate:
        return _TaskGate(room)

    async def pause(self) -> None:
        import asyncio

        await asyncio.sleep(0)


class _ThreadGate(Gate):
    def __init__(self, room: int) -> None:
        self._room = room
        self._open = False
        self._changed = threading.Condition()

    async def acquire(self) -> int:
        with self._changed:
            while not (self._room or self._open):
                self._changed.wait()
            room, self._room = self._room, 0
        return 0 if self._open else room

    def release(self, room: int) -> None:
        with self._changed:
            self._room += room
            self._changed.notify()

    def open(self) -> None:
        with self._changed:
            self._open = True
            self._changed.notify()


class _TaskGate(Gate):
    def __init__(self, room: int) -> None:
        import asyncio

        self._room = room
        self._open = False
        self._changed = asyncio.Event()

    async def acquire(self) -> int:
        while not (self._room or self._open):
            self._changed.clear()
            await self._changed.wait()
        room, self._room = self._room, 0
        return 0 if self._open else room

    def release(self, room: int) -> None:
        self._room += room
        self._changed.set()

    def open(self) -> None:
        self._open = True
        self._changed.set()

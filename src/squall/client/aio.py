"""The asyncio driver: one task keeps the connection, callers wait for futures. One client a running loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any

from squall import exception
from squall.client import transport
from squall.client.aio_call import AsyncCall
from squall.client.aio_link import AsyncLink, dial, prepare
from squall.client.api import AsyncClient, Watch
from squall.client.calls import CallState, Target, new_call_id
from squall.client.core import Credentials, Pending, Restart, Session, chunks, decoded
from squall.client.parcels import Parcels
from squall.client.reconnect import Reconnect, fatal
from squall.exception import ClientClosed, Error
from squall.wire.codec import ProtocolError
from squall.wire.control import Empty
from squall.wire.websocket import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from squall.client.transport import Endpoint
    from squall.runner.protocol.spool import MemoryFile

#: How long one attempt to connect, and a farewell, may take (seconds).
DIAL_S = 10.0
FAREWELL_S = 2.0
#: A server is gone when nothing was heard of it for so many heartbeats.
SILENT_HEARTBEATS = 3

_log = logging.getLogger("squall.client")


class AsyncioClient(AsyncClient):
    """See squall.client.api.AsyncClient. All methods are for the loop that opened it."""

    def __init__(self, endpoint: Endpoint, credentials: Credentials) -> None:
        self.endpoint = endpoint
        self.watch = Watch()
        self.workspace = ""
        self.environment = credentials.environment
        self._parcels = Parcels("" if endpoint.nested else endpoint.path)
        self.session = Session(credentials, time.monotonic, parcels=self._parcels)
        self._link: AsyncLink | None = None
        self._reconnect = Reconnect()
        self._keeper: asyncio.Task[None] | None = None
        self._flushing = False
        self._closed = False

    # -------------------------------------------------------------------------------------------- public

    async def open(self, timeout: float = 30.0) -> None:
        """Connect, in so many seconds once the server is there: to start or replace one may take longer.

        Raises exception.ConnectionError, AuthError, VersionError without trying again.
        """
        await prepare(self.endpoint)
        try:
            await self._await_session(timeout)
        except exception.TimeoutError as error:
            raise exception.ConnectionError(transport.unreachable(self.endpoint, error)) from None
        welcome = self.session.welcome
        assert welcome is not None
        self.workspace, self.environment = welcome.workspace, welcome.environment

    async def request(self, method: str, body: Any, *, timeout: float | None = 60.0) -> Any:
        self._check_open()
        pending = self.session.request(method, body)
        return decoded(method, await self._finish(pending, timeout, f"No answer to {method}"))

    async def upload(self, blob: str, data: bytes | memoryview) -> None:
        while True:
            self._check_open()
            await self._await_session(None)
            try:
                return await self._upload(self.session.upload(), blob, data)
            except Restart:
                continue

    async def offer(self, file: MemoryFile) -> str:
        self._check_open()
        return await asyncio.to_thread(self._parcels.offer, file) if self._parcels.possible else ""

    async def download(self, blob: str) -> bytes:
        self._check_open()
        return await self._finish(self.session.download(blob), None)

    def open_call(
        self, function_id: str, kind: str, *, durable: bool = False, parent: str = "", trace: bool = False
    ) -> AsyncCall:
        self._check_open()
        state = CallState(new_call_id(), function_id, kind, durable=durable, parent=parent)
        self.session.add_call(state, trace=trace)
        return AsyncCall(self, state)

    def attach_call(
        self, call_id: str, start: int = 0, end: int | None = None, *, parent: str = ""
    ) -> AsyncCall:
        self._check_open()
        state = CallState(call_id, parent=parent, attach=(start, end))
        self.session.add_call(state)
        self.flush()
        return AsyncCall(self, state)

    async def close(self) -> None:
        if self._closed:
            return
        try:
            if self.session.ready:
                await self.request("session.close", Empty(), timeout=FAREWELL_S)
        except Error as error:
            _log.debug("the server did not answer the farewell: %s", error)
        finally:
            self._closed = True
            self.session.fail(ClientClosed("This client is closed."))
            link, self._link = self._link, None
            if self._keeper is not None:
                self._keeper.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._keeper
            if link is not None:
                await link.end(FAREWELL_S)
            self._parcels.close()

    # ------------------------------------------------------------------------------------------- waiting

    async def wait(
        self,
        target: Target,
        ready: Callable[[], bool],
        timeout: float | None,
        what: str = "Nothing came",
    ) -> None:
        """Until `ready()`. Raises exception.TimeoutError after `timeout` seconds."""
        self._keep()
        changed = asyncio.Event()
        target.listeners.append(changed.set)
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            while not ready():
                self._check_open()
                left = None if deadline is None else deadline - time.monotonic()
                changed.clear()
                await asyncio.wait_for(changed.wait(), left)
        except asyncio.TimeoutError:
            raise exception.TimeoutError(f"{what} within {timeout:g} s.") from None
        finally:
            target.listeners.remove(changed.set)

    async def _finish(self, pending: Pending, timeout: float | None, what: str = "Nothing came") -> bytes:
        try:
            self.flush()
            await self.wait(pending, pending.is_done, timeout, what)
        finally:
            self.session.forget(pending)
        return pending.result()

    async def _await_session(self, timeout: float | None) -> None:
        if self.session.problem is not None and self._link is None:
            self.session.problem = None  # of an earlier attempt
        await self.wait(self.session, self.session.is_settled, timeout)
        if self.session.problem is not None:
            raise self.session.problem

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosed("This client is closed.")

    # ------------------------------------------------------------------------------------------ connection

    def _keep(self) -> None:
        """Somebody waits: there must be a task that reads or connects."""
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.get_running_loop().create_task(self._keep_connection())

    async def _keep_connection(self) -> None:
        """Connect, read, connect again; ends when there is no hope."""
        while not self._closed:
            await asyncio.sleep(self._reconnect.pause(time.monotonic()))
            try:
                problem = await self._connection()
            finally:  # cancelled too: a loop that ends cancels all tasks before it lets us close
                self._disconnect()
            if self._gives_up(problem):
                return

    async def _connection(self) -> Exception:
        """One connection from its beginning to its end, which it returns."""
        try:
            link = self._link = await dial(self.endpoint, DIAL_S)
            await asyncio.to_thread(self._parcels.again)
            link.generation = self.session.connected()
            self.flush()
            while True:
                self.session.received(await link.receive())
                if not link.alive and self.session.ready and self.session.welcome is not None:
                    self._reconnect.reset()
                    link.keep_alive(self.session.welcome.heartbeat, SILENT_HEARTBEATS)
                self._deliver()
                self.flush()
        except (OSError, ProtocolError, Refused, Error) as error:
            return error

    def _disconnect(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()
            self.session.lost(link.generation)

    def _gives_up(self, error: Exception) -> bool:
        if self._closed:
            return True
        now = time.monotonic()
        first = self.session.welcome is None and not self.endpoint.comes_back
        if first or fatal(error) or self._reconnect.exhausted(now):
            known = isinstance(error, Error)
            self._reconnect.reset()
            self.session.fail(
                error if known else exception.ConnectionError(transport.unreachable(self.endpoint, error))
            )
            return True
        self._reconnect.begin(now)
        return False

    def _deliver(self) -> None:
        try:
            self.session.deliver(self.watch)
        except Exception:
            _log.exception("a callback failed")

    # -------------------------------------------------------------------------------------------- sending

    def flush(self) -> None:
        """Send what is queued, at the end of this iteration of the loop: what others queue goes along."""
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._flushing = False
        link = self._link
        while link is not None and (payload := self.session.take(link.generation)) is not None:
            link.send_frame(payload)

    async def _upload(self, pending: Pending, blob: str, data: bytes | memoryview) -> None:
        link = self._link
        try:
            for chunk in chunks(data, blob, pending.id):
                if pending.done or link is None or self._link is not link:
                    break
                link.send_frame(chunk)
                await link.writable()
            if link is None or self._link is not link:
                raise Restart
            await self.wait(pending, pending.is_done, None)
            pending.result()
        finally:
            self.session.forget(pending)

"""The blocking driver: the thread that waits reads the socket itself.

When several threads wait, one leads: it reads and hands out, and wakes another to lead when it has what it
wanted. While user code computes, an idle thread leads: logs, pings and reconnects go on. It stands back when
callers come often enough to read for themselves, so that a call costs no switch of threads.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from squall import exception
from squall.client import transport
from squall.client.api import Client, Watch
from squall.client.blocking_call import BlockingCall
from squall.client.blocking_guest import BlockingGuest
from squall.client.calls import CallState, Target, new_call_id
from squall.client.core import Credentials, Pending, Restart, Session, chunks, decoded
from squall.client.direct import Lines
from squall.client.parcels import Parcels
from squall.client.reconnect import Reconnect, fatal
from squall.client.turns import Turn, Waiter
from squall.exception import ClientClosed, Error
from squall.wire.codec import ProtocolError
from squall.wire.control import Empty
from squall.wire.websocket import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from squall.client.transport import Endpoint, Link
    from squall.runner.protocol.spool import MemoryFile

#: The idle thread reads once nobody has for so long, in seconds.
IDLE_AFTER_S = 0.05
#: A follower looks after itself this often, should the leader have died without a word (seconds).
FOLLOWER_PATIENCE_S = 1.0
#: How long one attempt to connect, and a farewell, may take (seconds).
DIAL_S = 10.0
FAREWELL_S = 2.0
#: A server is gone when nothing was heard of it for so many heartbeats.
SILENT_HEARTBEATS = 3

_log = logging.getLogger("squall.client")


class BlockingClient(Client):
    """See squall.client.api.Client. `open` connects; after that, threads may share it."""

    def __init__(self, endpoint: Endpoint, credentials: Credentials) -> None:
        self.endpoint = endpoint
        self.watch = Watch()
        self.workspace = ""
        self.environment = credentials.environment
        self._credentials = credentials
        self._closed = False
        self._begin()
        _clients.add(self)

    def _begin(self) -> None:
        """All that a child process must not share with its parent."""
        self._parcels = Parcels("" if self.endpoint.nested else self.endpoint.path)
        self.lines = Lines(self._parcels.offer_socket) if self._parcels.possible else None
        self.session = Session(self._credentials, time.monotonic, parcels=self._parcels)
        self._link: Link | None = None
        self._reconnect = Reconnect()
        self._lead, self._sending, self._delivering = Turn(), Turn(), Turn()
        self._leading = self._calling_back = False
        self._waiters: dict[Waiter, Target] = {}
        self._last_wait = self._heard = self._said = 0.0
        self._parked = False
        self._nudge = threading.Event()
        self._idle: threading.Thread | None = None

    # -------------------------------------------------------------------------------------------- public

    def open(self, timeout: float = 30.0) -> None:
        """Connect, in so many seconds once the server is there: to start or replace one may take longer.

        Raises exception.ConnectionError, AuthError, VersionError without trying again.
        """
        if self.endpoint.prepare is not None:
            self.endpoint.prepare()
        try:
            self._await_session(timeout)
        except exception.TimeoutError as error:
            raise exception.ConnectionError(transport.unreachable(self.endpoint, error)) from None
        welcome = self.session.welcome
        assert welcome is not None
        self.workspace, self.environment = welcome.workspace, welcome.environment

    def request(self, method: str, body: Any, *, timeout: float | None = 60.0) -> Any:
        self._check_open()
        pending = self.session.request(method, body)
        return decoded(method, self._finish(pending, timeout, f"No answer to {method}"))

    def upload(self, blob: str, data: bytes | memoryview) -> None:
        while True:
            self._check_open()
            self._await_session(None)
            try:
                return self._upload(self.session.upload(), blob, data)
            except Restart:
                continue

    def offer(self, file: MemoryFile) -> str:
        self._check_open()
        return self._parcels.offer(file)

    def download(self, blob: str) -> bytes:
        self._check_open()
        return self._finish(self.session.download(blob), None)

    def open_call(
        self, function_id: str, kind: str, *, durable: bool = False, parent: str = "", trace: bool = False
    ) -> BlockingCall:
        self._check_open()
        state = CallState(new_call_id(), function_id, kind, durable=durable, parent=parent)
        self.session.add_call(state, trace=trace)
        return BlockingCall(self, state)

    def attach_call(
        self, call_id: str, start: int = 0, end: int | None = None, *, parent: str = ""
    ) -> BlockingCall:
        self._check_open()
        state = CallState(call_id, parent=parent, attach=(start, end))
        self.session.add_call(state)
        self.flush()
        return BlockingCall(self, state)

    def join(
        self,
        container: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        terminal: tuple[int, int] | None = None,
    ) -> BlockingGuest:
        self._check_open()
        self._await_session(DIAL_S)
        guest = BlockingGuest(self, f"gu-{os.urandom(16).hex()}")
        guest.begin(container, list(argv), dict(env or {}), terminal)
        return guest

    def close(self) -> None:
        if self._closed:
            return
        if self.lines is not None:
            self.lines.close()
        try:
            if self.session.ready:
                self.request("session.close", Empty(), timeout=FAREWELL_S)
        except Error as error:
            _log.debug("the server did not answer the farewell: %s", error)
        finally:
            self._closed = True
            self.session.fail(ClientClosed("This client is closed."))
            if self._link is not None:
                self._link.close(farewell=True)
            self._parcels.close()
            self._nudge.set()

    # ------------------------------------------------------------------------------------------- waiting

    def wait(
        self, target: Target, ready: Callable[[], bool], timeout: float | None, what: str = "Nothing came"
    ) -> None:
        """Until `ready()`, leading or following. Raises exception.TimeoutError after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        waiter = Waiter()
        target.listeners.append(waiter.wake)
        self._waiters[waiter] = target
        try:
            while not ready():
                self._check_open()
                if deadline is not None and time.monotonic() >= deadline:
                    raise exception.TimeoutError(f"{what} within {timeout:g} s.")
                if not self._lead_until(ready, deadline):
                    waiter.wait(_left(deadline, FOLLOWER_PATIENCE_S))
        finally:
            self._waiters.pop(waiter, None)
            target.listeners.remove(waiter.wake)
            self._lead.leave()
            self._last_wait = time.monotonic()
            self._promote()
            if self._parked:
                self._nudge.set()

    def _lead_until(self, done: Callable[[], bool], deadline: float | None) -> bool:
        """Read until done, past the deadline or interrupted by callbacks. False if somebody else leads."""
        if not self._lead.take():
            return False
        try:
            self._leading = True
            while not (done() or self._closed or (self.session.pushes and not self._calling_back)):
                self._step(deadline)
                if deadline is not None and time.monotonic() >= deadline:
                    break
        finally:
            self._leading = False
            self._lead.leave()
        self._deliver()
        return True

    def _promote(self) -> None:
        """If nobody leads, wake one who waits; if that one is leaving it promotes the next."""
        for waiter in () if self._leading else tuple(self._waiters):
            waiter.wake()
            break

    def _deliver(self) -> None:
        """Callbacks, without any lock, so that they may use the client."""
        if not self.session.pushes or self._delivering.mine() or not self._delivering.take():
            return
        try:
            self._calling_back = True
            self.session.deliver(self.watch)
        except Exception:
            _log.exception("a callback failed")
        finally:
            self._calling_back = False
            self._delivering.leave()

    def _idle_loop(self, session: Session) -> None:
        while self.session is session and not self._closed:
            self._parked = True
            if self._needless() and not self._closed:
                self._nudge.wait()
            self._nudge.clear()
            self._parked = False
            time.sleep(IDLE_AFTER_S)
            if time.monotonic() - self._last_wait >= IDLE_AFTER_S:
                while not self._needless() and self._lead_until(self._needless, None):
                    """Callbacks interrupt the reading."""
                self._promote()

    def _needless(self) -> bool:
        """Whether the idle thread has nothing to do: callers read, or there is no connection to keep."""
        return self._closed or bool(self._waiters) or (self._link is None and not self._reconnect.active)

    # -------------------------------------------------------------------------------------------- leading

    def _step(self, deadline: float | None) -> None:
        """One thing that a leader does: connect, or receive once."""
        link = self._link
        if link is None:
            self._connect(deadline)
            return
        self.flush(lazy=True)
        due = min(self._heard, self._said) + self._heartbeat() - time.monotonic()
        if link.wait(_left(deadline, due)):
            self._receive(link)
        elif due <= 0:
            self._keep_alive(link)

    def _receive(self, link: Link) -> None:
        problem: Exception = ConnectionResetError("interrupted")  # by Ctrl-C: what was read is lost
        clean = False
        try:
            self._take_in(link.receive())
            clean = True
        except (OSError, ProtocolError, Error) as error:
            problem = error
        finally:
            if not clean:
                self._drop(link, problem)
        self.flush()

    def _take_in(self, frames: list[bytes]) -> None:
        self._heard = time.monotonic()
        for frame in frames:
            self.session.received(frame)
        if self.session.ready and self._reconnect.active:
            self._reconnect.reset()

    def _connect(self, deadline: float | None) -> None:
        pause = self._reconnect.pause(time.monotonic())
        if pause > 0:
            time.sleep(_left(deadline, min(pause, IDLE_AFTER_S)))
            return
        try:
            link, frames = transport.dial(self.endpoint, max(0.1, _left(deadline, DIAL_S)))
        except (OSError, ProtocolError, Refused, Error) as error:
            self._unreachable(error)
            return
        self._parcels.again()
        link.generation = self.session.connected()
        self._link = link
        if self._closed:  # meanwhile, by another thread, which did not see this link
            link.close()
            return
        self._said = time.monotonic()
        self._take_in(frames)
        self.flush()
        self._start_idle()

    def _start_idle(self) -> None:
        if self._idle is None:
            self._idle = threading.Thread(
                target=self._idle_loop, args=(self.session,), name="squall-client", daemon=True
            )
            self._idle.start()

    def _unreachable(self, error: Exception) -> None:
        now = time.monotonic()
        first = self.session.welcome is None and not self.endpoint.comes_back
        if first or fatal(error) or self._reconnect.exhausted(now):
            known = isinstance(error, Error)
            self.session.fail(
                error if known else exception.ConnectionError(transport.unreachable(self.endpoint, error))
            )
            self._reconnect.reset()
        else:
            self._reconnect.begin(now)

    def _drop(self, link: Link, error: Exception) -> None:
        """The connection is of no use any more; any thread may find out."""
        if self._link is not link:
            return
        self._link = None
        link.close()
        self.session.lost(link.generation)
        if not self._closed:
            self._unreachable(error)

    def _keep_alive(self, link: Link) -> None:
        if time.monotonic() - self._heard > SILENT_HEARTBEATS * self._heartbeat():
            self._drop(link, ConnectionResetError("the server is silent"))
            return
        self._said = time.monotonic()
        if link.ping():
            self.flush()
        else:
            self._heard = self._said

    def _heartbeat(self) -> float:
        return self.session.welcome.heartbeat if self.session.welcome else 5.0

    # -------------------------------------------------------------------------------------------- sending

    def flush(self, *, lazy: bool = False) -> None:
        """Send what is queued, unless another thread is at it: then that one does."""
        while (link := self._link) is not None and (link.control or self.session.outgoing(lazy=lazy)):
            if not self._sending.take():
                return
            try:
                self._send(link, self.session.take)
            finally:
                self._sending.leave()

    def _send(self, link: Link, take: Callable[[int], bytes | None]) -> None:
        """Send all that `take` gives for this connection. For one who has the turn."""
        problem: Exception = ConnectionResetError("interrupted")  # by Ctrl-C: a frame may be half sent
        clean = False
        try:
            link.send_control()
            while (payload := take(link.generation)) is not None:
                link.send_frame(payload)
            self._said = time.monotonic()
            clean = True
        except OSError as error:
            problem = error
        finally:
            if not clean:
                self._drop(link, problem)

    def _upload(self, pending: Pending, blob: str, data: bytes | memoryview) -> None:
        link = self._link
        try:
            for chunk in chunks(data, blob, pending.id):
                if pending.done or link is None or self._link is not link:
                    break
                self._send_chunk(link, chunk)
            if link is None or self._link is not link:
                raise Restart
            self.wait(pending, pending.is_done, None)
            pending.result()
        finally:
            self.session.forget(pending)

    def _send_chunk(self, link: Link, chunk: bytes) -> None:
        """Wait for the turn and for the connection: an upload holds one chunk in memory, not all."""
        piece = [chunk]
        try:
            self._sending.wait_and_take()
            self._send(link, lambda _: piece.pop() if piece else None)
        finally:
            self._sending.leave()
        self.flush()

    # -------------------------------------------------------------------------------------------- helpers

    def _finish(self, pending: Pending, timeout: float | None, what: str = "Nothing came") -> bytes:
        session = self.session
        try:
            self.flush()
            self.wait(pending, pending.is_done, timeout, what)
        finally:
            session.forget(pending)
        return pending.result()

    def _await_session(self, timeout: float | None) -> None:
        session = self.session
        if session.problem is not None and self._link is None:
            session.problem = None  # of an earlier attempt
        self.wait(session, session.is_settled, timeout)
        if session.problem is not None:
            raise session.problem

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosed("This client is closed.")

    def after_fork(self) -> None:
        """In the child: the connection and the session are the parent's. The next use opens new ones."""
        if self._link is not None:
            self._link.abandon()
        self._parcels.abandon()
        self._begin()


def _left(deadline: float | None, at_most: float) -> float:
    """Seconds until the deadline, but no more than this, and not below zero."""
    if deadline is None:
        return max(0.0, at_most)
    return max(0.0, min(deadline - time.monotonic(), at_most))


_clients: weakref.WeakSet[BlockingClient] = weakref.WeakSet()


def _after_fork() -> None:
    for client in tuple(_clients):
        client.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

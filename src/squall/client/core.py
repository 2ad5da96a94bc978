"""One session with a server, sans-I/O: frames in, frames out. The drivers own sockets, threads and clocks.

State is the truth and the outbox only a hint: after a new connection the outbox is made anew from what has no
answer yet, under the same ids, so a connection may break at any byte. A session may be used by any thread.
"""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from dataclasses import dataclass
from io import BytesIO
from itertools import count
from typing import TYPE_CHECKING, Any, cast

from squall import __version__, exception
from squall.client.api import ServiceRefusal
from squall.client.calls import CallState, Target, in_parcel
from squall.exception import AuthError, DataLossError, VersionError
from squall.wire import codec, guests, messages
from squall.wire.control import METHODS
from squall.wire.parcels import is_name as is_parcel
from squall.wire.values import CHUNK, PROTOCOL, OutputItem

if TYPE_CHECKING:
    from collections.abc import Callable

    from squall.client.api import Event, Watch
    from squall.client.guests import GuestState
    from squall.client.parcels import Parcels
    from squall.wire.values import InputItem

#: A frame is sent once it has this many bytes; what waits behind it goes into the next one.
FRAME_BYTES = 1 << 20

#: What the drivers do with what the server pushes: the name of a Watch's callback, and its arguments.
Push = tuple[str, tuple[Any, ...]]


@dataclass(frozen=True)
class Credentials:
    """Who asks: no token inside containers and on the embedded socket."""

    token: str = ""
    environment: str = "main"


class Restart(Exception):
    """The connection broke in the middle of an upload, which must begin anew."""


class Pending(Target):
    """A request without an answer: `message` is sent again after a new connection."""

    def __init__(self, number: int, message: object | None) -> None:
        super().__init__()
        self.id = number
        self.message = message
        self.done = False
        self.error: Exception | None = None
        self.body = b""

    def is_done(self) -> bool:
        return self.done

    def end(self, body: bytes = b"", error: Exception | None = None) -> None:
        self.body, self.error = body, error
        self.done = True
        self.changed()

    def result(self) -> bytes:
        if self.error is not None:
            raise self.error
        return self.body


class Download(Pending):
    """A blob on its way in; it is whole once its hash is right."""

    def __init__(self, number: int, blob: str) -> None:
        super().__init__(number, messages.BlobFetch(number, blob))
        self._blob = blob
        self._data = BytesIO()

    def chunk(self, message: messages.BlobChunk) -> None:
        if message.offset == 0:  # the first, also after a new connection
            self._data = BytesIO()
        if message.offset != self._data.tell():
            raise codec.ProtocolError(f"a blob's chunk at {message.offset}, not {self._data.tell()}")
        self._data.write(message.data)
        if not message.last:
            return
        if is_parcel(self._blob) or hashlib.sha256(self._data.getbuffer()).hexdigest() == self._blob:
            self.end(self._data.getvalue())
        else:
            self.end(error=DataLossError(f"Blob {self._blob[:12]} is damaged on the server."))


class Session(Target):
    """Its listeners hear of `ready` and `problem`."""

    def __init__(
        self, credentials: Credentials, clock: Callable[[], float], *, parcels: Parcels | None = None
    ) -> None:
        super().__init__()
        self.credentials = credentials
        self._parcels = parcels
        self.ready = False
        self.problem: Exception | None = None
        self.welcome: messages.Welcome | None = None
        self.pushes: deque[Push] = deque()
        self._clock = clock
        self._lock = threading.Lock()
        self._generation = 0
        self._numbers = count(1)
        self._calls: dict[str, CallState] = {}
        self._traced: set[str] = set()
        self._guests: dict[str, GuestState] = {}
        self._pending: dict[int, Pending] = {}
        self._outbox: deque[object] = deque()
        self._acking: dict[str, CallState] = {}

    # ----------------------------------------------------------------------------------------- connection

    def connected(self) -> int:
        """A new connection is there. Returns its number, by which `take` and `lost` know it."""
        self.lost(self._generation)
        with self._lock:
            self._generation += 1
            self.problem = None
            session = self.welcome.session if self.welcome else ""
            token, environment = self.credentials.token, self.credentials.environment
            self._outbox.clear()
            takes_parcels = self._parcels is not None and self._parcels.possible
            self._outbox.append(
                messages.Hello(PROTOCOL, "client", __version__, token, session, environment, takes_parcels)
            )
            return self._generation

    def lost(self, generation: int) -> None:
        """That connection is gone."""
        with self._lock:
            if generation != self._generation:
                return
            self.ready = False
            self._outbox.clear()
            uploads = [p for p in self._pending.values() if p.message is None]
            orphans, self._guests = self._guests, {}
        for guest in orphans.values():
            guest.lost()
        for pending in uploads:
            self._end(pending, error=Restart())

    def fail(self, problem: Exception) -> None:
        """Nothing more will come: everything that waits ends with this error."""
        with self._lock:
            self.ready = False
            self.problem = problem
            pending = list(self._pending.values())
            calls = list(self._calls.values())
            orphans, self._guests = self._guests, {}
        for guest in orphans.values():
            guest.lost(problem)
        for waiting in pending:
            self._end(waiting, error=problem)
        for call in calls:
            call.failure = call.failure or problem
            call.changed()
        self.changed()

    def is_settled(self) -> bool:
        """Whether a connection attempt has come to its end, good or bad."""
        return self.ready or self.problem is not None

    def outgoing(self, *, lazy: bool = False) -> bool:
        """Whether there is something to send; `lazy` counts acknowledgements, which can wait for company."""
        return bool(self._outbox) or (lazy and self.ready and bool(self._acking))

    def take(self, generation: int) -> bytes | None:
        """The next frame to send on that connection."""
        with self._lock:
            if generation != self._generation:
                return None
            parts: list[bytes] = []
            size = 0
            while self._outbox and size < FRAME_BYTES:
                part = codec.encode([self._outbox.popleft()])
                size += len(part)
                parts.append(part)
            if self.ready and not self._outbox:
                # Last: a call that is acknowledged and then said again, as after an outage, would run again.
                parts += self._acknowledgements()
        return b"".join(parts) if parts else None

    def received(self, frame: bytes) -> None:
        """A frame from the server. Raises ProtocolError, or what refuses this client for good."""
        for message in codec.decode(frame):
            handler = _HANDLERS.get(type(message))
            if handler is None:
                raise codec.ProtocolError(f"a server does not send {type(message).__name__}")
            handler(self, message)

    def _acknowledgements(self) -> list[bytes]:
        acking, self._acking = self._acking, {}
        return [codec.encode([ack]) for call in acking.values() if (ack := call.received())]

    # ------------------------------------------------------------------------------------------- requests

    def request(self, method: str, body: object) -> Pending:
        number = next(self._numbers)
        return self._ask(Pending(number, messages.Request(number, method, codec.pack(body))))

    def download(self, blob: str) -> Pending:
        return self._ask(Download(next(self._numbers), blob))

    def upload(self) -> Pending:
        """An upload's number; its chunks are for the driver to send, as fast as the connection takes them."""
        return self._ask(Pending(next(self._numbers), None))

    def forget(self, pending: Pending) -> None:
        with self._lock:
            self._pending.pop(pending.id, None)

    def _ask(self, pending: Pending) -> Pending:
        with self._lock:
            self._pending[pending.id] = pending
            if pending.message is not None:
                self._post([pending.message])
        return pending

    def _end(self, pending: Pending, body: bytes = b"", error: Exception | None = None) -> None:
        pending.end(body, error)
        self.forget(pending)

    def _post(self, outgoing: list[object]) -> None:
        """Queue messages; before the welcome there is no need, for all state is told after it."""
        if self.ready:
            self._outbox.extend(outgoing)

    # ---------------------------------------------------------------------------------------------- calls

    def add_call(self, call: CallState, *, trace: bool = False) -> None:
        with self._lock:
            self._calls[call.id] = call
            if trace:
                self._traced.add(call.id)
            if not call.function:
                self._post(call.again(new_session=False))

    def remove_call(self, call: CallState) -> None:
        with self._lock:
            self._calls.pop(call.id, None)
            self._traced.discard(call.id)
            ended = call.end()
        self._drop(ended)

    def send(self, call: CallState, items: list[InputItem], *, last: bool) -> None:
        with self._lock:
            if call.id in self._traced:
                for item in items:
                    item.trace = [*(item.trace or ()), ("client.send", self._clock())]
            self._post(call.send(items, last=last))

    def credit(self, call: CallState, index: int, upto: int) -> None:
        with self._lock:
            self._post(call.credit(index, upto))

    def cancel(self, call: CallState, *, terminate: bool) -> None:
        with self._lock:
            self._post(call.cancel(terminate=terminate))

    def next_event(self, call: CallState) -> Event | None:
        """The call's next event if there is one. Raises its failure."""
        with self._lock:
            event = call.take()
            if event is not None:
                self._acking[call.id] = call
        return event

    def fetch(self, call: CallState, event: Event | None) -> bool:
        """Bring an event's content here; may wait a moment. False if its input runs again for it, or there is
        no event yet. Raises DataLossError.
        """
        if not isinstance(event, OutputItem) or not in_parcel(event):
            return event is not None
        payload = event.outcome.payload
        content = self._parcels.fetch(payload.blob) if self._parcels is not None else None
        with self._lock:
            if content is not None:
                call.fetched(event.index)
                payload.data, payload.blob = cast("bytes", content), ""
            else:
                again = call.lost(event.index)
                if again is None:
                    raise DataLossError("The result was lost with the server that had it: call again.")
                self._post(again)
            self._acking[call.id] = call
        self._drop(call.ended_parcels)
        return content is not None

    def _drop(self, ended: list[str]) -> None:
        if ended and self._parcels is not None:
            self._parcels.drop(ended)
            ended.clear()

    # --------------------------------------------------------------------------------------------- guests

    def join(self, guest: GuestState, message: guests.Join) -> None:
        """Its messages are never sent again: it ends with this connection."""
        with self._lock:
            ready = self.ready
            if ready:
                self._guests[guest.id] = guest
                self._post([message])
        if not ready:
            guest.lost()

    def tell(self, guest: GuestState, *outgoing: object) -> None:
        with self._lock:
            if guest.id in self._guests:
                self._post(list(outgoing))

    def leave(self, guest: GuestState) -> None:
        with self._lock:
            if self._guests.pop(guest.id, None) is not None:
                self._post([guests.GuestEnd(guest.id)])

    def _guest(self, message: Any) -> None:
        with self._lock:
            guest = self._guests.get(message.guest)
            if guest is not None and isinstance(message, guests.GuestEnd):
                del self._guests[message.guest]
        if guest is not None:
            guest.received(message)

    # ------------------------------------------------------------------------------------------- messages

    def _welcome(self, message: messages.Welcome) -> None:
        with self._lock:
            before, self.welcome = self.welcome, message
            new_session = before is not None and before.session != message.session
            self.ready = True
            self._post([p.message for p in self._pending.values() if p.message is not None])
            for call in self._calls.values():
                self._post(call.again(new_session=new_session))
            if before is not None:
                self.pushes.append(("reconnected", ()))
            calls = list(self._calls.values()) if new_session else []
        for call in calls:
            call.changed()
        self.changed()

    def _failure(self, message: messages.Failure) -> None:
        refusal = ServiceRefusal(message.code, message.message)
        pending = self._pending.get(message.id)
        if pending is not None:
            self._end(pending, error=refusal)
        elif message.id == 0:
            self._refused(refusal)

    def _refused(self, refusal: ServiceRefusal) -> None:
        """The server does not want this connection."""
        if refusal.code == "not_found" and self.welcome is not None:
            self.welcome.session = ""  # it forgot the session: begin a new one
            raise codec.ProtocolError(refusal.message)
        if refusal.code == "unavailable":
            raise codec.ProtocolError(refusal.message)
        kinds = {"auth": AuthError, "version": VersionError}
        raise kinds.get(refusal.code, exception.ConnectionError)(refusal.message)

    def _response(self, message: messages.Response) -> None:
        pending = self._pending.get(message.id)
        if pending is not None:
            self._end(pending, message.body)

    def _chunk(self, message: messages.BlobChunk) -> None:
        pending = self._pending.get(message.id)
        if isinstance(pending, Download):
            pending.chunk(message)
            if pending.done:
                self.forget(pending)

    def _outputs(self, message: messages.Outputs) -> None:
        if message.call in self._traced:
            for item in message.items:
                item.trace = [*(item.trace or ()), ("client.receive", self._clock())]
        self._on_call(message)

    def _on_call(self, message: Any) -> None:
        with self._lock:
            call = self._calls.get(message.call)
            if call is None:
                return
            if isinstance(message, messages.Outputs):
                call.outputs(message)
                self._acking[call.id] = call
            elif isinstance(message, messages.Yields):
                call.yields(message)
            elif isinstance(message, messages.Accepted):
                call.accepted(message)
            elif isinstance(message, messages.CallFailed):
                call.failure = ServiceRefusal(message.code, message.message)
        if call.ended_parcels:
            self._drop(call.ended_parcels)
        call.changed()

    def _logs(self, message: messages.Logs) -> None:
        self.pushes.append(("logs", (message,)))

    def _build_log(self, message: messages.BuildLog) -> None:
        self.pushes.append(("build_log", (message,)))

    def _notice(self, message: messages.Notice) -> None:
        self.pushes.append(("notice", (message,)))

    def _progress(self, message: messages.Progress) -> None:
        self.pushes.append(("progress", (message,)))

    def deliver(self, watch: Watch) -> None:
        """Call the callbacks for what was pushed."""
        while self.pushes:
            name, arguments = self.pushes.popleft()
            callback = getattr(watch, name)
            if callback is not None:
                callback(*arguments)


_HANDLERS: dict[type, Callable[[Session, Any], None]] = {
    messages.Welcome: Session._welcome,
    messages.Failure: Session._failure,
    messages.Response: Session._response,
    messages.BlobChunk: Session._chunk,
    messages.Outputs: Session._outputs,
    messages.Yields: Session._on_call,
    messages.Accepted: Session._on_call,
    messages.CallFailed: Session._on_call,
    messages.Logs: Session._logs,
    messages.BuildLog: Session._build_log,
    messages.Notice: Session._notice,
    messages.Progress: Session._progress,
    guests.GuestData: Session._guest,
    guests.GuestCredit: Session._guest,
    guests.GuestEnd: Session._guest,
}


def decoded(method: str, body: bytes) -> Any:
    """The answer to a request, as the method's own class."""
    return codec.unpack(body, METHODS[method][1])


def chunks(data: bytes | memoryview, blob: str, number: int) -> Any:
    """The frames of an upload, one after the other; each is made when it is asked for."""
    view = memoryview(data).cast("B")
    for offset in range(0, max(len(view), 1), CHUNK):
        piece = bytes(view[offset : offset + CHUNK])
        last = offset + CHUNK >= len(view)
        yield codec.encode([messages.BlobChunk(number, blob, offset, piece, last)])

"""A client's connection: messages to the parts of the control plane that they concern."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from squall.server.blobs import Transfers
from squall.server.connection import Connection, Listener
from squall.server.parcels import Content
from squall.server.requests import answer
from squall.wire import guests
from squall.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from squall.server.attachments import Attachments
    from squall.server.calls import Calls
    from squall.server.services import Services
    from squall.server.session import Session
    from squall.server.spawns import Spawns
    from squall.server.tasks import Tasks


class ClientLink(Listener):
    """One connection of one session."""

    def __init__(
        self,
        connection: Connection,
        session: Session,
        services: Services,
        calls: Calls,
        spawns: Spawns,
        attachments: Attachments,
        tasks: Tasks,
    ) -> None:
        self._connection = connection
        self._session = session
        self._services = services
        self._calls = calls
        self._spawns = spawns
        self._attachments = attachments
        self._tasks = tasks
        self._transfers = Transfers(
            connection,
            Content(services.blobs, services.table.parcels),
            tasks,
            lambda _said: session.workspace,
        )

    def received(self, messages: Sequence[Any]) -> None:
        spawned: list[m.Inputs] = []
        for message in messages:
            if self._session.connection is not self._connection:
                break  # replaced by a newer connection of the session
            if type(message) is m.Inputs and message.durable:
                spawned.append(message)
                continue
            if spawned:  # what comes next may be about them
                self._spawns.take(self._session, spawned)
                spawned = []
            handler = _HANDLERS.get(type(message))
            if handler is None:
                text = f"a client does not send {type(message).__name__}"
                self._connection.send(m.Failure(0, "invalid", text))
                self._connection.close()
                return
            handler(self, message)
        if spawned:
            self._spawns.take(self._session, spawned)

    def closed(self) -> None:
        self._transfers.close()
        self._services.guests.connection_gone(self._connection)
        self._services.sessions.disconnected(self._session, self._connection)

    def _request(self, message: m.Request) -> None:
        if self._session.begin_request(message.id):
            self._tasks.spawn(self._answer(message))

    async def _answer(self, message: m.Request) -> None:
        self._session.answer(message.id, await answer(self._services, self._session, message))

    def _inputs(self, message: m.Inputs) -> None:
        self._calls.inputs(self._session, message)

    def _received(self, message: m.Received) -> None:
        self._calls.received(self._session, message)

    def _attach(self, message: m.Attach) -> None:
        self._attachments.attach(self._session, message)

    def _cancel(self, message: m.Cancel) -> None:
        self._calls.cancel(self._session, message)

    def _credit(self, message: m.Credit) -> None:
        entry = self._calls.credit(self._session, message)
        if entry is not None:
            self._services.nodes.credit(entry)

    def _chunk(self, message: m.BlobChunk) -> None:
        self._transfers.chunk(message)

    def _fetch(self, message: m.BlobFetch) -> None:
        self._transfers.fetch(message)

    def _join(self, message: guests.Join) -> None:
        self._services.guests.join(self._session, message)

    def _guest(self, message: Any) -> None:
        self._services.guests.from_client(self._session, message)


_HANDLERS: dict[type, Callable[[ClientLink, Any], None]] = {
    m.Request: ClientLink._request,
    m.Inputs: ClientLink._inputs,
    m.Received: ClientLink._received,
    m.Attach: ClientLink._attach,
    m.Cancel: ClientLink._cancel,
    m.Credit: ClientLink._credit,
    m.BlobChunk: ClientLink._chunk,
    m.BlobFetch: ClientLink._fetch,
    guests.Join: ClientLink._join,
    guests.GuestData: ClientLink._guest,
    guests.GuestCredit: ClientLink._guest,
    guests.GuestResize: ClientLink._guest,
    guests.GuestEnd: ClientLink._guest,
}

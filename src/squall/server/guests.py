"""Guests: programs that clients have join containers. Who may, how many, how much is under way, and a log.

Nothing is believed: ids, sizes and credit are checked here, so that a node sees only what it may, and this
process holds at most a window in each direction.
"""

from __future__ import annotations

import logging
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from squall.server.names import Refusal, one_line
from squall.wire.guests import PIECE, WINDOW, GuestCredit, GuestData, GuestEnd, GuestResize, Join

if TYPE_CHECKING:
    from squall.server.catalog import Catalog
    from squall.server.connection import Connection
    from squall.server.model import Container
    from squall.server.node import Node
    from squall.server.nodes import Nodes
    from squall.server.session import Session

log = logging.getLogger("squall.server")

#: Guests of one container, and of one session.
PER_CONTAINER, PER_SESSION = 16, 16
#: Words of a command and variables, and bytes of all of them.
WORDS, BYTES = 1_000, 64 << 10
#: A client that leaves so much unread while it asks for more is hung up on (bytes).
UNREAD = 16 << 20

_ID = re.compile(r"gu-[0-9a-f]{32}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")
_LARGEST_TERMINAL = 0xFFFF


@dataclass(eq=False)
class _Guest:
    """`down` and `up`: bytes on their way to the program, and to the client."""

    id: str
    session: Session
    connection: Connection
    container: Container
    node: Node
    down: int = 0
    up: int = 0


class Guests:
    """All that run."""

    def __init__(self, catalog: Catalog, nodes: Nodes) -> None:
        self._catalog = catalog
        self._nodes = nodes
        self._guests: dict[str, _Guest] = {}

    # ---------------------------------------------------------------------------------------- from clients

    def join(self, session: Session, message: Join) -> None:
        connection = session.connection
        if connection is None:
            return
        try:
            guest = self._admitted(session, connection, message)
        except Refusal as refusal:
            connection.send(GuestEnd(message.guest[:64], error=refusal.message))
            return
        self._guests[guest.id] = guest
        what = one_line(shlex.join(message.argv), 200)
        log.info(
            "guest %s: session %s of workspace %s, environment %s, runs in container %s of %s: %s",
            *(guest.id, session.stem[:8], session.workspace, session.environment),
            *(guest.container.id, guest.container.function.name, what),
        )
        guest.node.send(message)

    def from_client(
        self, session: Session, message: GuestData | GuestCredit | GuestResize | GuestEnd
    ) -> None:
        guest = self._guests.get(message.guest)
        if guest is None or guest.session is not session:
            return  # it has ended, and the client hears of it
        if isinstance(message, GuestEnd):
            self._hang_up(guest)
        elif isinstance(message, GuestData):
            guest.down += len(message.data)
            if message.fd != 0 or len(message.data) > PIECE or guest.down > WINDOW:
                self._break(guest, "the client sent more than it may")
            else:
                guest.node.send(message)
        elif isinstance(message, GuestResize):
            if 0 <= message.rows <= _LARGEST_TERMINAL and 0 <= message.columns <= _LARGEST_TERMINAL:
                guest.node.send(message)
        elif not 0 < message.size <= guest.up:
            self._break(guest, "the client gave credit for what it was not sent")
        elif guest.session.buffered() > UNREAD:
            self._break(guest, "the client does not read what it is sent")
        else:
            guest.up -= message.size
            guest.node.send(message)

    # ------------------------------------------------------------------------------------------ from nodes

    def from_node(self, node: Node, message: GuestData | GuestCredit | GuestEnd) -> None:
        guest = self._guests.get(message.guest)
        if guest is None or guest.node is not node:
            if not isinstance(message, GuestEnd):
                node.send(GuestEnd(message.guest))
            return
        if isinstance(message, GuestEnd):
            self._end(guest, GuestEnd(guest.id, message.code, message.signal, one_line(message.error)))
        elif isinstance(message, GuestCredit):
            if 0 < message.size <= guest.down:
                guest.down -= message.size
                guest.connection.send(message)
        else:
            guest.up += len(message.data)
            if message.fd not in {1, 2} or len(message.data) > PIECE or guest.up > WINDOW:
                self._break(guest, "the node sent more than it may")
            else:
                guest.connection.send(message)

    # ----------------------------------------------------------------------------------------------- ends

    def connection_gone(self, connection: Connection) -> None:
        """Of a client: its guests go with it."""
        for guest in [g for g in self._guests.values() if g.connection is connection]:
            self._hang_up(guest)

    def node_gone(self, node: Node) -> None:
        """Its connection is away; it hangs up by itself."""
        for guest in [g for g in self._guests.values() if g.node is node]:
            self._end(guest, GuestEnd(guest.id, error="lost touch with the container's node: try again"))

    def container_gone(self, container: Container) -> None:
        for guest in [g for g in self._guests.values() if g.container is container]:
            self._end(guest, GuestEnd(guest.id, signal=9, error="the container has ended"))

    def _break(self, guest: _Guest, why: str) -> None:
        guest.node.send(GuestEnd(guest.id))
        self._end(guest, GuestEnd(guest.id, error=why))

    def _hang_up(self, guest: _Guest) -> None:
        guest.node.send(GuestEnd(guest.id))
        del self._guests[guest.id]
        log.info("guest %s: hung up", guest.id)

    def _end(self, guest: _Guest, end: GuestEnd) -> None:
        del self._guests[guest.id]
        guest.connection.send(end)
        how = end.error or (f"signal {end.signal}" if end.signal is not None else f"code {end.code}")
        log.info("guest %s: ended: %s", guest.id, how)

    # ------------------------------------------------------------------------------------------ admittance

    def _admitted(self, session: Session, connection: Connection, message: Join) -> _Guest:
        """Raises Refusal."""
        if not _ID.fullmatch(message.guest) or message.guest in self._guests:
            raise Refusal("invalid", "a guest's id is 'gu-' and 32 new hex digits")
        if session.container:
            raise Refusal("invalid", "programs in containers cannot have others join containers")
        _check_command(message)
        container = self._nodes.containers.get(message.container)
        if container is None or container.function.app not in self._catalog.visible(session):
            name = one_line(message.container, 80)
            raise Refusal("not_found", f"no container {name!r} runs: see `squall container list`")
        node = self._nodes.nodes.get(container.node)
        if node is None or node.connection is None:
            raise Refusal("unavailable", "the container's node is away: try again in a moment")
        if sum(1 for g in self._guests.values() if g.container is container) >= PER_CONTAINER:
            raise Refusal("exhausted", f"{PER_CONTAINER} programs have joined the container already; end one")
        if sum(1 for g in self._guests.values() if g.session is session) >= PER_SESSION:
            raise Refusal(
                "exhausted", f"{PER_SESSION} programs of this session have joined containers already"
            )
        return _Guest(message.guest, session, connection, container, node)


def _check_command(message: Join) -> None:
    """Raises Refusal."""
    if not message.argv or not message.argv[0]:
        raise Refusal("invalid", "there is no command: name a program")
    words = [*message.argv, *message.env, *message.env.values()]
    try:
        size = sum(len(word.encode()) for word in words)
    except UnicodeEncodeError:
        raise Refusal("invalid", "the command is no text") from None
    if len(words) > WORDS or size > BYTES:
        raise Refusal("invalid", f"the command has more than {WORDS} words or {BYTES >> 10} KiB")
    if any("\0" in word for word in words):
        raise Refusal("invalid", "the command has a NUL byte")
    if not all(_VARIABLE.fullmatch(name) for name in message.env):
        raise Refusal("invalid", "the name of an environment variable is not possible")
    if not (0 <= message.rows <= _LARGEST_TERMINAL and 0 <= message.columns <= _LARGEST_TERMINAL):
        raise Refusal("invalid", f"a terminal has at most {_LARGEST_TERMINAL} rows and columns")

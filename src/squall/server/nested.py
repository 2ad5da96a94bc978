"""Clients inside containers: their frames come relayed by the node, their identity is the container's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squall.server.connection import Acceptor, Connection, Listener, Peer
from squall.wire import codec
from squall.wire.messages import Nested

if TYPE_CHECKING:
    from squall.server.node import Node

#: Connections of one container at a time.
MAX_CONNECTIONS = 64


class NestedConnection(Connection):
    """A virtual connection; `Nested.data` is exactly one frame."""

    def __init__(self, node: Node, container: str, number: int) -> None:
        self.peer = Peer("container", container=container)
        self._node = node
        self._number = number
        self._open = True
        self.listener: Listener | None = None

    def send(self, *messages: object) -> None:
        if self._open:
            self._node.send(Nested(self.peer.container, self._number, codec.encode(messages)))

    def buffered(self) -> int:
        """What the node's own connection holds: it is shared."""
        connection = self._node.connection
        return connection.buffered() if connection is not None else 0

    def close(self) -> None:
        if self._open:
            self._node.send(Nested(self.peer.container, self._number, b""))
            self.gone()

    def gone(self) -> None:
        """The other end is closed, or the container or its node is away."""
        if not self._open:
            return
        self._open = False
        if self.listener is not None:
            self.listener.closed()


class NestedConnections:
    """Those that come through one connection of one node."""

    def __init__(self, acceptor: Acceptor, node: Node) -> None:
        self._acceptor = acceptor
        self._node = node
        self._open: dict[tuple[str, int], NestedConnection] = {}

    def received(self, message: Nested) -> None:
        key = (message.container, message.connection)
        if not message.data:
            self._end(key)
            return
        connection = self._open.get(key) or self._accept(key)
        if connection is None or connection.listener is None:
            self._node.send(Nested(message.container, message.connection, b""))
            return
        try:
            frame = codec.decode(message.data)
        except codec.ProtocolError:
            connection.close()
            del self._open[key]
            return
        connection.listener.received(frame)

    def _accept(self, key: tuple[str, int]) -> NestedConnection | None:
        container = key[0]
        mine = sum(1 for c, _ in self._open if c == container)
        if container not in self._node.containers or mine >= MAX_CONNECTIONS:
            return None
        connection = NestedConnection(self._node, *key)
        connection.listener = self._acceptor.accept(connection)
        self._open[key] = connection
        return connection

    def _end(self, key: tuple[str, int]) -> None:
        connection = self._open.pop(key, None)
        if connection is not None:
            connection.gone()

    def container_gone(self, container: str) -> None:
        for key in [key for key in self._open if key[0] == container]:
            self._end(key)

    def close(self) -> None:
        """The node's connection is gone; its containers' clients come back with it."""
        for key in list(self._open):
            self._end(key)

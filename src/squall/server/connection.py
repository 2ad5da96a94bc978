"""What the control plane sees of a peer: messages in, messages out. Transports implement it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Peer:
    """Who is at the other end.

    kind: "unix" (uid is the kernel's word), "tcp", or "container" (identity: the container's id, vouched for
    by its node).
    """

    kind: str
    uid: int | None = None
    address: str = ""
    container: str = ""


class Connection(ABC):
    """One peer. Everything is called on the server's event loop; `send` never blocks."""

    peer: Peer

    @abstractmethod
    def send(self, *messages: object) -> None:
        """Queue messages; those of one loop iteration leave in one frame. Silent on a closed connection."""

    @abstractmethod
    def buffered(self) -> int:
        """Bytes queued and not yet taken by the kernel (for back-pressure)."""

    def known(self) -> None:  # noqa: B027 - only where strangers are counted
        """The peer has said who it is, and may stay."""

    def pause(self) -> None:  # noqa: B027 - a relayed connection cannot; its relay is bounded otherwise
        """Stop reading from the peer for now: what it sends is not taken fast enough (uploads)."""

    def resume(self) -> None:  # noqa: B027 - see pause
        """Read again."""

    @abstractmethod
    def close(self) -> None:
        """Send what is queued, then close."""


class Listener(ABC):
    """What a transport calls. One listener a connection."""

    @abstractmethod
    def received(self, messages: Sequence[Any]) -> None:
        """Messages of one frame, decoded, in order."""

    @abstractmethod
    def closed(self) -> None:
        """The connection is gone; nothing is sent or received on it any more."""


class Acceptor(ABC):
    """What the control plane gives to transports."""

    @abstractmethod
    def accept(self, connection: Connection) -> Listener:
        """A new connection; its first message must be Hello."""

"""The first words on a connection: who is it, does it speak our protocol, may it come in?"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from squall import __version__
from squall.server.auth import AuthRefused
from squall.server.connection import Connection, Listener
from squall.server.names import Refusal, check_environment, one_line
from squall.store.base import StoreError
from squall.wire.messages import Failure, Hello
from squall.wire.values import PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from squall.server.auth import Authenticator
    from squall.server.clock import Clock
    from squall.server.tasks import Tasks
    from squall.store.base import Identity

    #: Says Welcome and returns who listens from then on. Raises Refusal.
    Enter = Callable[[Connection, Hello, Identity | None], Listener]

log = logging.getLogger("squall.server")

#: Messages that a peer may send before it is welcome.
MAX_EARLY = 1_000


class Door(Listener):
    """Stands before every connection; once it is open, messages pass through to whom `enter` gave."""

    def __init__(
        self,
        connection: Connection,
        authenticator: Authenticator,
        enter: Enter,
        clock: Clock,
        tasks: Tasks,
        patience: float,
    ) -> None:
        self._connection = connection
        self._authenticator = authenticator
        self._enter = enter
        self._tasks = tasks
        self._inside: Listener | None = None
        self._early: list[Any] = []
        self._asked = self._closed = False
        self._timer = clock.call_later(patience, self._too_slow)

    def received(self, messages: Sequence[Any]) -> None:
        if self._inside is not None:
            self._inside.received(messages)
            return
        if self._closed:
            return
        first = None if self._asked else messages[0]
        self._early += messages[0 if self._asked else 1 :]
        if len(self._early) > MAX_EARLY:
            self._refuse("invalid", "too many messages before the welcome")
        elif first is not None:
            self._ask(first)

    def closed(self) -> None:
        self._closed = True
        self._timer.cancel()
        if self._inside is not None:
            self._inside.closed()

    def _too_slow(self) -> None:
        if self._inside is None and not self._closed:
            self._refuse("invalid", "no Hello came in time")

    def _ask(self, hello: Any) -> None:
        self._asked = True
        if not isinstance(hello, Hello):
            self._refuse("invalid", "the first message of a connection is Hello")
        elif hello.protocol != PROTOCOL:
            self._refuse("version", _mismatch(hello))
        else:
            self._tasks.spawn(self._identify(hello))

    async def _identify(self, hello: Hello) -> None:
        try:
            check_environment(hello.environment)
            inside_container = self._connection.peer.kind == "container"
            identity = (
                None if inside_container else await self._authenticator.identify(self._connection.peer, hello)
            )
            if self._closed:
                return
            self._inside = self._enter(self._connection, hello, identity)
        except AuthRefused as refused:
            self._refuse("auth", str(refused))
        except Refusal as refusal:
            self._refuse(refusal.code, refusal.message)
        except StoreError as error:
            self._refuse("unavailable", str(error))
        else:
            self._timer.cancel()
            self._connection.known()
            early, self._early = self._early, []
            if early:
                self._inside.received(early)

    def _refuse(self, code: str, message: str) -> None:
        self._closed = True
        self._timer.cancel()
        log.warning("a connection from %s was refused: %s", self._connection.peer, message)
        self._connection.send(Failure(0, code, message))
        self._connection.close()


def _mismatch(hello: Hello) -> str:
    version, side = one_line(hello.version, 40), "node" if hello.role == "node" else "client"
    text = (
        f"the {side} is squall {version} (protocol {hello.protocol}), "
        f"the server is squall {__version__} (protocol {PROTOCOL}): upgrade the "
    )
    return text + ("server" if hello.protocol > PROTOCOL else side)

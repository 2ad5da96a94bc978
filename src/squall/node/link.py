"""The agent's way to its server: connects, introduces itself, keeps its lease, comes back."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from squall import __version__
from squall.node.connection import Connection, Events
from squall.wire.messages import Failure, Heartbeat, Hello, Welcome
from squall.wire.values import PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from squall.node.endpoint import Endpoint
    from squall.wire.values import ContainerUsage

log = logging.getLogger("squall.node")

_FIRST_RETRY, _LAST_RETRY = 0.05, 2.0
#: The server must have welcomed us within so many seconds.
_PATIENCE = 10.0


class RefusedError(Exception):
    """The server will not have this node; the message is one line."""


class Owner(ABC):
    """What the agent does on the link's behalf."""

    @abstractmethod
    def welcomed(self) -> None:
        """A new connection: announce."""

    @abstractmethod
    def received(self, message: Any) -> None:
        """A message from the server."""

    @abstractmethod
    def congested(self, full: bool) -> None:
        """Whether the link takes no more for now."""

    @abstractmethod
    def confirmed(self, number: int) -> None:
        """The server has all that was sent before the heartbeat with this number."""

    @abstractmethod
    def disconnected(self) -> None:
        """The connection is gone; another one is tried."""

    @abstractmethod
    def lease_lost(self) -> None:
        """The server has given this node's work away."""

    @abstractmethod
    def usage(self) -> Mapping[str, ContainerUsage]:
        """What containers have used, for a heartbeat."""


class Link(Events):
    """`send` is silent while there is no connection: the owner announces its state on the next one."""

    def __init__(self, endpoint: Endpoint, owner: Owner, token: str = "") -> None:
        self._endpoint = endpoint
        self._owner = owner
        self._token = token
        self._connection: Connection | None = None
        self._welcome: Welcome | None = None
        self._refusal: Failure | None = None
        self._ever = False
        self._session = ""
        #: When that was sent which the server answered last: its lease began later.
        self._answered = 0.0
        self._sent: dict[int, float] = {}
        #: When this process, or its machine, was last found to have slept.
        self._awake_since = -math.inf
        #: The number of the newest heartbeat.
        self.heartbeats = 0
        #: Set while there is a connection on which messages may be sent.
        self.ready = asyncio.Event()

    def send(self, *messages: object) -> None:
        if self.ready.is_set() and self._connection is not None:
            self._connection.send(*messages)

    def buffered(self) -> int:
        """Bytes queued and not yet taken by the kernel."""
        return self._connection.buffered() if self._connection is not None else 0

    def renew(self) -> None:
        """Connect anew: what was announced is not true any more."""
        if self.ready.is_set() and self._connection is not None:
            self._connection.close()

    async def run(self) -> None:
        """Until cancelled. Raises RefusedError when the server refuses this node the first time it asks."""
        lease = asyncio.create_task(self._watch_lease())
        delay = _FIRST_RETRY
        try:
            while True:
                if await self._connect_once():
                    delay = _FIRST_RETRY
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - spreads a herd
                delay = min(delay * 2, _LAST_RETRY)
        finally:
            lease.cancel()
            if self._connection is not None:
                self._connection.close()

    async def _connect_once(self) -> bool:
        """One connection's life; False if the server never welcomed us."""
        loop = asyncio.get_running_loop()
        self._welcome = self._refusal = None
        try:
            connecting = self._endpoint.connect(loop, self._make_connection)
            connection = await asyncio.wait_for(connecting, _PATIENCE)
        except (OSError, asyncio.TimeoutError) as error:
            log.debug("no server at %s: %s", self._endpoint, error)
            return False
        heartbeat = asyncio.create_task(self._beat(connection))
        try:
            await connection.closed.wait()
        finally:
            heartbeat.cancel()
        self._check_refusal()
        return self._welcome is not None

    def _make_connection(self) -> Connection:
        """Known from its first moment: the server may speak before `connect` has returned."""
        self._connection = Connection(self._endpoint.framing(), self)
        return self._connection

    def _check_refusal(self) -> None:
        if self._refusal is None:
            return
        log.warning("the server refused this node: %s", self._refusal.message)
        if not self._ever and self._refusal.code in {"auth", "version"}:
            raise RefusedError(self._refusal.message)

    async def _beat(self, connection: Connection) -> None:
        try:
            await asyncio.wait_for(self.ready.wait(), _PATIENCE)
        except asyncio.TimeoutError:
            connection.abort()
            return
        assert self._welcome is not None
        loop = asyncio.get_running_loop()
        while True:
            self.heartbeats += 1
            self._sent[self.heartbeats] = loop.time()
            connection.send(Heartbeat(self.heartbeats, dict(self._owner.usage())))
            await self._doze(self._welcome.heartbeat)
            if loop.time() - self._answered > self._welcome.lease / 2 and not self._just_awake():
                connection.abort()
                return

    async def _watch_lease(self) -> None:
        """Beyond the lease the server runs our inputs elsewhere: what we still ran would run twice. It ends
        before: by what it takes to notice, and as much again to kill. When this machine has slept, the server
        is asked first: it may have slept too.
        """
        loop = asyncio.get_running_loop()
        lease, lost = 0.0, True
        while True:
            await self._doze(step := min(max(lease / 20, 0.05), 1.0))
            if self._welcome is not None:
                lease = self._welcome.lease
            over = self._ever and lease > 0 and loop.time() - self._answered > lease - 2 * step
            if over and self._just_awake():
                continue
            if over and not lost:
                log.warning("no word from the server for %.0f seconds: all containers end", lease)
                self._owner.lease_lost()
            lost = over

    async def _doze(self, seconds: float) -> None:
        """As asyncio.sleep; notices when it took far longer."""
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        await asyncio.sleep(seconds)
        if self._welcome is not None and loop.time() - due > self._welcome.heartbeat:
            self._awake_since = loop.time()

    def _just_awake(self) -> bool:
        """The server could not have answered yet."""
        if self._welcome is None:
            return False
        return asyncio.get_running_loop().time() - self._awake_since < 2 * self._welcome.heartbeat

    # -- events of the connection

    def opened(self) -> None:
        hello = Hello(PROTOCOL, "node", __version__, self._token, self._session)
        if self._connection is not None:
            self._connection.send(hello)

    def received(self, messages: Sequence[Any]) -> None:
        for message in messages:
            if self._welcome is None:
                self._first(message)
            elif isinstance(message, Heartbeat):
                self._confirmed(message.number)
            elif isinstance(message, Failure) and message.id == 0:
                self._refusal = message
            else:
                self._owner.received(message)

    def _confirmed(self, number: int) -> None:
        sent = self._sent.get(number)
        if sent is not None:
            self._answered = sent
            self._sent = {n: at for n, at in self._sent.items() if n > number}
        self._owner.confirmed(number)

    def _first(self, message: Any) -> None:
        if isinstance(message, Failure):
            self._refusal = message
        elif isinstance(message, Welcome):
            self._welcome = message
            self._sent.clear()
            self._session = message.session
            self._answered = asyncio.get_running_loop().time()
            self._ever = True
            self.ready.set()
            self._owner.welcomed()

    def congested(self, full: bool) -> None:
        self._owner.congested(full)

    def lost(self, reason: str) -> None:
        was_ready = self.ready.is_set()
        self.ready.clear()
        self._connection = None
        if was_ready:
            log.warning("the connection to %s is lost: %s", self._endpoint, reason)
            self._owner.congested(full=False)
            self._owner.disconnected()

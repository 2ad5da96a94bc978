"""Tokens: 256 random bits, shown once and stored as a hash. On the Unix socket the kernel names the peer."""

from __future__ import annotations

import hashlib
import ipaddress
import math
import secrets
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, TypeVar

from squall.store.base import Identity, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from squall.server.connection import Peer
    from squall.store.base import Store
    from squall.wire.messages import Hello

PREFIX = "sq-"
ROLES = ("client", "node")

#: Wrong tokens that one address may send at once, and the seconds after which it has one more try.
TRIES = 10
SECONDS_A_TRY = 6.0
#: Addresses, and tokens that were right, which are remembered; the oldest is forgotten first.
REMEMBERED = 4096

_HINT = "make one with `squall token new` on the server and set SQUALL_TOKEN"


_V = TypeVar("_V")


class AuthRefused(Exception):
    """One line for a user."""


def new_token() -> str:
    """A fresh secret: 256 bits from the kernel."""
    return PREFIX + secrets.token_urlsafe(32)


def token_hash(token: str) -> str:
    """What is stored. Of 256 random bits a plain SHA-256 cannot be undone, however fast it is computed.

    Tokens are only ever compared by looking up their hash: how long that takes tells of the hash, which
    nobody can choose without having the token.
    """
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


class Authenticator:
    """Whom a connection speaks for. `workspace` is that of the embedded Unix socket."""

    def __init__(
        self, store: Store, workspace: str = "default", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._workspace = workspace
        self._failures = _Buckets(clock)
        self._proven: OrderedDict[str, None] = OrderedDict()

    async def identify(self, peer: Peer, hello: Hello) -> Identity:
        """The identity behind a Hello. Raises AuthRefused, StoreError."""
        if hello.role not in ROLES:
            raise AuthRefused("the role in Hello is neither client nor node: upgrade the older side")
        if not hello.token:
            if peer.kind == "unix":
                return Identity(self._workspace, hello.role)
            raise AuthRefused(f"a token is required: {_HINT}")
        identity = await self._look_up(peer, token_hash(hello.token))
        if identity.role != hello.role:
            raise AuthRefused(f"this token is for a {identity.role}, not for a {hello.role}: make another")
        return identity

    async def _look_up(self, peer: Peer, hashed: str) -> Identity:
        """Who guesses has to wait; who came with this token before does not, though a proxy gives both one
        address.
        """
        source = "" if peer.kind == "unix" else _source(peer.address)
        wait = 0.0 if hashed in self._proven or not source else self._failures.wait(source)
        if wait > 0:
            raise AuthRefused(f"too many wrong tokens from {source}: try again in {math.ceil(wait)} s")
        try:
            identity = await self._store.identify(hashed)
        except NotFound:
            self._proven.pop(hashed, None)
            if source:
                self._failures.spend(source)
            raise AuthRefused(f"the token is wrong: {_HINT}") from None
        _remember(self._proven, hashed, None)
        return identity


class _Buckets:
    """A token bucket for each address, `TRIES` large: (what is spent, when that was)."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._spent: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, source: str) -> float:
        """Seconds until it has a try."""
        return max(0.0, (self._level(source) - (TRIES - 1)) * SECONDS_A_TRY)

    def spend(self, source: str) -> None:
        _remember(self._spent, source, (self._level(source) + 1, self._clock()))

    def _level(self, source: str) -> float:
        spent, when = self._spent.get(source, (0.0, 0.0))
        return max(0.0, spent - (self._clock() - when) / SECONDS_A_TRY)

    def __len__(self) -> int:
        return len(self._spent)


def _remember(table: OrderedDict[str, _V], key: str, value: _V) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > REMEMBERED:
        table.popitem(last=False)


def _source(address: str) -> str:
    """An IPv6 host has a whole /64 to call from."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))

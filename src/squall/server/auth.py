"""Tokens: 256 random bits, shown once, stored as a hash. The Unix socket needs none: the kernel names its peer."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from squall.store.base import Identity, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from squall.server.connection import Peer
    from squall.store.base import Store
    from squall.wire.messages import Hello

PREFIX = "sq-"
#: Wrong tokens that one address may send in a row, and one more each SECONDS_A_TRY.
TRIES = 10
SECONDS_A_TRY = 6.0
#: Addresses remembered for that; the oldest is forgotten first.
ADDRESSES = 4096


class AuthRefused(Exception):  # noqa: N818 - an answer
    """One line for a user."""


def new_token() -> str:
    """A fresh secret."""
    return PREFIX + secrets.token_urlsafe(32)


def token_hash(token: str) -> str:
    """What is stored: SHA-256 is enough for 256 random bits, and a look-up by it tells nothing by its time."""
    return hashlib.sha256(token.encode()).hexdigest()


class Authenticator:
    """Whom a connection speaks for."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._failures: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def identify(self, peer: Peer, hello: Hello) -> Identity:
        """The identity behind a Hello. Raises AuthRefused."""
        if peer.kind == "unix" and not hello.token:
            return Identity("default", hello.role)
        if self._spent(peer.address) >= TRIES:
            raise AuthRefused("too many wrong tokens from this address: wait a minute")
        if not hello.token:
            raise AuthRefused("a token is required: make one with `squall token new` and set SQUALL_TOKEN")
        try:
            identity = await self._store.identify(token_hash(hello.token))
        except NotFound:
            self._note(peer.address)
            raise AuthRefused("wrong token: make a new one with `squall token new` and set SQUALL_TOKEN") from None
        if identity.role != hello.role:
            raise AuthRefused(f"this token is for a {identity.role}, not for a {hello.role}")
        return identity

    def _spent(self, address: str) -> float:
        count, since = self._failures.get(address, (0.0, 0.0))
        return max(0.0, count - (self._clock() - since) / SECONDS_A_TRY)

    def _note(self, address: str) -> None:
        self._failures[address] = (self._spent(address) + 1, self._clock())
        self._failures.move_to_end(address)
        while len(self._failures) > ADDRESSES:
            self._failures.popitem(last=False)

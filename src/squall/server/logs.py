"""What containers print: kept in a ring for each app, sent to those who follow."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING

from squall.wire.messages import Logs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from squall.server.model import App
    from squall.server.session import Session
    from squall.server.settings import Settings
    from squall.wire.values import LogItem

#: A follower who reads too slowly misses lines rather than filling the server's memory.
FOLLOWER_BYTES = 8 << 20
#: What a piece costs beside its data, in bytes, about.
ITEM_BYTES = 300


@dataclass
class _Ring:
    """`count` pieces have come in all; the newest are still here. `grown`: somebody waits for more."""

    workspace: str
    environment: str
    items: deque[LogItem] = field(default_factory=deque)
    size: int = 0
    count: int = 0
    grown: asyncio.Event | None = None
    followers: dict[Session, int] = field(default_factory=dict)

    def add(self, item: LogItem, limit: int) -> None:
        self.items.append(item)
        self.count += 1
        self.size += len(item.data) + ITEM_BYTES
        while self.size > limit and len(self.items) > 1:
            self.size -= len(self.items.popleft().data) + ITEM_BYTES

    def wake(self) -> None:
        grown, self.grown = self.grown, None
        if grown is not None:
            grown.set()

    def more(self) -> asyncio.Event:
        """Set when more has come."""
        self.grown = self.grown or asyncio.Event()
        return self.grown

    def after(self, number: int) -> Iterable[LogItem]:
        """Those that came after the one with this number (they count from 1)."""
        return islice(self.items, max(0, number - (self.count - len(self.items))), None)


class AppLogs:
    """Bounded in bytes, for an app and for all together, and in the number of apps. Those of a stopped app
    stay a while.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._rings: OrderedDict[str, _Ring] = OrderedDict()
        self._bytes = 0

    def add(self, app: App, items: list[LogItem]) -> None:
        ring = self._ring(app)
        before = ring.size
        for item in items:
            ring.add(item, self._settings.log_bytes)
        self._bytes += ring.size - before
        while self._bytes > self._settings.all_log_bytes and self._drop_oldest():
            """One app after the other."""
        ring.wake()
        for session, missed in list(ring.followers.items()):
            ring.followers[session] = _send(session, app.id, items, missed)

    def follow(self, session: Session, app: App) -> None:
        self._ring(app).followers.setdefault(session, 0)

    def unfollow(self, session: Session) -> None:
        for ring in self._rings.values():
            ring.followers.pop(session, None)

    def fetch(self, session: Session, ref: str, tail: int) -> list[LogItem] | None:
        """The newest pieces of an app (also one that stopped) or of one container; None: not known here."""
        mine = {
            app: ring
            for app, ring in self._rings.items()
            if (ring.workspace, ring.environment) == (session.workspace, session.environment)
        }
        if ref in mine:
            return _last(mine[ref].items, tail)
        found = [item for ring in mine.values() for item in ring.items if item.container == ref]
        return _last(found, tail) if found else None

    def read(self, session: Session, app: str, after: int) -> tuple[list[LogItem], int] | None:
        """The pieces of an app after a number, and the number of the last; None: not known here."""
        ring = self._of(session, app)
        return None if ring is None else (list(ring.after(after)), ring.count)

    async def wait(self, session: Session, app: str, after: int, seconds: float) -> None:
        """Until the app has said more, at most so long."""
        ring = self._of(session, app)
        if ring is not None and ring.count <= after:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(ring.more().wait(), seconds)

    def app_stopped(self, app: str) -> None:
        """Nobody needs to wait for more."""
        if app in self._rings:
            self._rings[app].wake()

    def _of(self, session: Session, app: str) -> _Ring | None:
        ring = self._rings.get(app)
        mine = ring is not None and (ring.workspace, ring.environment) == (
            session.workspace,
            session.environment,
        )
        return ring if mine else None

    def _ring(self, app: App) -> _Ring:
        ring = self._rings.get(app.id)
        if ring is None:
            if len(self._rings) >= self._settings.log_apps:
                self._drop_oldest()
            ring = self._rings[app.id] = _Ring(app.record.workspace, app.record.environment)
        self._rings.move_to_end(app.id)
        return ring

    def _drop_oldest(self) -> bool:
        """That of the app which nobody follows and which has been silent longest."""
        app = next((app for app, ring in self._rings.items() if not ring.followers), "")
        if app:
            self._bytes -= self._rings.pop(app).size
        return bool(app)


def _last(items: Iterable[LogItem], tail: int) -> list[LogItem]:
    return list(items)[-tail:] if tail > 0 else []


def _send(session: Session, app: str, items: list[LogItem], missed: int) -> int:
    """Returns how many pieces the follower has missed and not been told of."""
    if session.connection is None or session.buffered() > FOLLOWER_BYTES:
        return missed + len(items)
    if missed:
        items = [replace(items[0], dropped=items[0].dropped + missed), *items[1:]]
    session.send(Logs(app, items))
    return 0

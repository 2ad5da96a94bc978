"""`.logs` of apps, functions and calls: what their containers wrote, line by line."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from squall.exception import InvalidError
from squall.sdk import checks
from squall.sdk.dual import dual, dual_stream
from squall.sdk.facts import seconds
from squall.sdk.lines import Lines

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator

    from squall.sdk.facts import Moment
    from squall.sdk.modes import Mode
    from squall.sdk.ports import Port
    from squall.wire.control import LogsPage, LogsRead
    from squall.wire.values import LogItem

#: Lines of one `fetch`.
MAX_LINES = 20_000
_SOURCES = {"system": 0, "stdout": 1, "stderr": 2}
_NAMES = {fd: name for name, fd in _SOURCES.items()}
#: Seconds that the server waits for more before it answers.
_PATIENCE = 10.0


@dataclass(frozen=True)
class LogEntry:
    """One line. `source`: "stdout", "stderr" or "system" (Squall itself)."""

    timestamp: datetime
    text: str
    source: str
    function_name: str
    container_id: str


class _Assembler:
    """Pieces of output to lines. Pure."""

    def __init__(self, search: str | None) -> None:
        self._search = search
        self._lines = Lines()
        self._seen: dict[tuple[str, int], LogItem] = {}

    def add(self, items: list[LogItem]) -> Iterator[LogEntry]:
        for item in items:
            stream = (item.container, item.fd)
            self._seen[stream] = item
            for line in self._lines.add(stream, item.data):
                yield from self._entry(item, line)

    def end(self) -> Iterator[LogEntry]:
        for stream, line in self._lines.end():
            yield from self._entry(self._seen[stream], line)

    def _entry(self, item: LogItem, line: str) -> Iterator[LogEntry]:
        if self._search is None or self._search in line:
            when = datetime.fromtimestamp(item.time, timezone.utc)
            yield LogEntry(when, line, _NAMES.get(item.fd, "system"), item.function, item.container)


class Logs:
    """The server keeps the newest MiB of each app, and that of an app that stopped for a while.

    `ask` gives the way to the server, and what to ask it for.
    """

    def __init__(self, ask: Callable[[Mode], Awaitable[tuple[Port[Any], LogsRead]]]) -> None:
        self._ask = ask

    @dual
    async def fetch(
        self,
        mode: Mode,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        search_text: str | None = None,
        source: str | None = None,
        limit: int = MAX_LINES,
    ) -> list[LogEntry]:
        """Lines from `since` to `until`, the oldest first; the newest `limit` of them.

        A moment is a datetime, a timedelta (so long ago) or seconds since 1970.
        """
        checks.whole("limit", limit, 1, MAX_LINES, " of lines")
        port, query = await self._query(mode, source, search_text)
        query.since, query.until = seconds("since", since), seconds("until", until)
        page: LogsPage = await port.request("logs.read", query)
        lines = _Assembler(search_text)
        return [*lines.add(page.items), *lines.end()][-limit:]

    @dual
    async def tail(
        self, mode: Mode, n: int = 100, *, search_text: str | None = None, source: str | None = None
    ) -> list[LogEntry]:
        """The newest `n` lines, the oldest of them first."""
        checks.whole("n", n, 1, MAX_LINES, " of lines")
        return await Logs.fetch.flow(self, mode, search_text=search_text, source=source, limit=n)

    @dual_stream
    async def stream(
        self,
        mode: Mode,
        *,
        since: Moment | None = None,
        search_text: str | None = None,
        source: str | None = None,
    ) -> AsyncGenerator[LogEntry, None]:
        """Lines as they are written, until the app has stopped; those since a moment (now) to begin with."""
        port, query = await self._query(mode, source, search_text)
        lines = _Assembler(search_text)
        if since is None:
            query.after = (await port.request("logs.read", query)).upto
        query.since = seconds("since", since)
        live = True
        while live:
            query.wait = _PATIENCE
            page: LogsPage = await port.request("logs.read", query)
            query.after, live = page.upto, page.live
            for entry in lines.add(page.items):
                yield entry
        for entry in lines.end():
            yield entry

    async def _query(
        self, mode: Mode, source: str | None, search_text: str | None
    ) -> tuple[Port[Any], LogsRead]:
        if source is not None and source not in _SOURCES:
            raise InvalidError(
                f"source={checks.short(source)} is not possible: give stdout, stderr or system"
            )
        if search_text is not None and not isinstance(search_text, str):
            raise InvalidError(f"search_text={checks.short(search_text)} is not possible: give a text")
        port, query = await self._ask(mode)
        if source is not None:
            query.fd = _SOURCES[source]
        return port, query

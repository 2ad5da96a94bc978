"""After the server's restart: what it takes up, and what it holds back until nodes have announced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squall.server import outcomes
from squall.server.attachments import call_of
from squall.server.awaiting import awaited
from squall.server.chunks import arrival
from squall.store.base import OutputRecord
from squall.wire import codec
from squall.wire.values import InputItem, OutputItem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from squall.server.calltable import CallTable
    from squall.server.catalog import Catalog
    from squall.server.clock import Clock
    from squall.server.dispatch import Dispatcher
    from squall.server.model import Call, Input
    from squall.server.tasks import Tasks
    from squall.store.base import InputRecord, Store


class HoldingPen:
    """Open from the start until `release`: the scheduler hears of inputs then, or when a node has one.

    It is released early once all nodes have announced that may have been at work for the server before.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._held: dict[str, Input] = {}
        self._awaited: set[str] = set()
        self.open = True

    def expect(self, nodes: Iterable[str]) -> None:
        """The nodes to wait for; without any there is nothing to wait for."""
        self._awaited = set(nodes)
        if not self._awaited:
            self.release()

    def announced(self, node: str) -> None:
        """The node has said what it runs, and the scheduler has heard of it."""
        self._awaited.discard(node)
        if self.open and not self._awaited:
            self.release()

    @property
    def missing(self) -> set[str]:
        """The nodes that have not announced."""
        return self._awaited

    def hold(self, entries: Iterable[Input]) -> None:
        for entry in entries:
            entry.held = True
            self._held[entry.id] = entry

    def claim(self, input_id: str) -> bool:
        """A node runs it: it is held no more. False if it was not."""
        entry = self._held.pop(input_id, None)
        if entry is None or not entry.held:
            return False
        entry.held = False
        return True

    def release(self) -> None:
        """Dispatch what no node has claimed, in the order of arrival."""
        self.open = False
        held, self._held = self._held, {}
        groups: dict[tuple[str, int, bool], list[Input]] = {}
        for entry in held.values():
            if entry.held:
                entry.held = False
                group = entry.call.function.id, entry.attempt, entry.call.kind == "direct"
                groups.setdefault(group, []).append(entry)
        calls = {entry.call for entry in held.values()}
        self._dispatcher.feed(
            *(
                arrival(function, entries, attempt, direct=direct)
                for (function, attempt, direct), entries in groups.items()
            ),
            *(event for call in calls for event in awaited(call, call.inputs.values())),
        )


class Recovery:
    """What a starting server takes up: live apps, and durable calls with unfinished inputs."""

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        table: CallTable,
        pen: HoldingPen,
        clock: Clock,
        tasks: Tasks,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._table = table
        self._pen = pen
        self._clock = clock
        self._tasks = tasks

    async def load_apps(self, states: Sequence[str]) -> None:
        for record in await self._store.apps(states=states):
            app = await self._catalog.add_app(record)
            functions = self._catalog.add_functions(app, await self._store.functions(record.id))
            app.functions = {f.name: f for f in functions if not f.retired and f.request is None}

    async def expect_nodes(self, patience: float) -> None:
        """Hold inputs back until they have announced, `patience` seconds at most."""
        self._pen.expect(await self._store.nodes())
        if self._pen.open:
            self._clock.call_later(patience, self._give_up)

    def _give_up(self) -> None:
        """Those that did not come back in time are not waited for at the next start either."""
        self._tasks.spawn(self._forget(sorted(self._pen.missing)))
        if self._pen.open:
            self._pen.release()

    async def _forget(self, nodes: list[str]) -> None:
        for node in nodes:
            await self._store.remove_node(node)

    async def load_calls(self) -> None:
        """Calls whose app was stopped, or that were cancelled, end now; the others wait for the nodes."""
        for record, rows in await self._store.unfinished():
            function = await self._catalog.load(record.function)
            if function is None or record.cancelled:
                await self._end(rows)
                continue
            await self._catalog.prepare(function)
            call = call_of(record, function)
            call.partial = True
            call.total = call.done = (await self._store.call_size(record.id))[1]
            self._table.open(call)
            self._pen.hold([self._input(call, row) for row in rows])

    def _input(self, call: Call, row: InputRecord) -> Input:
        item = codec.unpack(row.payload, InputItem)
        call.seen.add(row.index)
        entry = self._table.add(call, item, None)
        entry.attempt = row.attempt
        return entry

    async def _end(self, rows: Iterable[InputRecord]) -> None:
        outcome = outcomes.cancelled()
        now = self._clock.wall()
        await self._store.add_outputs(
            [
                OutputRecord(
                    row.call, row.index, codec.pack(OutputItem(row.index, outcome, row.attempt)), now
                )
                for row in rows
            ]
        )

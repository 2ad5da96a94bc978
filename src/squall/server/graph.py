"""A call, the calls that its inputs made, and so on: put together from memory and the store."""

from __future__ import annotations

from collections import deque
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple

from squall.server.attachments import expired
from squall.server.model import PINNED
from squall.server.names import Refusal
from squall.store.base import NotFound
from squall.wire import codec
from squall.wire.chunks import statuses
from squall.wire.control import GraphInput
from squall.wire.values import FunctionSpec, OutputItem

if TYPE_CHECKING:
    from squall.server.calltable import CallTable
    from squall.server.session import Session
    from squall.store.base import CallRecord, Store

#: Inputs of one graph.
MAX_INPUTS = 10_000
PENDING = "pending"


class _Origin(NamedTuple):
    parent: str
    function: str
    module: str


class GraphReader:
    """Of what a session may see."""

    def __init__(self, store: Store, table: CallTable, session: Session) -> None:
        self._store = store
        self._table = table
        self._session = session

    async def read(self, root: str) -> list[GraphInput]:
        """Parents before children. Raises Refusal."""
        found: list[GraphInput] = []
        waiting = deque([root])
        seen = {root}
        while waiting:
            call = waiting.popleft()
            inputs = await self._inputs(call, root=call == root)
            if len(found) + len(inputs) > MAX_INPUTS:
                raise Refusal("exhausted", f"the call graph of {root} has over {MAX_INPUTS} inputs")
            found += inputs
            children = [child for each in inputs for child in self._table.lineage.children(each.input)]
            children += [record.id for record in await self._store.children(call)]
            fresh = [child for child in dict.fromkeys(children) if child not in seen]
            seen.update(fresh)
            waiting.extend(fresh)
        return found

    async def _inputs(self, call: str, *, root: bool) -> list[GraphInput]:
        record = await self._record(call)
        origin = await self._origin(call, record)
        if origin is None:
            if root:
                raise Refusal(
                    "not_found", f"no call {call[:80]} (calls are known while they run, or spawned)"
                )
            return []
        if record is not None and record.expired:
            if root:
                raise expired(call)
            return []
        statuses = await self._stored(call) if record is not None else {}
        remembered = self._remembered(call)
        return [
            GraphInput(
                f"{call}:{index}",
                call,
                "" if root else origin.parent,
                origin.function,
                origin.module,
                _later(statuses.get(index), remembered.get(index)),
                remembered.get(index, ("", ""))[1],
            )
            for index in sorted(statuses.keys() | remembered.keys())
        ]

    async def _record(self, call: str) -> CallRecord | None:
        try:
            record = await self._store.call(call)
        except NotFound:
            return None
        return record if self._sees(record.workspace, record.environment) else None

    async def _origin(self, call: str, record: CallRecord | None) -> _Origin | None:
        kin = self._table.lineage.call(call)
        if kin is not None:
            mine = self._sees(kin.workspace, kin.environment)
            return _Origin(kin.parent, kin.function, kin.module) if mine else None
        live = self._table.calls.get(call)
        if live is not None:
            mine = self._sees(live.workspace, live.environment)
            return _Origin(live.parent, live.function.name, live.function.spec.module) if mine else None
        if record is None:
            return None
        try:
            function = await self._store.function(record.function.removesuffix(PINNED))
        except NotFound:
            return None
        return _Origin(record.parent, function.name, codec.unpack(function.spec, FunctionSpec).module)

    async def _stored(self, call: str) -> dict[int, str]:
        """Statuses by index: clients count inputs from 0 on."""
        count, _ = await self._store.call_size(call)
        if count > MAX_INPUTS:
            raise Refusal("exhausted", f"the call graph of {call} has over {MAX_INPUTS} inputs")
        statuses = dict.fromkeys(range(count), PENDING)
        for row in await self._store.call_outputs(call):
            statuses[row.index] = codec.unpack(row.payload, OutputItem).outcome.status
        return statuses

    def _remembered(self, call: str) -> dict[int, tuple[str, str]]:
        """Status and container of the inputs that memory knows."""
        known: dict[int, tuple[str, str]] = {}
        live = self._table.calls.get(call)
        for entry in live.inputs.values() if live is not None else ():
            ends = statuses(entry.output) if entry.output is not None else repeat(PENDING, entry.count)
            known.update({index: (end, entry.container) for index, end in enumerate(ends, entry.index)})
        kin = self._table.lineage.call(call)
        if kin is not None:
            known.update({index: (end.status, end.container) for index, end in kin.ends.items()})
        return known

    def _sees(self, workspace: str, environment: str) -> bool:
        return (workspace, environment) == (self._session.workspace, self._session.environment)


def _later(stored: str | None, remembered: tuple[str, str] | None) -> str:
    """The store knows of an end first; memory may know of one that is on its way there."""
    if stored is not None and stored != PENDING:
        return stored
    return remembered[0] if remembered is not None else PENDING

"""Many inputs that go on by themselves: sent in batches, and stored by the server before many more follow."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from squall.sdk import serialization
from squall.sdk.invocation import give_up, open_call
from squall.wire.values import InputItem

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from squall.client.api import Call
    from squall.runner.protocol.spool import Pickled
    from squall.sdk.ports import Port

#: Inputs that are sent together: so many, or so many bytes.
BATCH = 512
BATCH_BYTES = 1 << 20
#: Batches on their way to the server's disk.
UNDER_WAY = 4
#: Larger inputs wait as blobs: the server has the others in memory until they run.
INLINE = 64 << 10


async def spawn_map(
    port: Port[Any],
    function_id: str,
    rows: AsyncGenerator[tuple[Any, ...], None],
    encode: Callable[[tuple[Any, ...]], Pickled],
) -> str:
    """The id of the call, once all inputs are on the server's disk."""
    call = open_call(port, function_id, "map", durable=True)
    sender = _Sender(port, call)
    try:
        async for row in rows:
            await sender.add(await serialization.to_payload(port, encode(row), INLINE))
        await sender.end()
    except BaseException:
        give_up(call)
        raise
    call.close()
    return call.id


class _Sender:
    def __init__(self, port: Port[Any], call: Call) -> None:
        self._port = port
        self._call = call
        self._batch: list[InputItem] = []
        self._size = 0
        self._count = 0
        self._ends: deque[int] = deque()

    async def add(self, payload: Any) -> None:
        self._batch.append(InputItem(self._count, payload))
        self._count += 1
        self._size += len(payload.data)
        if len(self._batch) < BATCH and self._size < BATCH_BYTES:
            return
        self._send(last=False)
        if len(self._ends) > UNDER_WAY:
            await self._port.accepted(self._call, self._ends.popleft())

    async def end(self) -> None:
        self._send(last=True)
        await self._port.accepted(self._call, self._count)

    def _send(self, *, last: bool) -> None:
        batch, self._batch, self._size = self._batch, [], 0
        self._call.send(batch, last=last)
        self._ends.append(self._count)

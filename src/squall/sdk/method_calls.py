"""A call whose inputs are for a method of a class, and else a call like any other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squall.client.api import Call

if TYPE_CHECKING:
    from collections.abc import Sequence

    from squall.client.api import Event
    from squall.wire.values import InputItem


class MethodCall(Call):
    """Writes the method onto each input."""

    def __init__(self, call: Call, method: str) -> None:
        self.id = call.id
        self._call = call
        self._method = method

    @property
    def spread(self) -> int:
        return self._call.spread

    def send(self, items: Sequence[InputItem], *, last: bool) -> None:
        for item in items:
            item.method = self._method
        self._call.send(items, last=last)

    def next(self, timeout: float | None = None) -> Event:
        return self._call.next(timeout)

    async def next_async(self, timeout: float | None = None) -> Event:
        return await self._call.next_async(timeout)

    def accepted(self, upto: int, timeout: float | None = None) -> None:
        self._call.accepted(upto, timeout)

    async def accepted_async(self, upto: int, timeout: float | None = None) -> None:
        await self._call.accepted_async(upto, timeout)

    def credit(self, index: int, upto: int) -> None:
        self._call.credit(index, upto)

    def cancel(self, *, terminate: bool = False) -> None:
        self._call.cancel(terminate=terminate)

    def close(self) -> None:
        self._call.close()

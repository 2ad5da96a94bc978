"""Calls that go on by themselves: what `f.spawn(...)` gives, from anywhere and at any time."""

from __future__ import annotations

import builtins
import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from squall import exception
from squall.exception import InvalidError
from squall.sdk import checks
from squall.sdk.dual import dual, dual_function, dual_stream
from squall.sdk.modes import Access, Mode

# What a call is made of loads with the first one: this module loads in every container.
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from squall.call_graph import InputInfo
    from squall.client.api import AsyncClient, Call, Client
    from squall.sdk.logs import Logs
    from squall.wire.control import CallInfo, LogsRead
    from squall.wire.values import Outcome

T = TypeVar("T")

#: Results that `iter` asks for together; they may be large, and are in memory at once.
WINDOW = 32


class FunctionCall(Generic[T]):
    """One call; its result is kept for 7 days."""

    def __init__(self, call_id: str, access: Access, *, is_unary: bool = False) -> None:
        self.object_id = call_id
        self._is_unary = is_unary
        self._access = access
        self._outcomes: dict[int, Outcome] = {}

    @dual
    async def get(self, mode: Mode, timeout: float | None = None, index: int = 0) -> T:
        """The result, of a spawned map that of the input with this index; raises what it raised.

        Waits `timeout` seconds at most, and then raises TimeoutError; 0 only looks. Results are kept for
        7 days; after that, OutputExpiredError is raised.
        """
        from squall.sdk import outcomes

        if timeout is not None:
            checks.number("timeout", timeout, 0, 10 * 365 * 86_400, " of seconds")
        checks.whole("index", index, 0, 1 << 62)
        port = await mode.port(self._access)
        if index not in self._outcomes:
            self._outcomes[index] = await self._wait(port, timeout, index)
        value: T = await outcomes.value_of(port, self._outcomes[index])
        return value

    async def _wait(self, port: Any, timeout: float | None, index: int) -> Outcome:
        if timeout == 0 or index or not self._is_unary:
            info = await self._info(port, index)
            if info.complete and index >= info.inputs:
                raise InvalidError(f"the call {self.object_id} has {info.inputs} inputs, and none {index}")
            if timeout == 0 and not info.ready:
                raise exception.TimeoutError(f"the call {self.object_id} has no result yet")
        call = port.attach_call(self.object_id, index, index + 1)
        try:
            return await _outcome(port, call, index, timeout or None)
        except exception.OutputExpiredError:
            raise  # it is a TimeoutError too
        except builtins.TimeoutError:
            raise exception.TimeoutError(
                f"the call {self.object_id} has no result after {timeout:g} s"
            ) from None
        finally:
            call.close()

    @dual_stream
    async def iter(self, mode: Mode, start: int = 0, end: int | None = None) -> AsyncGenerator[T, None]:
        """The results of a spawned map in the order of its inputs, from `start` up to and without `end`.

        Waits for those that are not there yet; raises the first that is an exception.
        """
        from squall.sdk import outcomes

        checks.whole("start", start, 0, 1 << 62)
        port = await mode.port(self._access)
        upto = (await self._info(port)).inputs
        if end is not None:
            upto = min(upto, checks.whole("end", end, 0, 1 << 62))
        for first in range(start, upto, WINDOW):
            async for outcome in self._window(port, first, min(first + WINDOW, upto)):
                value: T = await outcomes.value_of(port, outcome)
                yield value

    async def _window(self, port: Any, first: int, end: int) -> AsyncGenerator[Outcome, None]:
        from squall.sdk.ordering import Ordering

        ordering: Ordering[Outcome] = Ordering(ordered=True, first=first)
        call = port.attach_call(self.object_id, first, end)
        try:
            for _ in range(first, end):
                item = await port.next(call)
                for _, outcome in ordering.add(item.index, item.outcome):
                    yield outcome
        finally:
            call.close()

    @dual
    async def get_call_graph(self, mode: Mode) -> list[InputInfo]:
        """The call's inputs as a tree: `children` are the inputs of the calls that an input made.

        Of nested calls that were not spawned, the newest 20,000 are remembered, until the server restarts.
        Raises ResourceExhaustedError for a graph of over 10,000 inputs.
        """
        from squall.sdk.graph import tree
        from squall.wire.control import CallRef

        port = await mode.port(self._access)
        return tree((await port.request("call.graph", CallRef(self.object_id))).inputs)

    @property
    def logs(self) -> Logs:
        """What containers wrote while they worked at the call: `.fetch()`, `.tail()`, `.stream()`.

        A container that worked at other inputs at the same time has their lines among them.
        """
        from squall.sdk.logs import Logs

        return Logs(self._logs_of)

    async def _logs_of(self, mode: Mode) -> tuple[Any, LogsRead]:
        from squall.wire.control import FunctionGet, LogsRead

        port = await mode.port(self._access)
        function = (await self._info(port)).function
        told = await port.request("function.get", FunctionGet(function))
        return port, LogsRead(told.app, call=self.object_id)

    @dual
    async def cancel(self, mode: Mode, terminate_containers: bool = False) -> None:
        """Stop the call; with `terminate_containers`, also end the containers that work at it."""
        port = await mode.port(self._access)
        # The answer tells whether there is such a call; a cancellation has none.
        await self._info(port)
        call = port.attach_call(self.object_id, 0, 0)
        call.cancel(terminate=checks.flag("terminate_containers", terminate_containers))
        call.close()

    @dual
    async def num_inputs(self, mode: Mode) -> int:
        """How many inputs the call has."""
        port = await mode.port(self._access)
        return (await self._info(port)).inputs

    async def _info(self, port: Any, index: int = -1) -> CallInfo:
        from squall.wire.control import CallRef

        info: CallInfo = await port.request("call.get", CallRef(self.object_id, index))
        return info

    @dual_function
    @staticmethod
    async def from_id(
        mode: Mode, function_call_id: str, client: Client | AsyncClient | None = None
    ) -> FunctionCall[Any]:
        """A call by its id, from whichever process."""
        del mode  # nothing is asked here
        if not str(function_call_id).startswith("fc-"):
            raise InvalidError(f"{checks.short(function_call_id)} is no id of a call: they begin with fc-")
        return FunctionCall(function_call_id, Access(client))

    @dual_function
    @staticmethod
    async def gather(mode: Mode, *function_calls: FunctionCall[Any]) -> list[Any]:
        """The results of all, in the order of the calls; raises as soon as one of them has raised."""
        for call in function_calls:
            if not isinstance(call, FunctionCall):
                raise InvalidError(f"gather() takes calls one by one, not {checks.short(call)}")
        from squall.sdk.gathering import gather

        return await gather(mode, function_calls)

    @property
    def access(self) -> Access:
        """Which server it is on."""
        return self._access

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restored, (self.object_id,))

    def __repr__(self) -> str:
        return f"<FunctionCall {self.object_id}>"


async def _outcome(port: Any, call: Call, index: int, timeout: float | None) -> Outcome:
    """Raises builtins.TimeoutError after `timeout` seconds."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        item = await port.next(call, left)
        if item.index == index:
            outcome: Outcome = item.outcome
            return outcome


def _restored(call_id: str) -> FunctionCall[Any]:
    return FunctionCall(call_id, Access())

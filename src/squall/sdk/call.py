"""Calls that go on by themselves: what `f.spawn(...)` gives, from anywhere and at any time."""

from __future__ import annotations

import builtins
import time
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from squall import exception
from squall.exception import InvalidError
from squall.sdk import checks, unavailable
from squall.sdk.dual import dual, dual_function
from squall.sdk.modes import Access, Mode

# What a call is made of loads with the first one: this module loads in every container.
if TYPE_CHECKING:
    from squall.client.api import AsyncClient, Client
    from squall.wire.control import CallInfo
    from squall.wire.values import Outcome

T = TypeVar("T")

_LATER = {
    "iter": "iterate over f.map(...)",
    "get_call_graph": "use `squall container list`",
    "logs": "use `squall app logs`",
}


class FunctionCall(Generic[T]):
    """One call; its result is kept for 7 days."""

    def __init__(self, call_id: str, access: Access) -> None:
        self.object_id = call_id
        self._access = access
        self._outcomes: dict[int, Outcome] = {}

    @dual
    async def get(self, mode: Mode, timeout: float | None = None, index: int = 0) -> T:
        """The result; raises what the call raised.

        Waits `timeout` seconds at most, and then raises TimeoutError; 0 only looks.
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
        from squall.client.api import YieldItem

        if timeout == 0:
            info = await self._info(port)
            if info.done < info.inputs or not info.inputs:
                raise exception.TimeoutError(f"the call {self.object_id} has no result yet")
            timeout = None
        deadline = None if timeout is None else time.monotonic() + timeout
        call = port.attach_call(self.object_id, index)
        try:
            while True:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                item = await port.next(call, left)
                if not isinstance(item, YieldItem) and item.index == index:
                    outcome: Outcome = item.outcome
                    return outcome
        except builtins.TimeoutError:
            raise exception.TimeoutError(
                f"the call {self.object_id} has no result after {timeout:g} s"
            ) from None
        finally:
            call.close()

    @dual
    async def cancel(self, mode: Mode, terminate_containers: bool = False) -> None:
        """Stop the call; with `terminate_containers`, also end the containers that work at it."""
        port = await mode.port(self._access)
        # The answer tells whether there is such a call; a cancellation has none.
        await self._info(port)
        call = port.attach_call(self.object_id)
        call.cancel(terminate=checks.flag("terminate_containers", terminate_containers))
        call.close()

    @dual
    async def num_inputs(self, mode: Mode) -> int:
        """How many inputs the call has."""
        port = await mode.port(self._access)
        return (await self._info(port)).inputs

    async def _info(self, port: Any) -> CallInfo:
        from squall.wire.control import CallRef

        info: CallInfo = await port.request("call.get", CallRef(self.object_id))
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
        """The results of all, in the order of the calls; raises the first of them that raised."""
        for call in function_calls:
            if not isinstance(call, FunctionCall):
                raise InvalidError(f"gather() takes calls one by one, not {checks.short(call)}")
        return [await _result(call, mode) for call in function_calls]

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restored, (self.object_id,))

    def __getattr__(self, name: str) -> NoReturn:
        if name in _LATER:
            raise unavailable.missing("FunctionCall.", name, _LATER[name])
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"<FunctionCall {self.object_id}>"


async def _result(call: FunctionCall[Any], mode: Mode) -> Any:
    return await FunctionCall.get.flow(call, mode)


def _restored(call_id: str) -> FunctionCall[Any]:
    return FunctionCall(call_id, Access())

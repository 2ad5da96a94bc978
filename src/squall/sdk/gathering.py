"""The results of several calls at once: whichever comes first is looked at first."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any

from squall.exception import OutputExpiredError
from squall.sdk import outcomes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from squall.client.api import Call
    from squall.sdk.call import FunctionCall
    from squall.sdk.modes import Mode
    from squall.sdk.ports import Port

#: How long the first call without a result is waited for before all are looked at, in seconds.
GLANCE_S = 0.05


async def gather(mode: Mode, calls: Sequence[FunctionCall[Any]]) -> list[Any]:
    """The results of all, in the order of the calls; raises as soon as one of them has raised."""
    results: dict[int, Any] = {}
    waiting: dict[int, tuple[Port[Any], Call]] = {}
    try:
        for number, call in enumerate(calls):
            port = await mode.port(call.access)
            waiting[number] = port, port.attach_call(call.object_id, 0, 1)
        while waiting:
            patience = None if len(waiting) == 1 else GLANCE_S
            for number, (port, attached) in list(waiting.items()):
                try:
                    item: Any = await port.next(attached, patience)
                except OutputExpiredError:
                    raise  # it is a TimeoutError too
                except builtins.TimeoutError:
                    patience = 0.0  # what came meanwhile is there already
                    continue
                waiting.pop(number)[1].close()
                results[number] = await outcomes.value_of(port, item.outcome)
    finally:
        for _, attached in waiting.values():
            attached.close()
    return [results[number] for number in range(len(calls))]

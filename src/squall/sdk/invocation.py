"""Calls as flows: one input, a generator, many inputs. What they raise is what the caller gets."""

from __future__ import annotations

import builtins
import time
from typing import TYPE_CHECKING, Any

from squall import exception
from squall.client.api import YieldItem
from squall.sdk import context, outcomes, serialization, tracing
from squall.sdk.feeding import LINGER_S, Feeder
from squall.sdk.ordering import Ordering
from squall.sdk.refusals import translated
from squall.wire.values import InputItem

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from squall.client.api import Call
    from squall.runner.protocol.spool import Pickled
    from squall.sdk.ports import Port
    from squall.wire.values import Outcome, OutputItem, Trace

#: A generator may be this many values ahead of its consumer, who says so after each half of them.
AHEAD = 64


def open_call(port: Port[Any], function_id: str, kind: str, *, durable: bool = False) -> Call:
    parent = context.parent()
    return port.open_call(function_id, kind, durable=durable, parent=parent, trace=tracing.sink is not None)


async def unary(port: Port[Any], function_id: str, encode: Callable[[], Pickled]) -> Any:
    """The result of one input. Who stops waiting cancels it."""
    trace = tracing.begin()
    data = encode()
    line = port.line(function_id) if trace is None and isinstance(data, bytes) else None
    if line is not None and isinstance(data, bytes):
        with translated():
            answer = line.ask(data)
        if isinstance(answer, bytes):
            return serialization.loads(answer)
        if answer is not None:
            return await outcomes.value_of(port, answer)
    return await _by_way_of_the_server(port, function_id, data, trace)


async def _by_way_of_the_server(port: Port[Any], function_id: str, data: Pickled, trace: Trace | None) -> Any:
    began = time.monotonic()
    payload = await serialization.to_passing_payload(port, data)
    tracing.serialized(trace)
    call = open_call(port, function_id, "unary")
    try:
        call.send([InputItem(0, payload, trace=trace)], last=True)
        item = await port.next(call)
    except BaseException:
        give_up(call)
        raise
    call.close()
    port.called(function_id, time.monotonic() - began)
    assert not isinstance(item, YieldItem)
    try:
        return await outcomes.value_of(port, item.outcome)
    finally:
        tracing.end(call.id, item)


async def spawn(port: Port[Any], function_id: str, data: Pickled) -> str:
    """The id of a call that goes on without us, once the server has it on disk."""
    payload = await serialization.to_payload(port, data)
    call = open_call(port, function_id, "unary", durable=True)
    try:
        call.send([InputItem(0, payload)], last=True)
        await port.accepted(call, 1)
    finally:
        call.close()
    return call.id


async def generate(
    port: Port[Any], function_id: str, encode: Callable[[], Pickled]
) -> AsyncGenerator[Any, None]:
    """The values of a generator. Who stops iterating cancels it."""
    trace = tracing.begin()
    payload = await serialization.to_passing_payload(port, encode())
    tracing.serialized(trace)
    call = open_call(port, function_id, "generator")
    ended = False
    try:
        call.send([InputItem(0, payload, trace=trace)], last=True)
        while True:
            item = await port.next(call)
            if not isinstance(item, YieldItem):
                break
            yield serialization.loads(await serialization.from_payload(port, item.payload))
            taken = item.number + 1
            if taken % (AHEAD // 2) == 0:
                call.credit(0, taken + AHEAD)
        ended = True
        tracing.end(call.id, item)
        if item.outcome.status != "done":
            await outcomes.value_of(port, item.outcome)
    finally:
        if ended:
            call.close()
        else:
            give_up(call)


async def map_(
    port: Port[Any],
    function_id: str,
    rows: AsyncGenerator[tuple[Any, ...], None],
    encode: Callable[[tuple[Any, ...]], Pickled],
    *,
    ordered: bool,
    return_exceptions: bool,
    total: int | None = None,
) -> AsyncGenerator[Any, None]:
    """The results of many inputs, which are taken from `rows` only as results are taken from here. There are
    `total` of them, if anybody knows.
    """
    call = open_call(port, function_id, "map")
    feeder = Feeder(port, call, rows, encode, total)
    ordering: Ordering[OutputItem] = Ordering(ordered=ordered)
    arrived = 0
    try:
        while not feeder.is_over(arrived):
            more = feeder.steps and not feeder.done and await feeder.step()
            if feeder.is_over(arrived):
                break
            try:
                item = await port.next(call, 0.0 if more else None if feeder.done else LINGER_S)
            except builtins.TimeoutError:
                if not more:
                    feeder.linger()
                continue
            assert not isinstance(item, YieldItem)
            arrived += item.count
            feeder.arrived(item)
            for index, output in ordering.add(item.index, item, item.count):
                if output.count > 1 or output.sizes is not None:
                    data = await serialization.from_payload(port, output.outcome.payload)
                    for value, error in outcomes.values_of(output, data):
                        if error is not None and not _is_returned(error, return_exceptions):
                            raise error
                        yield value if error is None else error
                    feeder.taken(index, output.count)
                    continue
                feeder.taken(index)
                try:
                    value = await _value_or_error(port, output.outcome, return_exceptions=return_exceptions)
                finally:
                    tracing.end(call.id, output)
                yield value
        if feeder.error is not None:
            raise feeder.error
    finally:
        feeder.stop()
        if feeder.sent and not (feeder.done and arrived == feeder.count and feeder.error is None):
            give_up(call)
        else:
            call.close()


async def _value_or_error(port: Port[Any], outcome: Outcome, *, return_exceptions: bool) -> Any:
    try:
        return await outcomes.value_of(port, outcome)
    except BaseException as error:
        if not _is_returned(error, return_exceptions):
            raise
        return error


def _is_returned(error: BaseException, return_exceptions: bool) -> bool:
    return return_exceptions and isinstance(error, (Exception, exception.InputCancellation))


def give_up(call: Call) -> None:
    """Nobody waits any more. A connection that is gone cancels by itself."""
    try:
        call.cancel()
    except exception.Error:
        pass
    finally:
        call.close()

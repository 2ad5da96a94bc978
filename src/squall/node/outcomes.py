"""What a runner says of an input, read with suspicion, and the hops of traced inputs. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from squall.runner.protocol import BadFrame
from squall.wire.values import ErrorInfo, Outcome, Payload

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from squall.wire.messages import NodeInput
    from squall.wire.values import Trace

#: Characters kept of a type's name, a message, a traceback.
_NAME, _MESSAGE, _TRACEBACK = 200, 64 << 10, 128 << 10
#: The hops of an input that a runner tells of, and their keys.
_RUNNER = (
    ("runner.received", "received"),
    ("user.begin", "begin"),
    ("user.end", "end"),
    ("runner.sent", "sent"),
)


def of(header: Mapping[str, Any], yields: int, payload: Payload | str) -> Outcome:
    """The outcome in an OUTPUT's header. A payload that is a text says why there is none."""
    if isinstance(payload, str):
        return Outcome("failed", error=ErrorInfo("ServiceError", payload))
    status = header.get("s", "ok")
    if status == "ok":
        return Outcome("ok", payload, yields=yields)
    if status == "done":
        return Outcome("done", yields=yields)
    if status == "cancelled":
        return Outcome(
            "cancelled", error=ErrorInfo("InputCancellation", "the input was cancelled"), yields=yields
        )
    error = ErrorInfo(
        text(header, "type", _NAME) or "Exception", text(header, "message"), text(header, "tb", _TRACEBACK)
    )
    if status == "exception":
        return Outcome("exception", payload, error, yields)
    return Outcome("failed", error=error, yields=yields)


def count(header: Mapping[str, Any], key: str = "n") -> int:
    """A number of a header: how many values a generator has given, as its runner says."""
    given = header.get(key)
    return given if type(given) is int and 0 <= given < 1 << 62 else 0


def lost_argument(error: Exception) -> Outcome:
    return Outcome(
        "failed", error=ErrorInfo("ServiceError", f"the input's arguments could not be fetched: {error}")
    )


def text(header: Mapping[str, Any], key: str, limit: int = _MESSAGE) -> str:
    """A text of a header; empty for anything else."""
    value = header.get(key)
    return value.encode(errors="replace").decode()[:limit] if isinstance(value, str) else ""


def numbers(header: Mapping[str, Any], key: str) -> list[int]:
    """A list of whole numbers of a header. Raises BadFrame."""
    listed = header.get(key)
    if not isinstance(listed, list) or not all(type(number) is int for number in listed):
        raise BadFrame(f"no list of numbers in {key}")
    return listed


def held(header: Mapping[str, Any], most: int) -> list[tuple[int, str, int]]:
    """What a runner says it holds. Raises BadFrame."""
    listed = header.get("held", [])
    if not isinstance(listed, list) or len(listed) > most:
        raise BadFrame("a HELLO that holds too much")
    found = []
    for entry in listed:
        match entry:
            case [int(number), str(input_id), int(attempt)] if 0 < number < 1 << 62 and len(input_id) < 200:
                if not input_id.rpartition(":")[2].isdecimal():
                    raise BadFrame("a HELLO that names no input")
                found.append((number, input_id, attempt))
            case _:
                raise BadFrame("a HELLO with nonsense")
    if len({number for number, _, _ in found}) != len(found):
        raise BadFrame("a HELLO with a number twice")
    return found


def hop(item: NodeInput, name: str, now: float) -> None:
    if item.trace is not None:
        item.trace.append((name, now))


def answered(item: NodeInput, header: Mapping[str, Any], now: float) -> None:
    """The runner's own hops, and ours of the moment when its answer came."""
    if item.trace:
        item.trace += moments(header, _RUNNER, item.trace[-1][1], now)
        item.trace.append(("agent.answered", now))


def moments(header: Mapping[str, Any], names: Iterable[tuple[str, str]], since: float, until: float) -> Trace:
    """The hops in the "t" of a runner's header, by (name, key), as far as they can be true: in order, not
    before `since` (when it was told to) and not after `until` (when it had answered).
    """
    told = header.get("t")
    found: Trace = []
    if not isinstance(told, dict):
        return found
    for name, key in names:
        moment = told.get(key)
        if isinstance(moment, float) and since <= moment <= until:
            found.append((name, moment))
            since = moment
    return found

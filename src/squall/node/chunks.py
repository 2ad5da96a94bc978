"""Chunks: what a runner says of several inputs at once, read with suspicion."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from squall.node import ends, outcomes
from squall.runner.protocol import BadFrame
from squall.wire.values import Outcome, Part, Payload

if TYPE_CHECKING:
    from collections.abc import Mapping

    from squall.node.inputs import Attempt
    from squall.runner.protocol import Frame


@dataclass(frozen=True)
class Covered:
    """Which inputs of a chunk an outcome is for: `count` from `offset` on. The others come back."""

    count: int
    offset: int = 0
    sizes: list[int] | None = None
    parts: list[Part] | None = None


#: None of a chunk: its runner takes single inputs only.
NOTHING = Covered(0)


def answered(attempt: Attempt | None, frame: Frame, fd: int | None) -> Covered | None:
    """Which inputs of a chunk an OUTPUT is for. Raises BadFrame."""
    if attempt is None or attempt.count == 1:
        return None
    size = len(frame.payload) if fd is None else os.fstat(fd).st_size
    return covered(attempt, frame.header, size)


def covered(attempt: Attempt, header: Mapping[str, Any], size: int) -> Covered:
    """The same of its header, with `size` bytes of payload. Pure."""
    sizes = outcomes.numbers(header, "sizes")
    if not 0 < len(sizes) <= attempt.count or min(sizes) < 0 or sum(sizes) != size:
        raise BadFrame("an answer to a chunk with wrong sizes")
    parts = _parts(header, len(sizes))
    if attempt.verdict == "timeout":
        _time_out(attempt.input.timeout, header, sizes, parts)
    return Covered(len(sizes), 0, sizes, parts or None)


def _time_out(timeout: float, header: Mapping[str, Any], sizes: list[int], parts: list[Part]) -> None:
    """The last input was interrupted. If its own time is not over, another one's was, which ended just before
    we could interrupt it: this one has to begin anew.
    """
    last, ran = len(sizes) - 1, header.get("ran")
    if parts and parts[-1].offset == last:
        interrupted = parts.pop().outcome.status == "cancelled"
        if interrupted and isinstance(ran, float) and ran < timeout and last > 0:
            sizes.pop()
            return
    elif isinstance(ran, float) and ran < timeout:
        return
    parts.append(Part(last, ends.timed_out(timeout)))


def _parts(header: Mapping[str, Any], count: int) -> list[Part]:
    listed = header.get("parts", [])
    parts: list[Part] = []
    last = -1
    for entry in listed if isinstance(listed, list) else [None]:
        match entry:
            case [offset, dict(told)] if type(offset) is int and last < offset < count:
                parts.append(Part(offset, _told(told)))
                last = offset
            case _:
                raise BadFrame("an answer to a chunk with wrong parts")
    return parts


def _told(header: Mapping[str, Any]) -> Outcome:
    outcome = outcomes.of(header, 0, Payload())
    if outcome.status not in ("exception", "failed", "cancelled"):
        raise BadFrame("a part of a chunk that ended like the others")
    return outcome


def blamed(attempt: Attempt) -> Covered | None:
    """The input of a chunk that ran when its container ended; None: nobody knows."""
    if attempt.page is None or not attempt.page.runs():
        return None
    return Covered(1, min(max(attempt.page.calls(), 1), attempt.count) - 1)

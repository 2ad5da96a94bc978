"""A chunk: inputs that came together run one after the other, each under its own id, and are answered as one.

What has to go its own way ends the chunk early, before an input or after it: time that passes, results that
are large, an interruption. The inputs that were not begun go back.
"""

from __future__ import annotations

import mmap
import os
import time
from typing import TYPE_CHECKING, Any

from squall.runner.protocol import direct
from squall.runner.results import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

#: No input of a chunk begins after so many seconds: other containers may be idle by then.
LONG = 0.15
#: Nor after so many bytes of results and of errors' words.
FULL = 128 << 10


def run(
    page: int, sizes: list[int], payload: bytes | memoryview, call: Callable[[int, memoryview], Answer]
) -> Answer:
    """`call` runs one of the inputs, by its offset. Owns the descriptor of the page."""
    noted = mmap.mmap(page, direct.PAGE.size)
    os.close(page)
    try:
        return _packed(*_answers(noted, sizes, memoryview(payload), call))
    finally:
        noted.close()


def _answers(
    page: mmap.mmap, sizes: list[int], view: memoryview, call: Callable[[int, memoryview], Answer]
) -> tuple[list[Answer], float]:
    """Of those that have run, and how long the last one did."""
    note, clock, pid = direct.PAGE.pack_into, time.monotonic, os.getpid()
    answers: list[Answer] = []
    start = weight = 0
    first = now = clock()
    began = first
    for offset, size in enumerate(sizes):
        began = now
        note(page, 0, offset + 1, began, 0.0)
        answer = call(offset, view[start : start + size])
        if os.getpid() != pid:  # user code forked, and the child came back out of it
            os._exit(0)
        now = clock()
        answers.append(answer)
        start += size
        header = answer.header
        weight += len(answer.payload)
        if header:
            weight += len(header.get("message", "")) + len(header.get("tb", ""))
            if header.get("s") == "cancelled":
                break
        if weight > FULL or now - first > LONG:
            break
    note(page, 0, len(answers), 0.0, 0.0)
    return answers, now - began


def _packed(answers: list[Answer], ran: float) -> Answer:
    payloads = [a.payload if isinstance(a.payload, bytes) else a.payload.view() for a in answers]
    header: dict[str, Any] = {"sizes": [len(p) for p in payloads], "ran": ran}
    parts = [[offset, a.header] for offset, a in enumerate(answers) if a.header]
    if parts:
        header["parts"] = parts
    return Answer(header, b"".join(payloads))

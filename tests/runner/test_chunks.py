"""Several inputs, one after the other, answered as one."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from squall.runner import chunks
from squall.runner.protocol import direct, memfd
from squall.runner.results import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def page() -> Iterator[int]:
    fd = memfd.create()
    os.ftruncate(fd, direct.PAGE.size)
    yield fd
    os.close(fd)


def run(page: int, parts: list[bytes], call: Callable[[int, bytes], Answer]) -> Answer:
    sizes = [len(part) for part in parts]
    return chunks.run(os.dup(page), sizes, b"".join(parts), lambda n, view: call(n, bytes(view)))


def noted(page: int) -> tuple[int, float]:
    count, since, _ = direct.PAGE.unpack(os.pread(page, direct.PAGE.size, 0))
    return count, since


def test_each_input_gets_its_own_arguments_and_the_results_lie_in_a_row(page: int) -> None:
    answer = run(page, [b"a", b"", b"bcd"], lambda n, data: Answer({}, b"%d" % n + data))
    assert answer.payload == b"0a12bcd"
    assert answer.header["sizes"] == [2, 1, 4]
    assert "parts" not in answer.header


def test_it_is_noted_which_one_runs_and_since_when(page: int) -> None:
    seen = []

    def call(_number: int, _data: bytes) -> Answer:
        seen.append(noted(page))
        return Answer({})

    before = time.monotonic()
    run(page, [b"a", b"b"], call)
    assert [count for count, _ in seen] == [1, 2]
    assert before <= seen[0][1] <= seen[1][1] <= time.monotonic()
    assert noted(page) == (2, 0.0)


def test_what_has_no_result_is_told_of(page: int) -> None:
    told = {"s": "exception", "type": "E", "message": "m", "tb": "t"}
    answer = run(page, [b"a", b"b", b"c"], lambda n, d: Answer(told, b"err") if n == 1 else Answer({}, d))
    assert answer.header["parts"] == [[1, told]]
    assert (answer.payload, answer.header["sizes"]) == (b"aerrc", [1, 3, 1])


def test_nothing_begins_after_a_long_one(page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 0.05, 0.2, 0.21])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    answer = run(page, [b"a", b"b", b"c"], lambda _n, data: Answer({}, data))
    assert answer.header["sizes"] == [1, 1]
    assert answer.header["ran"] == pytest.approx(0.15)
    assert noted(page) == (2, 0.0)


@pytest.mark.parametrize("where", ["payload", "tb"])
def test_nothing_begins_after_much_was_said(page: int, where: str) -> None:
    much = "x" * (chunks.FULL + 1)
    full = Answer({}, much.encode()) if where == "payload" else Answer({"s": "exception", "tb": much})
    answer = run(page, [b"a", b"b"], lambda _n, _d: full)
    assert len(answer.header["sizes"]) == 1


def test_nothing_begins_after_an_interruption(page: int) -> None:
    answer = run(page, [b"a", b"b"], lambda _n, _d: Answer({"s": "cancelled"}))
    assert answer.header["parts"] == [[0, {"s": "cancelled"}]]
    assert answer.header["sizes"] == [0]

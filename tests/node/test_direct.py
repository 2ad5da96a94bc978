"""What the agent reads of a direct line."""

from __future__ import annotations

import math
import os
import socket

import pytest

from squall.node.direct import Page, is_line
from squall.runner.protocol import direct


@pytest.fixture
def runner() -> tuple[Page, int]:
    """A page, and the runner's descriptor of it."""
    page = Page(100.0)
    return page, page.lend()


@pytest.mark.parametrize(
    ("since", "seen"),
    [(0.0, 200.0), (150.0, 150.0), (1.0, 100.0), (1e9, 200.0), (math.nan, 200.0), (-5.0, 200.0)],
)
def test_a_call_runs_since_the_runner_says_so_as_far_as_that_can_be(
    runner: tuple[Page, int], since: float, seen: float
) -> None:
    page, theirs = runner
    os.pwrite(theirs, direct.PAGE.pack(3, since, 7.5), 0)
    os.close(theirs)
    assert page.since(200.0) == seen
    assert page.calls() == 3
    assert page.seconds() == 7.5


def test_no_number_of_calls_is_too_large(runner: tuple[Page, int]) -> None:
    page, theirs = runner
    os.pwrite(theirs, b"\xff" * direct.PAGE.size, 0)
    os.close(theirs)
    assert page.calls() == 1 << 32
    assert page.seconds() == 0, "no number at all"


@pytest.mark.parametrize("size", [0, 1 << 20])
def test_a_runner_cannot_take_the_page_away(runner: tuple[Page, int], size: int) -> None:
    page, theirs = runner
    with pytest.raises(PermissionError):
        os.ftruncate(theirs, size)
    os.close(theirs)
    assert page.calls() == 0


def test_a_line_is_a_stream_socket() -> None:
    stream, other = socket.socketpair()
    datagram, third = socket.socketpair(type=socket.SOCK_DGRAM)
    with stream, other, datagram, third, open(os.devnull) as file:
        assert is_line(stream.fileno())
        assert not is_line(datagram.fileno())
        assert not is_line(file.fileno())

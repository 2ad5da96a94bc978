"""What is believed of a trace that somebody sent."""

from __future__ import annotations

import math

import pytest

from squall.wire import hops


def test_known_hops_of_the_sender_stay() -> None:
    said = [("sdk.call", 1.0), ("client.send", 2.0)]
    assert hops.clean(said, hops.CLIENT) == said
    assert hops.clean([*said, ("server.received", 3.0)], hops.CLIENT) == said
    assert hops.clean([(name, 1.0) for name in hops.HOPS], hops.ALL) == [(name, 1.0) for name in hops.HOPS]


@pytest.mark.parametrize("hop", [("x" * 1_000_000, 1.0), ("\x1b[2J", 1.0), ("", 1.0), ("sdk.call", -1.0)])
def test_unknown_names_and_impossible_times_go(hop: tuple[str, float]) -> None:
    assert hops.clean([hop], hops.ALL) == []


@pytest.mark.parametrize("at", [math.nan, math.inf, -math.inf, 1e300])
def test_numbers_that_are_no_times_go(at: float) -> None:
    assert hops.clean([("sdk.call", at)], hops.ALL) == []


def test_a_trace_has_an_end() -> None:
    assert len(hops.clean([("user.end", 1.0)] * 100_000, hops.ALL)) == hops.MOST

"""Peers that died without a word are noticed; those of a server that slept are asked first."""

from __future__ import annotations

import asyncio

import pytest

from squall.server.transport.heartbeat import Heartbeat
from squall.server.transport.limits import Limits

AFTER, PATIENCE = 0.2, 0.2


class SleepyLoop(asyncio.SelectorEventLoop):
    slept = 0.0

    def time(self) -> float:
        return super().time() + self.slept


@pytest.mark.parametrize("answers", [True, False])
def test_after_a_sleep(*, answers: bool) -> None:
    loop = SleepyLoop()
    pings: list[float] = []
    dead: list[float] = []

    async def scenario() -> None:
        limits = Limits(ping_after=AFTER, ping_patience=PATIENCE)
        heartbeat = Heartbeat(
            limits, lambda: 0, lambda: pings.append(loop.time()), lambda: dead.append(loop.time())
        )
        await asyncio.sleep(AFTER / 4)
        loop.slept = 3600.0
        woke = loop.time()
        while loop.time() - woke < 3 * (AFTER + PATIENCE):
            await asyncio.sleep(0.01)
            if answers and pings:
                heartbeat.heard()
        heartbeat.stop()

    loop.run_until_complete(scenario())
    loop.close()
    assert pings, "it is asked"
    assert bool(dead) is not answers
    assert not dead or dead[0] >= pings[0] + PATIENCE - 0.01

"""The clock of the input that runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from squall.node.deadlines import RING_AGAIN, Deadlines
from squall.node.inputs import Inputs
from squall.wire.messages import NodeInput
from squall.wire.values import Payload

if TYPE_CHECKING:
    from squall.node.inputs import Attempt


class Clocked:
    """One running input, and what its clock did."""

    def __init__(self, grace: float) -> None:
        self.inputs = Inputs()
        self.inputs.add([NodeInput("fc-1:0", 1, Payload(), "fc-1", timeout=60.0)])
        self.rung: asyncio.Queue[Attempt] = asyncio.Queue()
        self.stuck = asyncio.Event()
        self.deadlines = Deadlines(self.inputs, grace, lambda _: None, self.rung.put_nowait, self.stuck.set)
        attempt = self.inputs.take(asyncio.get_running_loop().time())
        assert attempt is not None
        self.attempt = attempt
        self.deadlines.begun()


def test_an_interruption_is_repeated_until_the_answer() -> None:
    async def scene() -> None:
        clocked = Clocked(grace=60.0)
        clocked.deadlines.cancel(clocked.attempt, "cancelled")
        for _ in range(3):
            await asyncio.wait_for(clocked.rung.get(), 20)
        clocked.inputs.finish(clocked.attempt.number, 0.0)
        seen = clocked.rung.qsize()
        await asyncio.sleep(3 * RING_AGAIN)
        assert clocked.rung.qsize() == seen
        clocked.deadlines.close()

    asyncio.run(scene())


def test_who_never_answers_is_stuck_after_the_grace() -> None:
    async def scene() -> None:
        clocked = Clocked(grace=2.5 * RING_AGAIN)
        clocked.deadlines.cancel(clocked.attempt, "cancelled")
        await asyncio.wait_for(clocked.stuck.wait(), 20)
        assert clocked.rung.qsize() >= 2
        clocked.deadlines.close()

    asyncio.run(scene())

"""A container that works on several inputs at once: their ends are their own, and so is the blame."""

from __future__ import annotations

import os
import pickle
import signal
from typing import TYPE_CHECKING

import pytest

from squall.wire import messages as m
from squall.wire.values import Batching, Concurrency
from tests.node.fake_server import until
from tests.node.test_reconnect import lasting, restart

if TYPE_CHECKING:
    from tests.node.conftest import Node, Run

__all__ = ["lasting"]

#: Waits for a file; `deaf` ones do not end when they are cancelled.
SYNC = (
    "import os, time\ndef f(gate, deaf=False):\n    os.write(1, b'pid %d\\n' % os.getpid())\n"
    "    while not os.path.exists(gate):\n        try:\n            time.sleep(0.002)\n"
    "        except BaseException:\n            if not deaf: raise\n    return 'through'\n"
)
ASYNC = SYNC.replace("import os,", "import asyncio, os,").replace("def f", "async def f")
ASYNC = ASYNC.replace("time.sleep", "await asyncio.sleep")
DIES = (
    "import os, time\ndef f(gate):\n    print('go', flush=True)\n"
    "    while not os.path.exists(gate):\n        time.sleep(0.002)\n    {how}\n"
)
FOUR = Concurrency(4, 4)
codes = pytest.mark.parametrize("code", [SYNC, ASYNC], ids=["sync", "async"])


async def started(node: Node, *inputs: str) -> None:
    for input_id in inputs:
        await node.server.expect(m.InputsStarted, inputs=[(input_id, 1)])


def outputs(node: Node) -> list[str]:
    return [i.input for x in node.server.messages if isinstance(x, m.NodeOutputs) for i in x.items]


@codes
def test_a_timeout_of_one_of_several(run: Run, code: str) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(code, concurrency=FOUR)
        gate = node.folder / "gate"
        others = [node.assign(container, str(gate)) for _ in range(3)]
        late = node.assign(container, str(gate), timeout=0.2)
        assert (await node.server.output(late)).output.outcome.status == "timeout"
        await started(node, *others)
        gate.touch()
        for input_id in others:
            payload = (await node.server.output(input_id)).output.outcome.payload
            assert pickle.loads(payload.data) == "through"

    run(scenario)


@codes
def test_cancelling_one_of_several(run: Run, code: str) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(code, concurrency=FOUR)
        gate = node.folder / "gate"
        inputs = [node.assign(container, str(gate)) for _ in range(6)]
        await started(node, *inputs[:4])
        node.server.send(m.Revoke(container, [(inputs[1], 1), (inputs[5], 1)]))
        for index in (1, 5):
            assert (await node.server.output(inputs[index])).output.outcome.status == "cancelled"
        await started(node, inputs[4])
        gate.touch()
        for index in (0, 2, 3, 4):
            assert (await node.server.output(inputs[index])).output.outcome.status == "ok"

    run(scenario)


@codes
def test_one_that_does_not_react_costs_its_neighbours_nothing(run: Run, code: str) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(code, concurrency=Concurrency(3, 3))
        gate = str(node.folder / "gate")
        deaf = node.assign(container, gate, True, timeout=0.2)
        others = [node.assign(container, gate) for _ in range(3)]
        await started(node, *others[:2])
        assert (await node.server.output(deaf)).output.outcome.status == "timeout"
        state = await node.ended(container)
        assert (state.reason, sorted(state.returned)) == ("stopped", sorted((i, 1) for i in others))
        assert outputs(node) == [deaf]

    run(scenario)


def test_neighbours_of_a_call_that_is_terminated_lose_nothing(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(SYNC, concurrency=FOUR)
        first, second = (node.assign(container, str(node.folder / "gate")) for _ in range(2))
        await started(node, first, second)
        node.server.send(m.Revoke(container, [(first, 1)], terminate=True))
        assert (await node.ended(container)).returned == [(second, 1)]
        assert (await node.server.output(first)).output.outcome.status == "cancelled"

    run(scenario)


def test_a_generator_that_has_yielded_is_never_returned(run: Run) -> None:
    async def scenario(node: Node) -> None:
        code = "import time\ndef f():\n    yield 1\n    while True:\n        time.sleep(0.01)\n"
        container = await node.container(code, concurrency=FOUR, is_generator=True)
        first, second = (node.assign(container, generator=True, credit=9) for _ in range(2))
        for input_id in (first, second):
            await node.server.expect(m.NodeYields, input=input_id)
        node.server.send(m.Revoke(container, [(first, 1)], terminate=True))
        assert (await node.ended(container)).returned == []

    run(scenario)


def test_a_death_of_its_own_fails_all_that_run(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(DIES.format(how="os._exit(3)"), concurrency=Concurrency(2, 2))
        gate = node.folder / "gate"
        inputs = [node.assign(container, str(gate)) for _ in range(4)]
        await started(node, *inputs[:2])
        gate.touch()
        for input_id in inputs[:2]:
            assert (await node.server.output(input_id)).output.outcome.status == "failed"
        state = await node.ended(container)
        assert (state.reason, state.returned) == ("exit", [(i, 1) for i in inputs[2:]])

    run(scenario)


def test_killed_from_outside_all_that_run_are_victims(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(SYNC, concurrency=Concurrency(2, 2))
        inputs = [node.assign(container, str(node.folder / "gate")) for _ in range(3)]
        await started(node, *inputs[:2])
        await until(lambda: b"\n" in node.server.log(container))
        os.kill(int(node.server.log(container).split()[1]), signal.SIGKILL)
        state = await node.ended(container)
        assert (state.reason, state.returned) == ("killed", [(inputs[2], 1)])
        assert outputs(node) == []

    run(scenario)


def test_drain_lets_all_that_run_finish(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(SYNC, concurrency=Concurrency(2, 2))
        gate = node.folder / "gate"
        inputs = [node.assign(container, str(gate)) for _ in range(3)]
        await started(node, *inputs[:2])
        node.server.send(m.StopContainer(container, drain=True, grace=30))
        gate.touch()
        for input_id in inputs[:2]:
            assert (await node.server.output(input_id)).output.outcome.status == "ok"
        state = await node.ended(container)
        assert (state.reason, state.returned) == ("stopped", [(inputs[2], 1)])

    run(scenario)


@codes
def test_another_agent_adopts_all_that_run(run: Run, code: str, lasting: object) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(code, concurrency=Concurrency(3, 3))
        gate = node.folder / "gate"
        inputs = [node.assign(container, str(gate)) for _ in range(3)]
        await started(node, *inputs)
        (announced,) = (await restart(node)).containers
        assert announced.inputs == [m.RunningInput(i, 1, started=True) for i in inputs]
        gate.touch()
        for input_id in inputs:
            payload = (await node.server.output(input_id)).output.outcome.payload
            assert pickle.loads(payload.data) == "through"
        assert await node.call(container, str(gate)) == "through"
        late = node.assign(container, str(node.folder / "never"), timeout=0.3)  # cancelling works again
        assert (await node.server.output(late)).output.outcome.status == "timeout"

    run(scenario, lasting)  # type: ignore[arg-type]


def test_a_batch_begins_together_and_its_clock_with_it(run: Run) -> None:
    async def scenario(node: Node) -> None:
        code = "def f(x):\n    return [(y, len(x)) for y in x]\n"
        container = await node.container(code, batching=Batching(3, 60.0))
        first = node.assign(container, "a", timeout=0.3)
        second = node.assign(container, "b", timeout=0.3)
        (announced,) = (await _again(node)).containers
        assert [i.started for i in announced.inputs] == [False, False]
        third = node.assign(container, "c")
        for input_id, x in ((first, "a"), (second, "b"), (third, "c")):
            payload = (await node.server.output(input_id)).output.outcome.payload
            assert pickle.loads(payload.data) == (x, 3)
        await node.server.expect(m.InputsStarted, inputs=[(first, 1), (second, 1), (third, 1)])

    run(scenario)


def test_a_timeout_of_a_whole_batch(run: Run) -> None:
    async def scenario(node: Node) -> None:
        code = "import time\ndef f(x):\n    while x[0]:\n        time.sleep(0.002)\n    return x\n"
        container = await node.container(code, batching=Batching(2, 60.0))
        inputs = [node.assign(container, 1, timeout=0.2) for _ in range(2)]
        for input_id in inputs:
            assert (await node.server.output(input_id)).output.outcome.status == "timeout"
        inputs = [node.assign(container, 0) for _ in range(2)]
        for input_id in inputs:
            assert (await node.server.output(input_id)).output.outcome.status == "ok"

    run(scenario)


def test_what_gathers_is_given_back(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container("def f(x):\n    return x\n", batching=Batching(3, 600.0))
        inputs = [node.assign(container, 1) for _ in range(2)]
        (announced,) = (await _again(node)).containers
        assert len(announced.inputs) == 2
        node.server.send(m.StopContainer(container, drain=True, grace=30))
        state = await node.ended(container)
        assert (state.reason, state.returned) == ("stopped", [(i, 1) for i in inputs])

    run(scenario)


async def _again(node: Node) -> m.Announce:
    """What the node announces once it has the inputs that were sent."""
    await node.call(await node.container("def f():\n    return 1\n"))
    seen = len(node.server.messages)
    node.server.drop()
    announce = await node.server.expect(m.Announce, after=seen)
    announce.containers = announce.containers[:1]
    return announce

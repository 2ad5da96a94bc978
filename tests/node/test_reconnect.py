"""Broken connections, a restarted server, a restarted agent: nothing is lost, nothing runs twice."""

from __future__ import annotations

import asyncio
import os
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from squall.runtime.driver import LostError, Started
from squall.runtime.process import ProcessRuntime
from squall.wire import messages as m
from squall.wire.values import Payload
from tests.node.fake_server import until

if TYPE_CHECKING:
    from squall.runtime.spec import ContainerSpec
    from tests.node.conftest import Node, Run

SAME = "def f(x):\n    return x\n"
GATE = (
    "import os, time\ndef f(path):\n    print('go', flush=True)\n"
    "    while not os.path.exists(path):\n        time.sleep(0.01)\n    return 'through'\n"
)


async def again(node: Node) -> m.Announce:
    """The next announcement."""
    seen = len(node.server.messages)
    node.server.drop()
    return await node.server.expect(m.Announce, after=seen)


def test_announces_what_runs_and_goes_on(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(GATE)
        gate = node.folder / "gate"
        first, second = node.assign(container, str(gate)), node.assign(container, str(gate))
        await node.server.expect(m.InputsStarted)
        announced = (await again(node)).containers
        assert [(c.container, c.function, c.ready) for c in announced] == [(container, "fu-1", True)]
        assert announced[0].inputs == [
            m.RunningInput(first, 1, started=True),
            m.RunningInput(second, 1, started=False),
        ]
        gate.touch()
        await node.server.output(first)
        await node.server.output(second)

    run(scenario)


def test_outputs_are_sent_until_they_are_durable(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(SAME)
        node.server.confirms = False
        input_id = node.assign(container, 7)
        await node.server.output(input_id)
        seen = len(node.server.messages)
        announced = (await again(node)).containers
        assert announced[0].inputs == [m.RunningInput(input_id, 1, started=True)]
        output = await node.server.output(input_id, after=seen)
        assert pickle.loads(output.output.outcome.payload.data) == 7
        node.server.send(m.OutputsDurable([(input_id, 1)]))
        await node.call(container, 1)
        node.server.send(
            m.OutputsDurable(
                [(i.input, 1) for x in node.server.messages if isinstance(x, m.NodeOutputs) for i in x.items]
            )
        )
        await asyncio.sleep(0.1)
        assert (await again(node)).containers[0].inputs == []

    run(scenario)


def test_what_ends_while_the_server_is_away_is_told_afterwards(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container("import os\n" + GATE.replace("return 'through'", "os._exit(3)"))
        gate = node.folder / "gate"
        input_id = node.assign(container, str(gate))
        await node.server.expect(m.InputsStarted)
        await node.server.stop()
        seen = len(node.server.messages)
        gate.touch()
        await until(lambda: not list(node.state.glob("containers/*")))
        await node.server.start()
        announced = (await node.server.expect(m.Announce, after=seen)).containers
        assert [(c.container, c.inputs) for c in announced] == [
            (container, [m.RunningInput(input_id, 1, started=True)])
        ]
        state = await node.server.expect(m.ContainerState, after=seen, state="exited")
        assert (state.reason, state.exit_code) == ("exit", 3)
        assert (await node.server.output(input_id, after=seen)).output.outcome.status == "failed"
        order = [type(x) for x in node.server.messages[seen:] if not isinstance(x, (m.Heartbeat, m.NodeLogs))]
        assert order[:4] == [m.Hello, m.Announce, m.NodeOutputs, m.ContainerState]
        after = len(node.server.messages)
        await until(lambda: sum(isinstance(x, m.Heartbeat) for x in node.server.messages[after:]) > 2)
        assert (await again(node)).containers == []

    run(scenario)


def test_an_ended_container_is_announced_while_its_outputs_are_not_safe(run: Run) -> None:
    """A server that has no container for an output takes it for nobody's, and runs the input again."""

    async def scenario(node: Node) -> None:
        container = await node.container(SAME)
        node.server.confirms = False
        input_id = node.assign(container, 7)
        await node.server.output(input_id)
        node.server.send(m.StopContainer(container))
        await node.server.expect(m.ContainerState, state="exited")
        after = len(node.server.messages)
        await until(lambda: sum(isinstance(x, m.Heartbeat) for x in node.server.messages[after:]) > 2)
        seen = len(node.server.messages)
        announced = (await again(node)).containers
        assert [(c.container, c.inputs) for c in announced] == [
            (container, [m.RunningInput(input_id, 1, started=True)])
        ]
        await node.server.output(input_id, after=seen)
        await node.server.expect(m.ContainerState, after=seen, state="exited")
        node.server.send(m.OutputsDurable([(input_id, 1)]))
        after = len(node.server.messages)
        await until(lambda: sum(isinstance(x, m.Heartbeat) for x in node.server.messages[after:]) > 2)
        assert (await again(node)).containers == []

    run(scenario)


def test_prints_while_the_server_is_away_are_kept(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(GATE.replace("return", "print('kept'); return"))
        gate = node.folder / "gate"
        input_id = node.assign(container, str(gate))
        await node.server.expect(m.InputsStarted)
        await node.server.stop()
        seen = len(node.server.messages)
        gate.touch()
        await asyncio.sleep(0.3)
        await node.server.start()
        await node.server.output(input_id, after=seen)
        await node.server.expect(m.NodeLogs, after=seen)
        assert b"kept" in node.server.log(container)

    run(scenario)


def test_yields_that_may_be_lost_are_sent_again(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container("def f():\n    yield from range(10)\n", is_generator=True)
        input_id = node.assign(container, generator=True, credit=3)
        await node.server.expect(m.NodeYields, first=2)
        seen = len(node.server.messages)
        await again(node)
        resent = await node.server.expect(m.NodeYields, after=seen)
        assert (resent.input, resent.first, len(resent.payloads)) == (input_id, 0, 3)

    run(scenario)


def test_a_blob_in_pieces_begins_again(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container("def f():\n    return bytes(40_000_000)\n")
        node.server.reading.clear()  # the upload stands still
        input_id = node.assign(container)
        await asyncio.sleep(0.5)
        node.server._uploads.clear()
        node.server.drop()
        node.server.reading.set()
        payload = (await node.server.output(input_id)).output.outcome.payload
        assert len(node.server.blobs[payload.blob]) == payload.size

    run(scenario)


def test_a_refusal_at_the_first_try_ends_the_agent(run: Run) -> None:
    async def scenario(node: Node) -> None:
        assert node._running is not None
        with pytest.raises(Exception, match="wrong token"):
            await node._running

    def prepare(node: Node) -> None:
        node.server.refusal = m.Failure(0, "auth", "wrong token: make one with `squall token new`")
        node.waits = False

    run(scenario, prepare)


class LastingRuntime(ProcessRuntime):
    """Processes that outlive their agent, as the launcher's do."""

    async def adopt(self) -> list[Started]:
        found = [(name, c) for name, c in self._containers.items() if not c.ended.done()]
        return [Started(name, c.process.pid, *map(os.dup, c.pipes)) for name, c in found]


class LauncherGone(ProcessRuntime):
    """Its launcher has been killed, and none came."""

    async def start(self, spec: ContainerSpec) -> Started:
        raise LostError(f"no launcher for {spec.id}")


def test_a_start_that_got_lost_with_the_launcher_is_nobodys_fault(run: Run) -> None:
    """`lost` makes the server try elsewhere or again; `exit` would be the function's failure."""

    async def scenario(node: Node) -> None:
        order = node.order(SAME)
        node.server.send(order)
        state = await node.ended(order.container)
        assert (state.reason, state.message.split(":")[0]) == ("lost", "the container could not be started")

    def prepare(node: Node) -> None:
        node.state.mkdir()
        node.runtime = LauncherGone(node.state)

    run(scenario, prepare)


@pytest.fixture
def lasting() -> object:
    def prepare(node: Node) -> None:
        node.state.mkdir()
        node.runtime = LastingRuntime(node.state)

    return prepare


async def restart(node: Node) -> m.Announce:
    """The agent dies as by kill -9, and another one starts."""
    seen = len(node.server.messages)
    await node.crash()
    await node.start_agent()
    return await node.server.expect(m.Announce, after=seen)


def test_another_agent_adopts_a_busy_container(run: Run, lasting: object) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(GATE)
        gate = node.folder / "gate"
        input_id = node.assign(container, str(gate))
        await node.server.expect(m.InputsStarted)
        announced = (await restart(node)).containers
        assert node.in_use == ["/layers/a"]
        assert [(c.container, c.inputs) for c in announced] == [
            (container, [m.RunningInput(input_id, 1, started=True)])
        ]
        gate.touch()
        output = await node.server.output(input_id)
        assert pickle.loads(output.output.outcome.payload.data) == "through"
        assert await node.call(container, str(gate)) == "through"
        busy = node.assign(container, str(node.folder / "never"), timeout=0.3)  # cancelling works again
        assert (await node.server.output(busy)).output.outcome.status == "timeout"

    run(scenario, lasting)  # type: ignore[arg-type]


def test_another_agent_adopts_an_idle_container(run: Run, lasting: object) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(SAME)
        assert await node.call(container, 1) == 1
        seen = len(node.server.messages)
        announced = (await restart(node)).containers[0]
        if not announced.ready:  # its runner comes back before or after the agent has reached the server
            await node.server.expect(m.ContainerState, after=seen, container=container, state="ready")
        assert await node.call(container, 2) == 2
        node.server.send(m.StopContainer(container, drain=True))
        assert (await node.ended(container)).reason == "stopped"

    run(scenario, lasting)  # type: ignore[arg-type]


LEAVING = (
    "import atexit, os, time\ndef leave():\n    os.write(1, b'leaving')\n    time.sleep(1)\n"
    "atexit.register(leave)\ndef f(x):\n    return x\n"
)


def test_a_container_that_was_told_to_stop_has_not_failed_to_start(run: Run, lasting: object) -> None:
    """Not for the next agent either, which never hears from it: a failed start fails all that waits."""

    async def scenario(node: Node) -> None:
        container = await node.container(LEAVING)
        assert await node.call(container, 1) == 1
        node.server.send(m.StopContainer(container, drain=True))
        await until(lambda: b"leaving" in node.server.log(container))
        seen = len(node.server.messages)
        await restart(node)
        state = await node.server.expect(m.ContainerState, after=seen, container=container)
        assert (state.state, state.exit_code) == ("exited", 0)

    run(scenario, lasting)  # type: ignore[arg-type]


def test_inputs_that_the_dead_agent_took_along_are_announced_as_gone(run: Run, lasting: object) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(GATE)
        gate = node.folder / "gate"
        first, second = node.assign(container, str(gate)), node.assign(container, str(gate))
        await node.server.expect(m.InputsStarted)
        announced = (await restart(node)).containers[0]
        assert [i.input for i in announced.inputs] == [first, second]  # as far as the agent can know
        seen = len(node.server.messages)
        gate.touch()
        await node.server.output(first, after=seen)
        # The second was in the dead agent's socket: the runner has never seen it.
        corrected = (await node.server.expect(m.Announce, after=seen)).containers[0]
        assert second not in [i.input for i in corrected.inputs]
        assert await node.call(container, str(gate)) == "through"

    run(scenario, lasting)  # type: ignore[arg-type]


def test_a_container_without_a_record_is_put_down(run: Run, lasting: object) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(SAME)
        (node.state / "containers" / container / "order").unlink()
        assert (await restart(node)).containers == []
        assert isinstance(node.runtime, LastingRuntime)
        containers = node.runtime._containers
        await until(lambda: container not in containers)

    run(scenario, lasting)  # type: ignore[arg-type]


def test_another_agent_adopts_a_chunk(run: Run, lasting: Any) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(GATE)
        gate = node.folder / "gate"
        parts = [pickle.dumps(((str(gate),), {}))] * 3
        sizes = [len(part) for part in parts]
        item = m.NodeInput("fc-c:10", 1, Payload(b"".join(parts)), "fc-c", sizes=sizes, timeout=60.0)
        node.server.send(m.Assign(container, [item]))
        await node.server.expect(m.InputsStarted)
        announced = await restart(node)
        assert announced.chunks
        assert announced.containers[0].inputs == [m.RunningInput("fc-c:10", 1, started=True, count=3)]
        gate.touch()
        output = (await node.server.output("fc-c:10")).output
        assert output.index == 10
        assert 1 <= output.count <= 3, "as many as can be done within the time of a chunk"

    run(scenario, lasting)

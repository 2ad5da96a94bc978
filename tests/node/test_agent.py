"""A whole agent: calls, exceptions, generators, large payloads, prints, traces."""

from __future__ import annotations

import asyncio
import os
import pickle
import time
from typing import TYPE_CHECKING

import pytest

from squall.build.base import BuildError
from squall.runner.protocol import spool
from squall.wire import messages as m
from squall.wire.hashing import blob_id
from squall.wire.hops import HOPS
from squall.wire.values import Payload

if TYPE_CHECKING:
    from tests.node.conftest import Node, Run

SAME = "def f(x):\n    return x\n"


def test_calls_a_function_and_prints_come_first(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container("def f(x):\n    print('got', x)\n    return x + 1\n")
        assert await node.call(container, 1) == 2
        assert await node.call(container, 41) == 42
        assert node.server.log(container, 1) == b"got 1\ngot 41\n"

    run(scenario)


def test_announces_itself_and_says_how_a_container_comes_to_be(run: Run) -> None:
    async def scenario(node: Node) -> None:
        announce = await node.server.expect(m.Announce)
        assert (announce.node, announce.images, announce.containers) == ("no-1", ["im-1"], [])
        assert announce.resources.cpu_millis >= 1000
        container = await node.container(SAME)
        states = [x.state for x in node.server.messages if isinstance(x, m.ContainerState)]
        assert states == ["starting", "ready"]
        assert (await node.server.expect(m.BuildLog)).data == b"building\n"
        usage = (await node.server.expect(m.Heartbeat)).usage
        assert container in usage or usage == {}

    run(scenario)


def test_inputs_before_ready_wait(run: Run) -> None:
    async def scenario(node: Node) -> None:
        order = node.order("import time\ntime.sleep(0.2)\n" + SAME)
        node.server.send(order)
        outputs = [await node.server.output(node.assign(order.container, n)) for n in range(3)]
        assert [pickle.loads(o.output.outcome.payload.data) for o in outputs] == [0, 1, 2]

    run(scenario)


def test_a_thousand_inputs(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(SAME)
        items = [m.NodeInput(f"fc-x:{n}", 1, Payload(pickle.dumps(((n,), {}))), "fc-x") for n in range(1000)]
        began = time.monotonic()
        node.server.send(m.Assign(container, items))
        await node.server.output("fc-x:999")
        print(f"{(time.monotonic() - began) * 1000:.0f} us an input")
        outputs = [i for x in node.server.messages if isinstance(x, m.NodeOutputs) for i in x.items]
        values = [pickle.loads(o.output.outcome.payload.data) for o in outputs]
        assert values == [o.output.index for o in outputs] == list(range(1000))

    run(scenario)


def test_exceptions_come_home(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container("def f():\n    raise ValueError('no')\n")
        outcome = (await node.server.output(node.assign(container))).output.outcome
        assert outcome.error is not None
        assert (outcome.status, outcome.error.type, outcome.error.message) == (
            "exception",
            "ValueError",
            "no",
        )
        assert "work.py" in outcome.error.traceback
        assert isinstance(pickle.loads(outcome.payload.data), ValueError)

    run(scenario)


def test_generators_have_credit(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container("def f():\n    yield from range(6)\n", is_generator=True)
        input_id = node.assign(container, generator=True, credit=4)
        await node.server.expect(m.NodeYields, first=3)
        await asyncio.sleep(0.1)
        assert not [x for x in node.server.messages if isinstance(x, m.NodeYields) and x.first > 3]
        node.server.send(m.NodeCredit(container, input_id, 64))
        outcome = (await node.server.output(input_id)).output.outcome
        assert (outcome.status, outcome.yields) == ("done", 6)
        yields = [x for x in node.server.messages if isinstance(x, m.NodeYields)]
        assert [(x.first, [pickle.loads(p.data) for p in x.payloads]) for x in yields] == [
            (n, [n]) for n in range(6)
        ]

    run(scenario)


@pytest.mark.parametrize("size", [300_000, 2_000_000, 5_000_000])
def test_large_payloads_both_ways(run: Run, size: int) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(SAME)
        data = os.urandom(size)
        pickled = pickle.dumps(((data,), {}))
        payload = Payload(pickled, size=len(pickled))
        if len(pickled) > 2 << 20:
            node.server.blobs[blob_id(pickled)] = pickled
            payload = Payload(blob=blob_id(pickled), size=len(pickled))
        output = (await node.server.output(node.assign_payload(container, payload))).output
        back = output.outcome.payload
        assert bool(back.blob) is (size > 2 << 20)
        assert spool.load(node.server.blobs[back.blob] if back.blob else back.data) == data

    run(scenario)


def test_large_yields_stay_in_order(run: Run) -> None:
    async def scenario(node: Node) -> None:
        code = "def f():\n    yield 'a'\n    yield bytes(3_000_000)\n    yield 'b'\n"
        container = await node.container(code, is_generator=True)
        outcome = (await node.server.output(node.assign(container, generator=True, credit=64))).output.outcome
        assert outcome.yields == 3
        kinds = [bool(x.payloads[0].blob) for x in node.server.messages if isinstance(x, m.NodeYields)]
        assert kinds == [False, True, False]

    run(scenario)


def test_arguments_that_are_gone(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(SAME)
        lost = node.assign_payload(container, Payload(blob="0" * 64, size=3_000_000))
        outcome = (await node.server.output(lost)).output.outcome
        assert outcome.error is not None
        assert (outcome.status, outcome.error.type) == ("failed", "ServiceError")
        assert await node.call(container, 5) == 5

    run(scenario)


def test_a_function_that_travels_serialized(run: Run) -> None:
    async def scenario(node: Node) -> None:
        import cloudpickle

        pickled = cloudpickle.dumps(lambda: bytes(3))
        order = node.order("", "<lambda>", serialized=Payload(pickled, size=len(pickled)))
        node.server.send(order)
        assert await node.call(order.container) == bytes(3)

    run(scenario)


def test_environment_and_folder(run: Run) -> None:
    async def scenario(node: Node) -> None:
        code = "import os\ndef f():\n    return dict(os.environ), os.getcwd()\n"
        container = await node.container(code, env={"MINE": "1"})
        environment, cwd = await node.call(container)
        expected = {
            "MINE": "1",
            "SQUALL_TASK_ID": container,
            "SQUALL_IS_REMOTE": "1",
            "SQUALL_IMAGE_ID": "im-1",
            "SQUALL_ENVIRONMENT": "main",
        }
        assert expected.items() <= environment.items()
        assert not [name for name in environment if "TOKEN" in name]
        assert cwd.startswith(str(node.state))

    run(scenario)


def test_a_traced_input_has_all_hops_in_order(run: Run) -> None:
    async def scenario(node: Node) -> None:
        waited = ("scheduler.start", time.monotonic())
        container = await node.container(SAME)
        warm = (await node.server.output(node.assign(container, 1, trace=[]))).output.trace
        assert warm is not None
        hops = [name for name in HOPS if name.startswith(("agent.", "runner.", "user."))]
        first = hops.index("agent.received")
        assert [name for name, _ in warm] == hops[first:]
        assert [t for _, t in warm] == sorted(t for _, t in warm)

        cold = (await node.server.output(node.assign(container, 1, trace=[waited]))).output.trace
        assert cold is not None
        by_time = sorted(cold, key=lambda hop: hop[1])
        assert [name for name, _ in by_time] == ["scheduler.start", *hops]

    run(scenario)


def test_images_are_built_on_demand(run: Run) -> None:
    async def scenario(node: Node) -> None:
        order = node.order(SAME)
        node.server.send(m.BuildImage("im-1", order.recipe, "default"))
        assert (await node.server.expect(m.ImageDone)).error == ""
        node.builder.failure = BuildError("step 2 failed with exit code 1", "last\nlines")
        node.server.send(m.BuildImage("im-2", order.recipe, "default"))
        done = await node.server.expect(m.ImageDone, image="im-2")
        assert (done.error, done.tail) == ("step 2 failed with exit code 1", "last\nlines")
        node.server.send(order)
        state = await node.ended(order.container)
        assert (state.state, state.reason) == ("failed", "image")
        assert "exit code 1" in state.message

    run(scenario)

"""A container that breaks the rules is killed and named; the agent and its other containers go on."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from squall.wire import messages as m
from squall.wire import parcels
from squall.wire.values import Payload
from tests.node.fake_server import until

if TYPE_CHECKING:
    from tests.node.conftest import Node, Run

SAME = "def f(x):\n    return x\n"
HOSTILE = Path(__file__).with_name("hostile.py")


def use_hostile_runner(node: Node) -> None:
    script = node.folder / "python"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} {HOSTILE} "$@"\n')
    script.chmod(0o755)
    node.builder.pythons["hostile"] = str(script)


async def hostile(node: Node, how: str) -> str:
    """A container with such a runner, and an input for it."""
    use_hostile_runner(node)
    order = node.order(SAME, base="hostile", env={"HOSTILE": how}, startup_timeout=20.0)
    node.server.send(order)
    node.assign(order.container, 1, generator=how == "million_frames", credit=8)
    return order.container


@pytest.mark.parametrize(
    "how",
    [
        "garbage",
        "garbage_later",
        "deep_header",
        "huge_frame",
        "unasked_output",
        "two_outputs",
        "begun_unasked",
        "begun_nonsense",
        "million_frames",
        "million_hellos",
        "claims",
        "unsealed",
        "not_a_memfd",
        "wrong_size",
        "empty_memfd",
        "no_descriptor",
        "many_descriptors",
        "too_many_at_once",
    ],
)
def test_breaks_the_protocol(run: Run, how: str) -> None:
    async def scenario(node: Node) -> None:
        good = await node.container(SAME)
        memory, descriptors = psutil.Process().memory_info().rss, psutil.Process().num_fds()
        container = await hostile(node, how)
        state = await node.ended(container)
        assert state.reason == "protocol"
        assert state.message.startswith("the container sent its agent what it may not")
        assert "\n" not in state.message
        assert await node.call(good, 5) == 5
        assert psutil.Process().memory_info().rss - memory < 32 << 20
        assert psutil.Process().num_fds() <= descriptors + 2

    run(scenario)


def test_a_memory_file_that_shrinks_under_the_agent(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await hostile(node, "shrinking")
        await node.server.expect(m.NodeOutputs)
        assert list(node.server.blobs.values())[-1] == bytes(3 << 20)
        await until(lambda: b"shrinking refused" in node.server.log(container))

    run(scenario)


def test_a_runner_that_never_reads(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await hostile(node, "deaf")
        good = await node.container(SAME)
        payload = Payload(os.urandom(250_000))
        node.server.send(
            m.Assign(
                container, [m.NodeInput(f"fc-9:{n}", 1, payload, "fc-9", timeout=0.5) for n in range(50)]
            )
        )
        assert await node.call(good, 1) == 1
        node.server.send(m.Revoke(container, [(f"fc-9:{n}", 1) for n in range(50)]))
        assert (await node.server.output("fc-9:49")).output.outcome.status == "cancelled"
        assert await node.call(good, 2) == 2

    run(scenario)


@pytest.mark.parametrize("older", [True, False])
def test_a_runner_that_says_nothing_of_lines_gets_none(run: Run, *, older: bool) -> None:
    """It is of before there were any, and goes on under a newer agent."""

    async def scenario(node: Node) -> None:
        use_hostile_runner(node)
        order = node.order(SAME, base="hostile" if older else "debian_slim", env={"HOSTILE": "deaf"})
        node.server.send(order)
        line = node.assign_payload(order.container, Payload(blob=parcels.new_socket_name()))
        outcome = (await node.server.output(line)).output.outcome
        assert outcome.error is not None
        assert ("older version" in outcome.error.message) is older, outcome.error.message
        assert outcome.yields == 0, "no call was begun: it goes by way of the server"

    run(scenario)


def test_a_runner_that_says_nothing(run: Run) -> None:
    async def scenario(node: Node) -> None:
        use_hostile_runner(node)
        order = node.order(SAME, base="hostile", env={"HOSTILE": "silent"}, startup_timeout=0.5)
        node.server.send(order)
        assert (await node.ended(order.container)).reason == "startup_timeout"

    run(scenario)


def test_strangers_at_the_door(run: Run) -> None:
    async def scenario(node: Node) -> None:
        code = (
            "import os, socket\n"
            "def f(x):\n"
            "    found = [socket.socket(socket.AF_UNIX) for _ in range(100)]\n"
            "    for s in found:\n"
            "        s.connect(os.environ['SQUALL_SOCKET'])\n"
            "    found[0].send(b'\\xff\\xff')\n"
            "    return x\n"
        )
        descriptors = psutil.Process().num_fds()
        container = await node.container(code)
        assert await node.call(container, 1) == 1
        assert psutil.Process().num_fds() < descriptors + 40
        assert await node.call(container, 2) == 2

    run(scenario)


def test_a_flood_of_output_is_bounded(run: Run) -> None:
    async def scenario(node: Node) -> None:
        code = "import sys\ndef f():\n    while True:\n        sys.stdout.write('x' * 99 + '\\n')\n"
        good = await node.container(SAME)
        memory = psutil.Process().memory_info().rss
        flood = await node.container(code)
        input_id = node.assign(flood)
        await asyncio.sleep(2)
        assert await node.call(good, 3) == 3
        node.server.send(m.Revoke(flood, [(input_id, 1)]))
        await node.server.output(input_id)
        items = [i for x in node.server.messages if isinstance(x, m.NodeLogs) for i in x.items]
        assert sum(i.dropped for i in items if i.container == flood) > 0
        assert len(node.server.log(flood)) < 12 << 20
        assert psutil.Process().memory_info().rss - memory < 64 << 20

    run(scenario)

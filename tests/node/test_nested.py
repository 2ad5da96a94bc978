"""Clients inside containers: frames through the agent, both ways, bounded."""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING

import pytest

from squall.wire import codec
from squall.wire import messages as m
from squall.wire.values import PROTOCOL
from tests.node.fake_server import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.node.conftest import Node, Run

CLIENT = (
    "import os, socket, struct\n"
    "from squall.runner.protocol import CLIENT\n"
    "def connect():\n"
    "    s = socket.socket(socket.AF_UNIX)\n"
    "    s.connect(os.environ['SQUALL_SOCKET'])\n"
    "    s.sendall(CLIENT)\n"
    "    return s\n"
    "def send(s, frame):\n"
    "    s.sendall(struct.pack('>I', len(frame)) + frame)\n"
    "def receive(s):\n"
    "    (length,) = struct.unpack('>I', s.recv(4, socket.MSG_WAITALL))\n"
    "    return s.recv(length, socket.MSG_WAITALL)\n"
)
TALK = CLIENT + (
    "def f(frame):\n"
    "    s = connect()\n"
    "    send(s, frame)\n"
    "    answer = receive(s)\n"
    "    return answer, s.recv(10)\n"
)


def test_frames_both_ways_and_the_end(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(TALK)
        hello = codec.encode([m.Hello(PROTOCOL, "client", "0")])
        input_id = node.assign(container, hello)
        relayed = await node.server.expect(m.Nested)
        assert (relayed.container, relayed.data) == (container, hello)
        node.server.send(m.Nested(container, relayed.connection, b"answer"))
        node.server.send(m.Nested(container, relayed.connection, b""))
        output = (await node.server.output(input_id)).output.outcome
        assert b"answer" in output.payload.data

    run(scenario)


def test_the_end_of_a_client_is_told(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(
            CLIENT + "def f():\n    s = connect()\n    send(s, b'x')\n    s.close()\n"
        )
        await node.call(container)
        await node.server.expect(m.Nested, data=b"x")
        await node.server.expect(m.Nested, data=b"")

    run(scenario)


def test_what_is_said_while_the_server_is_away_waits_for_it(run: Run, tmp_path: Path) -> None:
    """It would wait for an answer for ever."""

    async def scenario(node: Node) -> None:
        code = CLIENT + (
            "import pathlib, time\n"
            f"folder = pathlib.Path({str(tmp_path)!r})\n"
            "def f():\n"
            "    while not (folder / 'away').exists():\n"
            "        time.sleep(0.01)\n"
            "    s = connect()\n"
            "    send(s, b'hello')\n"
            "    (folder / 'said').touch()\n"
            "    return receive(s)\n"
        )
        container = await node.container(code)
        input_id = node.assign(container)
        await node.server.expect(m.InputsStarted)
        await node.server.stop()
        (tmp_path / "away").touch()
        await until((tmp_path / "said").exists)
        await node.server.start()
        relayed = await node.server.expect(m.Nested, data=b"hello")
        node.server.send(m.Nested(container, relayed.connection, b"answer"))
        assert b"answer" in (await node.server.output(input_id)).output.outcome.payload.data

    run(scenario)


@pytest.mark.parametrize("length", [0, 9 << 20, 0xFFFFFFFF])
def test_what_is_no_frame_ends_the_connection_only(run: Run, length: int) -> None:
    async def scenario(node: Node) -> None:
        code = (
            CLIENT + "def f():\n    s = connect()\n"
            f"    s.sendall({struct.pack('>I', length)!r})\n    return s.recv(1)\n"
        )
        container = await node.container(code)
        assert await node.call(container) == b""
        assert await node.call(container) == b""

    run(scenario)


def test_many_tiny_frames_arrive_in_order(run: Run) -> None:
    async def scenario(node: Node) -> None:
        code = CLIENT + (
            "def f():\n    s = connect()\n"
            "    s.sendall(b''.join(struct.pack('>IH', 2, n) for n in range(5000)))\n    return s.recv(1)\n"
        )
        container = await node.container(code)
        node.assign(container)
        last = await node.server.expect(m.Nested, data=struct.pack(">H", 4999))
        relayed = [x.data for x in node.server.messages if isinstance(x, m.Nested)]
        assert relayed == [struct.pack(">H", n) for n in range(5000)]
        node.server.send(m.Nested(container, last.connection, b""))

    run(scenario)


def test_too_many_clients_are_turned_away(run: Run) -> None:
    async def scenario(node: Node) -> None:
        code = CLIENT + (
            "def f():\n    clients = [connect() for _ in range(14)]\n"
            "    import time\n    time.sleep(0.2)\n    clients += [connect() for _ in range(14)]\n"
            "    time.sleep(0.2)\n    clients += [connect() for _ in range(14)]\n    time.sleep(0.2)\n"
            "    for c in clients: c.setblocking(False)\n    ended = 0\n"
            "    for c in clients:\n"
            "        try: ended += c.recv(1) == b''\n        except BlockingIOError: pass\n"
            "    return ended\n"
        )
        container = await node.container(code)
        assert await node.call(container) == 42 - 32

    run(scenario)


def test_a_server_that_reads_slowly_slows_the_client_down(run: Run) -> None:
    async def scenario(node: Node) -> None:
        code = CLIENT + (
            "def f(path):\n    s = connect()\n    for n in range(100):\n        send(s, bytes(1 << 20))\n"
            "        open(path, 'w').write(str(n))\n    return s.recv(1)\n"
        )
        progress = node.folder / "progress"
        container = await node.container(code)
        node.server.reading.clear()
        node.assign(container, str(progress))
        before = -1
        while (now := int(progress.read_text() or 0) if progress.exists() else 0) != before:
            before = now
            await asyncio.sleep(0.5)
        assert before < 60
        node.server.reading.set()
        await until(lambda: int(progress.read_text() or 0) == 99)

    run(scenario)

"""What belongs together travels together: frames to a runner, outputs to the server."""

from __future__ import annotations

import asyncio
import os
import socket

from squall.node.channel import Channel, Payloads
from squall.node.connection import _together
from squall.runner import protocol
from squall.runner.protocol import Frame, memfd
from squall.wire import messages as m
from squall.wire.values import Outcome, OutputItem, Payload
from tests.house.slowness import SLOWNESS


class Ears(Payloads):
    def __init__(self, rest: float = 0.0) -> None:
        self.rest = rest
        self.numbers: list[int] = []
        self.turns = 0

    def frame(self, frame: Frame, fd: int | None) -> None:
        assert fd is None
        self.numbers.append(frame.input)

    def handled(self) -> float:
        self.turns += 1
        return self.rest

    def broken(self, reason: str) -> None:
        raise AssertionError(reason)

    def gone(self) -> None: ...


async def heard(ears: Ears, count: int) -> None:
    deadline = asyncio.get_running_loop().time() + 30 * SLOWNESS
    while len(ears.numbers) < count and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - sockets tell nobody
        await asyncio.sleep(0.01)


def output(number: int, size: int = 1) -> m.NodeOutput:
    outcome = Outcome("ok", Payload(bytes(size), size=size))
    return m.NodeOutput(f"fc-1:{number}", 1, OutputItem(number, outcome), 0.0)


def test_what_is_sent_together_leaves_at_once_and_descriptors_stay_with_their_frames() -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with ours, theirs:
            channel = Channel(asyncio.get_running_loop(), ours, Ears(), 1 << 20)
            fd = memfd.of([b"large"])
            size = {"fd": True, "size": 5}
            with channel.together():
                channel.send(protocol.encode(protocol.INPUT, 1))
                channel.send(protocol.encode(protocol.INPUT, 2))
                channel.send(protocol.encode(protocol.INPUT, 3, size), [fd])
                channel.send(protocol.encode(protocol.INPUT, 4))
                theirs.setblocking(False)
                try:
                    theirs.recv(1)
                except BlockingIOError:
                    pass
                else:
                    raise AssertionError("it left before the end")
            unframer, numbers, with_file = protocol.Unframer(), list[int](), list[int]()
            while len(numbers) < 4:
                data, fds, _, _ = socket.recv_fds(theirs, 1 << 16, 4)
                unframer.feed(data)
                while (frame := unframer.next()) is not None:
                    numbers.append(frame.input)
                    with_file += [frame.input] if "fd" in frame.header and fds else []
                for one in fds:
                    os.close(one)
            assert numbers == [1, 2, 3, 4]
            assert with_file == [3]
            channel.close()

    asyncio.run(scenario())


def test_a_peer_that_is_left_alone_is_heard_afterwards() -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with ours, theirs:
            ears = Ears(rest=0.05)
            channel = Channel(asyncio.get_running_loop(), ours, ears, 1 << 20)
            for number in range(20):
                theirs.send(protocol.encode(protocol.OUTPUT, number))
                await asyncio.sleep(0)
            await heard(ears, 20)
            assert ears.numbers == list(range(20))
            assert ears.turns < 20
            assert ears.numbers[-1] == 19
            channel.pause()
            theirs.send(protocol.encode(protocol.OUTPUT, 20))
            channel.resume()
            await heard(ears, 21)
            assert ears.numbers == list(range(21))
            channel.close()

    asyncio.run(scenario())


def test_outputs_that_follow_one_another_are_one_message() -> None:
    def outputs(container: str, *numbers: int) -> m.NodeOutputs:
        return m.NodeOutputs(container, [output(n) for n in numbers])

    yields = m.NodeYields("a", "fc-1:9", 1, 0, [])
    queue: list[object] = [outputs("a", 1), outputs("a", 2), outputs("b", 3), yields, outputs("a", 4)]
    joined = [
        (message.container, [i.output.index for i in message.items])
        if isinstance(message, m.NodeOutputs)
        else message
        for message in _together(queue)
    ]
    assert joined == [("a", [1, 2]), ("b", [3]), yields, ("a", [4])]
    assert [len(queue[n].items) for n in (0, 1)] == [1, 1], "what is kept for later stays as it was"  # type: ignore[attr-defined]


def test_messages_of_outputs_stay_small() -> None:
    queue = [m.NodeOutputs("a", [output(n, size=1 << 20)]) for n in range(10)]
    assert all(
        len(message.items) == 1 for message in _together([*queue]) if isinstance(message, m.NodeOutputs)
    )
    queue = [m.NodeOutputs("a", [output(n)]) for n in range(1000)]
    assert max(len(x.items) for x in _together([*queue]) if isinstance(x, m.NodeOutputs)) == 256

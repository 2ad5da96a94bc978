"""Messages through real sockets, by both WebSocket adapters."""

from __future__ import annotations

import asyncio
import gc
import os
from typing import TYPE_CHECKING

import pytest

from squall.server.connection import Peer
from squall.server.transport.limits import Limits
from squall.server.transport.serve import Transport
from squall.wire import codec
from squall.wire.messages import BlobChunk, Failure, Request, Response
from tests.server.transport_kit import (
    HELLO,
    PATIENCE,
    PONG,
    WELCOME,
    Client,
    Closed,
    Server,
    descriptors,
    running,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

pytestmark = pytest.mark.anyio


def limited(adapter: str, tmp_path: Path, limits: Limits) -> AbstractAsyncContextManager[Server]:
    return running(str(tmp_path / "run" / "s.sock"), Transport(adapter=adapter, limits=limits))


async def test_a_message_and_its_answer(where: str | int, server: Server) -> None:
    client = await Client.greeted(where)
    client.ask(7, b"body")
    assert await client.receive() == Response(7, b"body")
    assert server.control.last.frames == [[HELLO], [Request(7, "echo", b"body")]]
    client.close()
    await asyncio.wait_for(server.control.last.gone.wait(), PATIENCE)
    assert server.control.last.ends == 1


async def test_the_control_plane_learns_who_it_is(server: Server) -> None:
    await Client.greeted(server.port)
    assert server.control.last.connection.peer == Peer("tcp", address="127.0.0.1")
    await Client.greeted(server.path)
    assert server.control.last.connection.peer == Peer("unix", uid=os.geteuid())


async def test_what_is_sent_in_one_turn_leaves_in_one_frame(where: str | int, server: Server) -> None:
    client = await Client.greeted(where)
    connection = server.control.last.connection
    for number in range(50):
        connection.send(Response(number), Response(number + 1000))
    await asyncio.sleep(0)
    connection.send(Response(5000))
    first = codec.decode(await client.receive_frame())
    assert [m.id for m in first] == [n for k in range(50) for n in (k, k + 1000)]
    assert codec.decode(await client.receive_frame()) == [Response(5000)]


async def test_frames_stay_within_their_size(where: str | int, server: Server) -> None:
    client = await Client.greeted(where)
    chunks = [BlobChunk(n, "b", 0, bytes([n]) * (3 << 20)) for n in range(4)]
    server.control.last.connection.send(Response(1), *chunks, Response(2))
    frames = [codec.decode(await client.receive_frame()) for _ in range(4)]
    assert [m for frame in frames for m in frame] == [Response(1), *chunks, Response(2)]
    assert [len(frame) for frame in frames] == [2, 1, 1, 2]


async def test_large_frames_arrive(where: str | int) -> None:
    client = await Client.greeted(where)
    body = os.urandom(9 << 20)
    client.ask(1, body)
    assert await client.receive() == Response(1, body)


async def test_a_message_over_the_limit_never_leaves(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(codec, "FRAME_LIMIT", 1 << 20)
    client = await Client.greeted(server.port)
    server.control.last.connection.send(Response(1, bytes(1 << 20)))
    assert await client.end() == 1011
    assert client.inbox == []
    assert "over the frame limit" in caplog.text


async def test_fragments_make_a_frame(where: str | int) -> None:
    client = await Client.greeted(where)
    data = codec.encode([Request(3, "echo", b"in pieces")])
    client.frame(2, data[:5], last=False)
    client.frame(0, data[5:9], last=False)
    client.frame(PONG)
    client.frame(0, data[9:])
    assert await client.receive() == Response(3, b"in pieces")


async def test_pings_are_answered(where: str | int) -> None:
    client = await Client.greeted(where)
    client.frame(9, b"are you there")
    assert await client._frame() == (PONG, b"are you there")


async def test_pause_and_resume(where: str | int, server: Server) -> None:
    client = await Client.greeted(where)
    conversation = server.control.last
    conversation.connection.pause()
    for number in range(200):
        client.ask(number, bytes(50_000))
    await asyncio.sleep(0.05)
    arrived = len(conversation.frames)
    assert arrived < 100  # what was on its way into the process when it was paused
    await asyncio.sleep(0.05)
    assert len(conversation.frames) == arrived
    conversation.connection.resume()
    await conversation.heard(201)


async def test_who_is_not_known_yet_is_not_read(where: str | int, server: Server) -> None:
    server.control.mute = True
    client = await Client.websocket(where)
    client.send(HELLO)
    await asyncio.sleep(0.05)
    for number in range(200):
        client.ask(number, bytes(50_000))
    await asyncio.sleep(0.05)
    conversation = server.control.last
    assert conversation.frames == [[HELLO]]
    server.control.mute = False
    conversation.connection.send(WELCOME)
    await conversation.heard(201)


async def test_buffered_tells_of_a_slow_reader(where: str | int, server: Server) -> None:
    client = await Client.greeted(where)
    connection = server.control.last.connection
    assert connection.buffered() == 0
    connection.send(Response(1, bytes(20 << 20)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert connection.buffered() > 5 << 20
    assert len((await client.receive()).body) == 20 << 20
    while connection.buffered():  # noqa: ASYNC110 - nobody tells when it is less
        await asyncio.sleep(0.001)


async def test_who_never_reads_is_cut_off(adapter: str, tmp_path: Path) -> None:
    async with limited(adapter, tmp_path, Limits(backlog=8 << 20)) as server:
        await Client.greeted(server.port)
        conversation = server.control.last
        for _ in range(100):
            conversation.connection.send(Response(1, bytes(1 << 20)))
            await asyncio.sleep(0)
        await asyncio.wait_for(conversation.gone.wait(), PATIENCE)
        assert conversation.ends == 1
        conversation.connection.send(Response(1))  # silent
        assert conversation.connection.buffered() == 0


async def test_close_sends_what_is_queued(where: str | int, server: Server) -> None:
    client = await Client.greeted(where)
    connection = server.control.last.connection
    connection.send(Failure(0, "auth", "no"))
    connection.close()
    connection.close()
    connection.send(Response(9))
    assert await client.end() == 1000
    assert client.inbox == [Failure(0, "auth", "no")]
    client.close()
    await asyncio.wait_for(server.control.last.gone.wait(), PATIENCE)


async def test_close_does_not_wait_for_ever(adapter: str, tmp_path: Path) -> None:
    async with limited(adapter, tmp_path, Limits(farewell=0.1)) as server:
        await Client.greeted(server.path, polite=False)
        conversation = server.control.last
        conversation.connection.send(Response(1, bytes(20 << 20)))
        conversation.connection.close()
        await asyncio.wait_for(conversation.gone.wait(), PATIENCE)


async def test_a_farewell_is_answered(where: str | int, server: Server) -> None:
    client = await Client.greeted(where)
    client.frame(8, b"\x03\xe8")
    with pytest.raises(Closed) as caught:
        await client.receive()
    assert caught.value.code in (0, 1000, 1005)
    await asyncio.wait_for(server.control.last.gone.wait(), PATIENCE)


async def test_a_bug_of_the_control_plane_ends_one_connection(
    where: str | int, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    client, other = await Client.greeted(where), await Client.greeted(where)
    client.send(Request(1, "raise"))
    assert await client.end() == 1011
    assert client.failure().code == "internal"
    assert "a bug of the control plane's" in caplog.text
    other.ask(2)
    assert await other.receive() == Response(2)


# ------------------------------------------------------------------------------------------------ heartbeat


@pytest.fixture
async def restless(adapter: str, tmp_path: Path) -> AsyncIterator[Server]:
    async with limited(adapter, tmp_path, Limits(ping_after=0.1, ping_patience=0.2)) as made:
        yield made


async def test_a_peer_that_does_not_answer_is_dead(restless: Server) -> None:
    client = await Client.greeted(restless.port, polite=False)
    assert await client.end() in (0, 1011)
    assert client.pings == 1
    await asyncio.wait_for(restless.control.last.gone.wait(), PATIENCE)


async def test_a_quiet_peer_lives(restless: Server) -> None:
    client = await Client.greeted(restless.port)
    waiting = asyncio.ensure_future(client.receive())
    while client.pings < 4:  # noqa: ASYNC110 - the client counts, no more
        await asyncio.sleep(0.01)
    client.ask(1)
    assert await waiting == Response(1)


async def test_a_paused_peer_is_not_taken_for_dead(tmp_path: Path) -> None:
    limits = Limits(ping_after=0.05, ping_patience=0.05)
    async with limited("picows", tmp_path, limits) as server:
        client = await Client.greeted(server.port)
        conversation = server.control.last
        conversation.connection.pause()
        await asyncio.sleep(0.4)
        conversation.connection.resume()
        client.ask(1)
        assert await client.receive() == Response(1)


async def test_a_slow_reader_is_not_taken_for_dead(tmp_path: Path) -> None:
    """Its pong waits behind all that it has to read; that it reads is a sign of life."""
    limits = Limits(ping_after=0.1, ping_patience=0.1)
    async with limited("picows", tmp_path, limits) as server:
        client = await Client.greeted(server.port)
        size, got = 8 << 20, 0
        client.take_little()
        server.control.last.connection.send(Response(1, bytes(size)))
        while got < size and not client.reader.at_eof():
            got += len(await client.reader.read(1 << 16))
            await asyncio.sleep(0.01)
        assert got >= size
        assert not server.control.last.gone.is_set()


# ---------------------------------------------------------------------------------------------------- ends


async def test_stop_says_farewell(adapter: str, tmp_path: Path) -> None:
    path = tmp_path / "run" / "s.sock"
    async with running(str(path), Transport(adapter=adapter)) as server:
        clients = [await Client.greeted(w) for w in (server.port, server.path)]
        ends = [asyncio.ensure_future(client.end()) for client in clients]
        await server.stop()
        assert await asyncio.gather(*ends) == [1012, 1012]
        assert all(c.ends == 1 for c in server.control.conversations)
        assert not path.exists()
        with pytest.raises(OSError, match="refused"):
            await Client.connect(server.port)


async def test_stop_with_nobody_there(server: Server) -> None:
    await server.stop()


async def test_cancelling_serve_cleans_up(adapter: str, tmp_path: Path) -> None:
    path = tmp_path / "run" / "s.sock"

    async def scene() -> None:
        async with running(str(path), Transport(adapter=adapter)) as server:
            client = await Client.greeted(server.port)
            server.task.cancel()
            assert await client.end() == 1012
            with pytest.raises(asyncio.CancelledError):
                await server.task
            assert not path.exists()

    await scene()  # the first may make the loop open something of its own
    gc.collect()  # what earlier tests left is not counted
    before = descriptors()
    for _ in range(4):
        await scene()
    await asyncio.wait_for(fewer_descriptors(before), PATIENCE)


async def fewer_descriptors(than: int) -> None:
    """Transports close theirs in a later turn of the loop."""
    while descriptors() > than:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0.01)


async def test_many_connections_come_and_go(where: str | int, server: Server) -> None:
    async def one(number: int) -> None:
        client = await Client.greeted(where)
        client.ask(number, b"x" * number)
        assert await client.receive() == Response(number, b"x" * number)
        client.close()

    for _ in range(2):
        await asyncio.gather(*(one(number) for number in range(150)))
    assert len(server.control.conversations) == 300
    for conversation in server.control.conversations:
        await asyncio.wait_for(conversation.gone.wait(), PATIENCE)
    assert not server.transport._links


# ------------------------------------------------------------------------------------------ choice of adapter


async def test_another_picows_takes_the_plain_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda _name: "2.4.0")
    transport = Transport()
    assert "slow way" in caplog.text
    async with running(str(tmp_path / "run" / "s.sock"), transport) as server:
        await Client.greeted(server.port)
        await Client.greeted(server.path)
    with pytest.raises(ValueError, match=r"not 2\.3"):
        Transport(adapter="picows")


def test_the_installed_picows_fits() -> None:
    assert Transport()._fast


def test_an_unknown_adapter_is_refused() -> None:
    with pytest.raises(ValueError, match="choose one of auto, picows, plain"):
        Transport(adapter="telnet")

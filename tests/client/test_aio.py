"""The asyncio client against the same server."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

import pytest

from squall import exception
from squall.client.aio import AsyncioClient
from squall.client.api import ServiceRefusal, YieldItem
from squall.client.core import Credentials
from squall.wire import control
from squall.wire import messages as m
from squall.wire.values import CHUNK, InputItem, LogItem, OutputItem, Payload
from tests.client.fake_server import FakeServer, Peer, result

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from squall.client.transport import Endpoint


@asynccontextmanager
async def opened(endpoint: Endpoint) -> AsyncIterator[AsyncioClient]:
    client = AsyncioClient(endpoint, Credentials("secret"))
    try:
        await client.open(10)
        yield client
    finally:
        await client.close()


async def echo(client: AsyncioClient, data: bytes) -> bytes:
    call = client.open_call("fu-1", "unary")
    call.send([InputItem(0, Payload(data))], last=True)
    event = await call.next_async(20)
    call.close()
    assert isinstance(event, OutputItem)
    return event.outcome.payload.data


async def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        await asyncio.sleep(0.005)


def test_everything_works_over_every_transport(any_endpoint: Endpoint, server: FakeServer) -> None:
    async def main() -> None:
        async with opened(any_endpoint) as client:
            assert client.workspace == "default"
            assert (await client.request("status", control.Empty())).protocol == 1
            for size in (0, 200, 70_000, 2_000_000):
                data = os.urandom(size)
                assert await echo(client, data) == data
            data = os.urandom(5 * CHUNK + 17)
            await client.upload(hashlib.sha256(data).hexdigest(), data)
            assert await client.download(hashlib.sha256(data).hexdigest()) == data
            await asyncio.get_running_loop().run_in_executor(None, server.drop_all)
            assert await echo(client, b"after") == b"after"

    asyncio.run(main())


def test_the_start_of_a_server_has_time_of_its_own(endpoint: Endpoint, server: FakeServer) -> None:
    async def main() -> None:
        pauses = chain([1.5], repeat(0))  # once it runs, nothing is to be done
        slow = replace(endpoint, prepare=lambda: time.sleep(next(pauses)))
        client = AsyncioClient(slow, Credentials())
        await client.open(1)
        await client.close()

    asyncio.run(main())


def test_many_tasks_call_at_once(endpoint: Endpoint, server: FakeServer) -> None:
    async def main() -> None:
        async with opened(endpoint) as client:
            sent = [b"%d" % i for i in range(500)]
            assert await asyncio.gather(*[echo(client, data) for data in sent]) == sent
            await until(lambda: len(server.of(m.Received)) == 500)

    asyncio.run(main())


def test_a_generator_with_credit(endpoint: Endpoint, server: FakeServer) -> None:
    server.answer = lambda peer, inputs: peer.send(m.Yields(inputs.call, 0, 0, [Payload(b"a")]))

    def credit(peer: Peer, message: m.Credit) -> None:
        peer.send(m.Yields(message.call, 0, 1, [Payload(b"b")]), m.Outputs(message.call, [result(0)]))

    server.on[m.Credit] = credit

    async def main() -> None:
        async with opened(endpoint) as client:
            call = client.open_call("fu-1", "generator")
            call.send([InputItem(0, Payload())], last=True)
            first = await call.next_async(10)
            call.credit(0, 65)
            events = [first, await call.next_async(10), await call.next_async(10)]
            assert [e.number for e in events if isinstance(e, YieldItem)] == [0, 1]

    asyncio.run(main())


def test_a_broken_connection_is_resumed(endpoint: Endpoint, server: FakeServer) -> None:
    def answer(peer: Peer, inputs: m.Inputs) -> None:
        if server.connections == 1:
            peer.drop()
        else:
            server.answer = None
            server.inputs(peer, inputs)

    server.answer = answer
    reconnected: list[int] = []

    async def main() -> None:
        async with opened(endpoint) as client:
            client.watch.reconnected = lambda: reconnected.append(1)
            assert await echo(client, b"x") == b"x"

    asyncio.run(main())
    assert [h.session for h in server.of(m.Hello)] == ["", "se-1"]
    assert reconnected == [1]


def test_an_upload_begins_anew_after_a_broken_connection(endpoint: Endpoint, server: FakeServer) -> None:
    broken: list[int] = []

    def chunk(peer: Peer, message: m.BlobChunk) -> None:
        if message.offset == 2 * CHUNK and not broken:
            broken.append(1)
            peer.drop()
        else:
            server.chunk(peer, message)

    server.on[m.BlobChunk] = chunk
    data = os.urandom(6 * CHUNK)

    async def main() -> None:
        async with opened(endpoint) as client:
            await client.upload(hashlib.sha256(data).hexdigest(), data)

    asyncio.run(main())
    assert broken
    assert data in server.blobs.values()


def test_refusals_and_timeouts(endpoint: Endpoint, server: FakeServer) -> None:
    async def main() -> None:
        async with opened(endpoint) as client:
            with pytest.raises(ServiceRefusal):
                await client.request("app.list", control.Empty())
            server.on[m.Request] = lambda _peer, _request: None
            with pytest.raises(exception.TimeoutError, match="No answer to status"):
                await client.request("status", control.Empty(), timeout=0.02)
            del server.on[m.Request]
            server.answer = lambda _peer, _inputs: None
            call = client.open_call("fu-1", "unary")
            call.send([InputItem(0, Payload())], last=True)
            with pytest.raises(TimeoutError):
                await call.next_async(0.02)
            with pytest.raises(TimeoutError):
                await call.next_async(0)
            with pytest.raises(exception.InvalidError):
                call.next()

    asyncio.run(main())


def test_cancelling_a_task_leaves_a_working_client(endpoint: Endpoint, server: FakeServer) -> None:
    async def main() -> None:
        async with opened(endpoint) as client:
            server.answer = lambda _peer, _inputs: None
            task = asyncio.ensure_future(echo(client, b"x"))
            await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            server.answer = None
            assert await echo(client, b"after") == b"after"
            assert server.connections == 1

    asyncio.run(main())


def test_pushes_arrive_in_order(endpoint: Endpoint, server: FakeServer) -> None:
    got: list[bytes] = []

    async def main() -> None:
        async with opened(endpoint) as client:
            client.watch.logs = lambda logs: got.extend(i.data for i in logs.items)
            for i in range(200):
                items = [LogItem("ct-1", "f", 1, b"%d" % i, 0.0)]
                await asyncio.get_running_loop().run_in_executor(None, server.push, m.Logs("ap-1", items))
            await until(lambda: len(got) == 200)

    asyncio.run(main())
    assert got == [b"%d" % i for i in range(200)]


def test_a_silent_server_is_noticed(endpoint: Endpoint, server: FakeServer) -> None:
    server.heartbeat, server.answer_pings = 0.05, False

    async def main() -> None:
        async with opened(endpoint):
            await until(lambda: server.connections >= 2)

    asyncio.run(main())


def test_pings_keep_a_quiet_connection(endpoint: Endpoint, server: FakeServer) -> None:
    server.heartbeat = 0.03

    async def main() -> None:
        async with opened(endpoint):
            await until(lambda: server.peers[0].pings > 5)
            assert server.connections == 1

    asyncio.run(main())


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (m.Failure(0, "auth", "This token is not known here."), exception.AuthError),
        (m.Failure(0, "version", "Upgrade the client."), exception.VersionError),
        (m.Failure(0, "unavailable", "Still starting."), exception.ConnectionError),
    ],
)
def test_a_refused_connection_is_told_as_it_is(
    endpoint: Endpoint, server: FakeServer, failure: m.Failure, error: type[Exception]
) -> None:
    server.refuse = failure

    async def main() -> None:
        async with opened(endpoint):
            pass

    with pytest.raises(error, match=failure.message[:-1]):
        asyncio.run(main())


def test_nobody_there_is_told_with_what_to_do(endpoint: Endpoint, server: FakeServer) -> None:
    server.stop_listening()

    async def main() -> None:
        async with opened(endpoint):
            pass

    with pytest.raises(exception.ConnectionError, match=r"^Cannot reach .*Start it\.$"):
        asyncio.run(main())


def test_a_server_that_stays_away_ends_what_waits(endpoint: Endpoint, server: FakeServer) -> None:
    async def main() -> None:
        async with opened(endpoint) as client:
            client._reconnect._patience = 0.2
            server.answer = lambda _peer, _inputs: None
            waiting = asyncio.ensure_future(echo(client, b"x"))
            await asyncio.sleep(0.02)
            await asyncio.get_running_loop().run_in_executor(None, server.stop_listening)
            with pytest.raises(exception.ConnectionError, match="Cannot reach"):
                await waiting
            server.answer = None
            await asyncio.get_running_loop().run_in_executor(None, server.listen)
            assert await echo(client, b"y") == b"y"

    asyncio.run(main())


def test_close_ends_whoever_waits(endpoint: Endpoint, server: FakeServer) -> None:
    async def main() -> Any:
        async with opened(endpoint) as client:
            server.answer = lambda _peer, _inputs: None
            waiting = asyncio.ensure_future(echo(client, b"x"))
            await asyncio.sleep(0.02)
        with pytest.raises(exception.ClientClosed):
            await waiting

    asyncio.run(main())
    assert [r.method for r in server.of(m.Request)] == ["session.close"]

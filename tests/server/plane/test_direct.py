"""Direct calls, as the server sees them: which function may have one, and where its socket ends."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from squall.wire import messages as m
from squall.wire.parcels import new_socket_name
from squall.wire.values import Batching, Concurrency, InputItem, Outcome, OutputItem, Payload, RetryPolicy
from tests.server.fakes import settle, spec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from squall.server.parcels import Parcels
    from tests.server.fakes import FakeClient, World

pytestmark = pytest.mark.anyio
CALL = f"fc-{'d' * 32}"


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    with ours, theirs:
        yield ours, theirs


def lent(table: Parcels, theirs: socket.socket) -> str:
    """As a client does it, which closes its own copy."""
    name = new_socket_name()
    table.put("default", name, theirs.detach(), "a client's connection")
    return name


async def dial(client: FakeClient, function: str, blob: str, kind: str = "direct") -> None:
    client.send(m.Inputs(CALL, function, kind, [InputItem(0, Payload(blob=blob))]))
    await settle()


async def ready(world: World, client: FakeClient, node: Any, **settings: Any) -> str:
    """A function with a container that idles."""
    app = await client.app(spec(**settings))
    client.call(app.functions["f"], b"abc")
    await node.work()
    return app.functions["f"]


async def test_a_line_goes_to_the_node_and_its_calls_are_counted(
    world: World, pair: tuple[socket.socket, socket.socket]
) -> None:
    client, node = await world.client(), await world.node()
    function = await ready(world, client, node)
    table = world.plane._services.table.parcels
    name = lent(table, pair[1])
    node.hold = True
    await dial(client, function, name)
    (given,) = node.of(m.Assign)[-1].inputs
    assert (given.input, given.payload.blob) == (f"{CALL}:0", name)
    os.close(table.take("default", name))
    assert pair[0].recv(1) == b"", "and nobody else had it"
    item = OutputItem(0, Outcome("done", yields=40), 1)
    (container,) = node.containers
    node.connection.deliver(m.NodeOutputs(container, [m.NodeOutput(f"{CALL}:0", 1, item, 3.0)]))
    assert client.results(CALL)[0].yields == 40
    counted = world.plane._services.catalog.functions[function]
    assert (counted.inputs, counted.ended) == (41, 41)
    (tally,) = counted.tallies.within(0, 0)
    assert tally.ended == {"ok": 41}
    assert tally.seconds == pytest.approx(3.1)


async def test_without_a_free_container_its_caller_hears_of_it_at_once(
    world: World, pair: tuple[socket.socket, socket.socket]
) -> None:
    client, _ = await world.client(), await world.node()
    app = await client.app(spec())
    client.call(app.functions["f"], b"abc")
    await dial(client, app.functions["f"], lent(world.plane._services.table.parcels, pair[1]))
    assert client.results(CALL)[0].status == "failed"
    assert pair[0].recv(1) == b""


@pytest.mark.parametrize(
    "settings",
    [
        {"retries": RetryPolicy(1)},
        {"batching": Batching(4, 0.1)},
        {"concurrency": Concurrency(8, 4)},
        {"single_use": True},
        {"is_generator": True},
    ],
)
async def test_such_a_function_takes_no_direct_calls(
    world: World, pair: tuple[socket.socket, socket.socket], settings: dict[str, Any]
) -> None:
    client, _ = await world.client(), await world.node()
    app = await client.app(spec(**settings))
    table = world.plane._services.table.parcels
    await dial(client, app.functions["f"], lent(table, pair[1]))
    (failed,) = client.of(m.CallFailed)
    assert failed.code == "invalid"
    assert pair[0].recv(1) == b"", "its caller hears of the end on the line too"
    assert len(table) == 0


@pytest.mark.parametrize("blob", ["", new_socket_name(), "pa-" + "0" * 32], ids=["none", "socket", "memory"])
async def test_a_direct_call_needs_a_socket_that_is_there(world: World, blob: str) -> None:
    client, node = await world.client(), await world.node()
    function = await ready(world, client, node)
    await dial(client, function, blob)
    assert [failed.call for failed in client.of(m.CallFailed)] == [CALL]


async def test_no_other_call_takes_a_socket(world: World, pair: tuple[socket.socket, socket.socket]) -> None:
    client, node = await world.client(), await world.node()
    function = await ready(world, client, node)
    name = lent(world.plane._services.table.parcels, pair[1])
    await dial(client, function, name, "unary")
    assert [failed.code for failed in client.of(m.CallFailed)] == ["invalid"]
    assert pair[0].recv(1) == b""

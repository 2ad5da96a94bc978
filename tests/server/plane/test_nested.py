"""Clients inside containers: relayed frames, the container's identity, and an end with the container."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from squall.server import nested as room
from squall.wire import codec
from squall.wire import messages as m
from squall.wire.control import METHODS, AppCreate, AppInfo, AppRef, Empty, TokenNew
from squall.wire.values import PROTOCOL, InputItem, Payload
from tests.server.fakes import settle
from tests.server.plane.inside import HELLO, Inside, inside

if TYPE_CHECKING:
    from tests.server.fakes import World

pytestmark = pytest.mark.anyio

CALL = "fc-" + "c" * 32


async def test_a_nested_call_comes_home(world: World) -> None:
    node, client, functions, parent = await inside(world)
    welcome = await client.hello()
    assert (welcome.workspace, welcome.environment) == ("default", "dev")
    client.send(m.Inputs(CALL, functions["g"], "unary", [InputItem(0, Payload(b"abc"))], parent=parent))
    await node.work()
    assert world.plane._services.table.calls[CALL].parent == parent
    node.finish(f"{CALL}:0")
    (outputs,) = client.got(m.Outputs)
    assert outputs.items[0].outcome.payload.data == b"cba"


async def test_a_container_asks_for_its_own_app(world: World) -> None:
    """Without an id: who asks is known. Others name theirs."""
    _, client, functions, _ = await inside(world)
    await client.hello()
    client.send(m.Request(1, "app.get", codec.pack(AppRef(""))))
    await settle()
    (response,) = client.got(m.Response)
    info: AppInfo = codec.unpack(response.body, METHODS["app.get"][1])
    assert info.functions == functions
    outside = await world.client(environment="dev")
    assert (await outside.ask("app.get", AppRef(""))).code == "not_found"


async def test_children_are_cancelled_with_their_parent(world: World) -> None:
    node, client, functions, parent = await inside(world)
    await client.hello()
    client.send(m.Inputs(CALL, functions["g"], "unary", [InputItem(0, Payload(b"abc"))], parent=parent))
    await node.work()
    node.finish(parent)
    await node.work()
    assert client.got(m.Outputs)[0].items[0].outcome.status == "cancelled"


async def test_a_foreign_input_is_no_parent(world: World) -> None:
    node, client, functions, _parent = await inside(world)
    await client.hello()
    client.send(m.Inputs(CALL, functions["g"], "unary", [InputItem(0, Payload())], parent="fc-other:0"))
    await node.work()
    assert world.plane._services.table.calls[CALL].parent == ""


async def test_it_ends_with_its_container(world: World) -> None:
    node, client, functions, parent = await inside(world)
    await client.hello()
    client.send(m.Inputs(CALL, functions["g"], "unary", [InputItem(0, Payload(b"abc"))], parent=parent))
    await node.work()
    node.end(client.container, "oom")
    await node.work()
    assert CALL not in world.plane._services.table.calls
    assert not [s for s in world.plane._services.sessions.sessions.values() if s.container]


async def test_it_comes_back_through_its_nodes_new_connection(world: World) -> None:
    node, client, functions, parent = await inside(world)
    welcome = await client.hello()
    client.send(m.Inputs(CALL, functions["g"], "unary", [InputItem(0, Payload(b"abc"))], parent=parent))
    await node.work()
    node.connection.close()
    await node.connect()
    node.finish(f"{CALL}:0")
    client.send(m.Hello(PROTOCOL, "client", "0", session=welcome.session))
    await settle()
    assert client.got(m.Welcome)[0].session == welcome.session
    assert client.got(m.Outputs)[0].items[0].outcome.payload.data == b"cba"


async def test_it_is_no_administrator(world: World) -> None:
    _node, client, _functions, _parent = await inside(world)
    await client.hello()
    client.send(m.Request(1, "token.new", codec.pack(TokenNew())))
    await settle()
    assert [f.code for f in client.got(m.Failure)] == ["auth"]
    assert METHODS["token.new"][0] is TokenNew


async def test_it_cannot_be_a_node(world: World) -> None:
    _node, client, _functions, _parent = await inside(world)
    client.send(m.Hello(PROTOCOL, "node", "0"))
    await settle()
    assert [f.code for f in client.got(m.Failure)] == ["auth"]


async def test_its_own_apps_are_in_its_environment(world: World) -> None:
    _node, client, _functions, _parent = await inside(world)
    await client.hello()
    client.send(m.Request(1, "app.create", codec.pack(AppCreate("inner"))))
    client.send(m.Request(2, "session.close", codec.pack(Empty())))
    await settle()
    records = [a for a in await world.store.apps() if a.name == "inner"]
    assert [(a.environment, a.state) for a in records] == [("dev", "stopped")]


@pytest.mark.parametrize("data", [b"\0", b"\0\0\0\x05\x04", b"garbage" * 10])
async def test_garbage_ends_that_connection_only(world: World, data: bytes) -> None:
    node, client, _functions, _parent = await inside(world)
    await client.hello()
    node.send(m.Nested(client.container, 1, data))
    assert client.closed
    assert not node.connection.closed
    assert (await Inside(node, client.container, 2).hello()).workspace == "default"


async def test_containers_of_others_and_too_many_are_refused(world: World) -> None:
    node, client, _functions, _parent = await inside(world)
    stranger = Inside(node, "ct-stranger")
    stranger.send(HELLO)
    assert stranger.closed
    for number in range(2, room.MAX_CONNECTIONS + 3):
        Inside(node, client.container, number).send(HELLO)
    assert Inside(node, client.container, room.MAX_CONNECTIONS + 2).closed
    assert not Inside(node, client.container, room.MAX_CONNECTIONS).closed

"""Who may come in, who comes back, and what ends with a client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from squall.server.connection import Peer
from squall.wire import codec
from squall.wire import messages as m
from squall.wire.control import AppCreate, AppPublish, AppRef, Empty
from squall.wire.values import PROTOCOL
from tests.server.fakes import IMAGE, RECIPE, payloads, settle, spec

if TYPE_CHECKING:
    from tests.server.fakes import World

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("protocol", "role", "ending"),
    [
        (PROTOCOL + 1, "client", "upgrade the server"),
        (PROTOCOL - 1, "client", "upgrade the client"),
        (PROTOCOL - 1, "node", "upgrade the node"),
    ],
)
async def test_another_protocol_is_named_with_a_remedy(
    world: World, protocol: int, role: str, ending: str
) -> None:
    connection = world.connect()
    connection.deliver(m.Hello(protocol, role, "9.9.9"))
    await settle()
    (failure,) = connection.sent
    assert (failure.id, failure.code) == (0, "version")
    assert "9.9.9" in failure.message
    assert failure.message.endswith(ending)
    assert "\n" not in failure.message
    assert connection.closed


@pytest.mark.parametrize("token", ["", "sq-wrong"])
async def test_over_tcp_a_token_is_needed(world: World, token: str) -> None:
    connection = world.connect(Peer("tcp", address="192.0.2.1"))
    connection.deliver(m.Hello(PROTOCOL, "client", "0", token))
    await settle()
    assert [f.code for f in connection.sent] == ["auth"]
    assert connection.closed


async def test_a_token_names_its_workspace(world: World) -> None:
    client = await world.client()
    await client.connect(Peer("tcp", address="192.0.2.1"), token=await world.token("team"), session="")
    assert client.welcome is not None
    assert client.welcome.workspace == "team"


async def test_a_bad_environment_is_refused(world: World) -> None:
    client = await world.client(environment="../etc")
    assert client.welcome is None
    assert [f.code for f in client.of(m.Failure)] == ["invalid"]


@pytest.mark.parametrize("message", [m.Received("fc-x", []), m.Heartbeat(1)])
async def test_the_first_message_is_hello(world: World, message: object) -> None:
    connection = world.connect()
    connection.deliver(message)
    await settle()
    assert [f.code for f in connection.sent] == ["invalid"]
    assert connection.closed


async def test_who_says_nothing_is_shown_the_door(world: World) -> None:
    connection = world.connect()
    await world.clock.advance(11)
    assert connection.closed


async def test_early_messages_are_not_lost(world: World) -> None:
    connection = world.connect()
    connection.deliver(m.Hello(PROTOCOL, "client", "0"), m.Request(1, "status", codec.pack(Empty())))
    await settle()
    assert [type(s) for s in connection.sent] == [m.Welcome, m.Response]


async def test_a_client_that_comes_back_gets_what_it_missed(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec())
    call = client.call(app.functions["f"], b"abc")
    await node.work()
    before = client.welcome
    client.vanish()
    node.finish(f"{call}:0")
    await world.clock.advance(29)
    await client.connect()
    assert client.welcome is not None
    assert before is not None
    assert client.welcome.session == before.session
    assert payloads(client.results(call)) == {0: b"cba"}
    await world.clock.advance(60)
    assert (await client.ask("app.get", AppRef(app.app))).state == "ephemeral"


async def test_a_newer_connection_replaces_the_older(world: World) -> None:
    client = await world.client()
    old = client.connection
    await client.connect()
    assert old.closed
    assert (await client.ask("status")).workspace == "default"


async def test_a_vanished_client_leaves_nothing_running(world: World) -> None:
    client, node, other = await world.client(), await world.node(), await world.client()
    node.hold = True
    app = await client.app(spec())
    call = client.call(app.functions["f"], b"abc")
    await node.work()
    client.vanish()
    await world.clock.advance(29)
    await node.work()
    assert len(node.containers) == 1
    await world.clock.advance(2)
    await node.work()
    assert node.containers == {}
    assert node.of(m.Revoke)[0].inputs == [(f"{call}:0", 1)]
    assert (await other.ask("app.get", AppRef(app.app))).code == "not_found"
    assert world.plane._services.table.inputs == {}


async def test_a_polite_end_needs_no_grace(world: World) -> None:
    client, node = await world.client(), await world.node()
    app = await client.app(spec())
    client.call(app.functions["f"], b"abc")
    await node.work()
    await client.ask("session.close")
    await node.work()
    assert node.containers == {}
    assert (await world.store.app(app.app)).state == "stopped"


async def test_a_detached_app_outlives_its_client_until_its_work_is_done(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    created = await client.ask("app.create", AppCreate("job", detach=True))
    app = await client.ask("app.publish", AppPublish(created.id, [spec()], {IMAGE: RECIPE}))
    call = client.call(app.functions["f"], b"abc", durable=True)
    await node.work()
    await client.ask("session.close")
    await world.clock.advance(60)
    await node.work()
    assert f"{call}:0" in node.inputs
    node.finish(f"{call}:0")
    await settle()
    assert await world.store.call_size(call) == (1, 1)
    assert (await world.store.app(app.app)).state == "stopped"


async def test_another_workspaces_session_is_not_taken(world: World) -> None:
    victim = await world.client()
    assert victim.welcome is not None
    thief = await world.client("other", session=victim.welcome.session)
    assert thief.welcome is not None
    assert thief.welcome.session != victim.welcome.session
    assert not victim.connection.closed


async def test_a_request_that_is_repeated_is_answered_once_and_again(world: World) -> None:
    client = await world.client()
    request = m.Request(7, "app.create", codec.pack(AppCreate("demo")))
    client.send(request)
    client.vanish()
    await settle()
    await client.connect()
    client.send(request)
    await settle()
    assert len(client.of(m.Response)) == 1
    assert len((await client.ask("app.list")).apps) == 1


async def test_an_unknown_method_and_a_bad_body(world: World) -> None:
    client = await world.client()
    client.send(m.Request(100, "app.explode"), m.Request(101, "app.create", b"\xc1"))
    await settle()
    assert {f.id: f.code for f in client.of(m.Failure)} == {100: "invalid", 101: "invalid"}


async def test_a_message_of_another_role_ends_the_connection(world: World) -> None:
    client = await world.client()
    client.send(m.Heartbeat(1))
    assert client.connection.closed

"""Versions of an app, calls of a function, and containers that their user stops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from squall.wire.control import AppRef, AppRollback, CallsQuery, ContainerRef, Empty, FunctionLookup
from squall.wire.values import Outcome
from tests.server.fakes import payloads, spec

if TYPE_CHECKING:
    from tests.server.fakes import World

pytestmark = pytest.mark.anyio


async def test_history_is_kept(world: World) -> None:
    client = await world.client()
    await client.app(spec("f"), deploy=True, tag="first")
    await world.clock.advance(60)
    app = (await client.app(spec("f"), spec("g"), deploy=True)).app
    await world.restart()
    client = await world.client()
    for named in (app, "demo"):
        second, first = (await client.ask("app.history", AppRef(named))).versions
        assert (first.version, first.tag, first.functions) == (1, "first", ["f"])
        assert (second.version, second.tag, second.functions) == (2, "", ["f", "g"])
        assert second.created - first.created >= 60
    stranger = await world.client("other")
    assert (await stranger.ask("app.history", AppRef(app))).code == "not_found"


async def test_rolling_back(world: World) -> None:
    client, node = await world.client(), await world.node()
    await client.app(spec("f", timeout=1.0), deploy=True, tag="good", tags={"team": "a"})
    app = (await client.app(spec("f", timeout=2.0), spec("g"), deploy=True)).app
    published = await client.ask("app.rollback", AppRollback("demo"))
    assert (published.app, published.version, list(published.functions)) == (app, 3, ["f"])
    client.call(published.functions["f"], b"x")
    await node.work()
    assert [start.function.timeout for start in node.containers.values()] == [1.0]
    found = await client.ask("app.get", AppRef(app))
    assert (found.tag, found.tags) == ("good", {"team": "a"})
    forward = await client.ask("app.rollback", AppRollback(app, 2))
    assert (forward.version, sorted(forward.functions)) == (4, ["f", "g"])
    assert (await client.ask("function.lookup", FunctionLookup("demo", "f"))).id == forward.functions["f"]


@pytest.mark.parametrize("version", [-1, 2, 3, 1 << 60])
async def test_there_is_nothing_to_roll_back_to(world: World, version: int) -> None:
    client = await world.client()
    await client.app(spec(), deploy=True)
    await client.app(spec(), deploy=True)
    assert (await client.ask("app.rollback", AppRollback("demo", version))).code == "not_found"


async def test_what_cannot_be_rolled_back(world: World) -> None:
    client = await world.client()
    ephemeral = await client.app(spec())
    assert (await client.ask("app.rollback", AppRollback(ephemeral.app, 1))).code == "invalid"
    await client.app(spec(), deploy=True)
    assert (await client.ask("app.rollback", AppRollback("demo"))).code == "not_found"
    await client.app(spec(), deploy=True)
    assert (await client.ask("app.rollback", AppRollback("demo", 1, "sideways"))).code == "invalid"
    stranger = await world.client("other")
    assert (await stranger.ask("app.rollback", AppRollback("demo", 1))).code == "not_found"


async def test_calls_of_a_function(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    function = (await client.app(spec("f"), spec("g"), deploy=True)).functions["f"]
    spawned = client.call(function, b"a", b"b", durable=True)
    await node.work()
    node.finish(f"{spawned}:0")
    await node.work()
    await world.clock.advance(1)
    live = client.call(function, b"c")
    await node.work()
    query = CallsQuery("demo", "f")
    newest, oldest = (await client.ask("call.list", query)).calls
    assert (newest.id, newest.state, newest.done, newest.inputs, newest.durable) == (
        live,
        "running",
        0,
        1,
        False,
    )
    assert (oldest.id, oldest.state, oldest.done, oldest.inputs, oldest.durable) == (
        spawned,
        "running",
        1,
        2,
        True,
    )
    node.finish(f"{spawned}:1", Outcome("exception"))
    node.finish(f"{live}:0")
    await node.work()
    newest, oldest = (await client.ask("call.list", query)).calls
    assert (newest.state, newest.done) == ("done", 1)  # its client has not taken the result yet
    assert (oldest.state, oldest.done) == ("done", 2)
    assert (await client.ask("call.list", CallsQuery("demo", "g"))).calls == []
    assert len((await client.ask("call.list", CallsQuery("demo", "f", 0))).calls) == 1
    stranger = await world.client("other")
    assert (await stranger.ask("call.list", query)).code == "not_found"


async def test_a_stopped_containers_inputs_run_again(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    call = client.call((await client.app(spec())).functions["f"], b"abc")
    await node.work()
    (container,) = node.containers
    stranger = await world.client("other")
    for name, who in ((container, stranger), ("ct-none", client)):
        assert (await who.ask("container.stop", ContainerRef(name))).code == "not_found"
    assert node.stopped == []
    node.hold = False
    assert await client.ask("container.stop", ContainerRef(container)) == Empty()
    await node.work()
    assert [order.container for order in node.stopped] == [container]
    assert payloads(client.results(call)) == {0: b"cba"}

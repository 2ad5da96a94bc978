"""Progress: counts of inputs and containers for those who follow an app, bounded in rate and size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from squall.server import progress
from squall.server.progress import INTERVAL
from squall.wire import messages as m
from squall.wire.control import AppRef
from squall.wire.values import Outcome
from tests.server.fakes import FakeClient, FakeNode, settle, spec

if TYPE_CHECKING:
    from squall.wire.values import FunctionProgress
    from tests.server.fakes import World

pytestmark = pytest.mark.anyio


async def start(world: World) -> tuple[FakeClient, FakeNode, str, str]:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec())
    await client.ask("progress.follow", AppRef(app.app))
    return client, node, app.app, app.functions["f"]


async def latest(world: World, client: FakeClient) -> FunctionProgress:
    await world.clock.advance(2 * INTERVAL)
    return client.of(m.Progress)[-1].functions[0]


async def test_inputs_and_containers_are_counted(world: World) -> None:
    client, node, app, function = await start(world)
    node.starts = False
    call = client.call(function, b"a", b"b", b"c", last=False)
    await node.work()
    seen = await latest(world, client)
    assert (seen.function, seen.inputs, seen.ended, seen.more) == ("f", 3, 0, True)
    assert (seen.starting, seen.busy, seen.running) == (len(node.containers), 0, 0)
    for container in node.started:
        node.send(m.ContainerState(container, "ready"))
    await node.work()
    seen = await latest(world, client)
    assert (seen.starting, seen.busy, seen.running) == (0, len(node.containers), len(node.containers))
    node.finish(f"{call}:0", Outcome("failed"))
    node.finish(f"{call}:1")
    await node.work()
    seen = await latest(world, client)
    assert (seen.inputs, seen.ended, seen.failed) == (3, 2, 1)
    assert client.of(m.Progress)[-1].app == app


async def test_the_reason_to_wait_is_told_and_taken_back(world: World) -> None:
    client = await world.client()
    app = await client.app(spec())
    await client.ask("progress.follow", AppRef(app.app))
    client.call(app.functions["f"], b"a")
    assert (await latest(world, client)).waiting == "no node is connected"
    node = await world.node()
    await node.work()
    assert (await latest(world, client)).waiting == ""


async def test_many_changes_are_one_message(world: World) -> None:
    client, node, _, function = await start(world)
    node.hold = False
    for _ in range(100):
        client.call(function, b"a")
        await node.work()
    assert client.of(m.Progress) == []
    assert (await latest(world, client)).ended == 100
    assert len(client.of(m.Progress)) == 1
    await world.clock.advance(10)
    assert len(client.of(m.Progress)) <= 2, "an idle container may have ended; nothing else is told"


async def test_asking_again_tells_at_once(world: World) -> None:
    client, node, app, function = await start(world)
    node.hold = False
    client.call(function, b"a")
    await node.work()
    assert client.of(m.Progress) == []
    await client.ask("progress.follow", AppRef(app))
    assert client.of(m.Progress)[-1].functions[0].ended == 1


async def test_the_number_of_functions_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "MAX_FUNCTIONS", 2)
    client, _ = await world.client(), await world.node()
    app = await client.app(*(spec(name) for name in "abcd"))
    await client.ask("progress.follow", AppRef(app.app))
    for function in app.functions.values():
        client.call(function, b"x")
    await world.clock.advance(2 * INTERVAL)
    assert [f.function for f in client.of(m.Progress)[-1].functions] == ["a", "b"]


async def test_only_the_workspaces_own_apps(world: World) -> None:
    _, _, app, _ = await start(world)
    stranger = await world.client(environment="other")
    refused = await stranger.ask("progress.follow", AppRef(app))
    assert isinstance(refused, m.Failure)
    assert refused.code == "not_found"


async def test_who_has_gone_is_forgotten(world: World) -> None:
    client, node, _, function = await start(world)
    await client.ask("session.close")
    other = await world.client()
    app = await other.app(spec())
    other.call(app.functions["f"], b"x")
    await node.work()
    await world.clock.advance(1)
    await settle()
    assert client.of(m.Progress) == []
    assert function != app.functions["f"]

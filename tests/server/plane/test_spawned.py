"""Spawned maps and call graphs: what is stored, what is sent to whom, what is remembered of nested calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from squall.server.connection import Peer
from squall.server.lineage import Lineage
from squall.wire import messages as m
from squall.wire.batches import outputs_of
from squall.wire.control import CallRef
from squall.wire.values import Outcome, OutputItem, Payload
from tests.server.fakes import FakeClient, payloads, settle, spec

if TYPE_CHECKING:
    from tests.server.fakes import FakeNode, World

pytestmark = pytest.mark.anyio


async def inside(world: World, container: str) -> FakeClient:
    """The client of a program inside a container."""
    client = FakeClient(world)
    await client.connect(Peer("container", container=container))
    return client


async def graph(client: FakeClient, call: str) -> list[tuple[str, str, str, str]]:
    found = await client.ask("call.graph", CallRef(call))
    return [(each.input, each.parent, each.function, each.status) for each in found.inputs]


async def test_who_spawns_a_map_is_not_sent_its_results(world: World) -> None:
    client, node = await world.client(), await world.node()
    app = await client.app(spec(), deploy=True)
    call = client.call(app.functions["f"], b"ab", b"cd", b"ef", durable=True)
    await node.work()
    assert [a.upto for a in client.of(m.Accepted)] == [3]
    assert client.results(call) == {}
    client.send(m.Attach(call, 1, 2))
    await settle()
    assert payloads(client.results(call)) == {1: b"dc"}


async def test_stored_results_are_sent_in_messages_of_a_bounded_size(world: World) -> None:
    client, node = await world.client(), await world.node()
    app = await client.app(spec(), deploy=True)
    call = client.call(app.functions["f"], *([bytes(600_000)] * 5), durable=True)
    await node.work()
    client.send(m.Attach(call, 0))
    await settle()
    assert len(client.results(call)) == 5
    assert [len(message.items) for message in client.of(m.Outputs)] == [2, 2, 1]


async def test_how_far_a_call_is(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec(), deploy=True)
    call = client.call(app.functions["f"], b"a", b"b", durable=True, last=False)
    await node.work()
    node.finish(f"{call}:1")
    await settle()
    info = await client.ask("call.get", CallRef(call, 1))
    assert (info.inputs, info.done, info.complete, info.ready) == (2, 1, False, True)
    assert not (await client.ask("call.get", CallRef(call, 0))).ready
    client.call(app.functions["f"], call=call, durable=True, kind="map")
    await settle()
    assert (await client.ask("call.get", CallRef(call))).complete


async def test_a_call_without_inputs(world: World) -> None:
    client = await world.client()
    app = await client.app(spec(), deploy=True)
    call = client.call(app.functions["f"], durable=True, kind="map")
    await settle()
    assert [a.upto for a in client.of(m.Accepted)] == [0]
    assert (await client.ask("call.get", CallRef(call))).inputs == 0
    assert world.plane._services.table.calls == {}


async def test_what_a_vanished_client_had_spawned_is_what_the_call_is(world: World) -> None:
    client, node = await world.client(), await world.node()
    app = await client.app(spec(), deploy=True)
    call = client.call(app.functions["f"], b"ab", b"cd", durable=True, last=False)
    await node.work()
    client.vanish()
    await world.clock.advance(31)
    assert world.plane._services.table.calls == {}
    late = await world.client()
    info = await late.ask("call.get", CallRef(call))
    assert (info.inputs, info.done, info.complete) == (2, 2, True)


async def test_after_a_restart_a_call_waits_for_its_client_and_not_forever(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec(), deploy=True)
    left = client.call(app.functions["f"], b"ab", b"xy", durable=True, last=False)
    kept = client.call(app.functions["f"], b"cd", b"uv", durable=True, last=False)
    await node.work()
    await world.restart()
    await client.connect()
    client.call(app.functions["f"], b"ef", call=kept, start=2, durable=True, last=False, kind="map")
    await settle()
    await world.clock.advance(31)
    complete = {c: (await client.ask("call.get", CallRef(c))).complete for c in (left, kept)}
    assert complete == {left: True, kept: False}


async def outer_and_inner(world: World) -> tuple[FakeClient, FakeNode, Any, str, str]:
    """A spawned call whose input has made another call; both run."""
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec("outer"), spec("inner"), deploy=True)
    call = client.call(app.functions["outer"], b"a", durable=True)
    await node.work()
    nested = await inside(world, node.started[0])
    child = nested.call(app.functions["inner"], b"x", b"y", parent=f"{call}:0")
    await node.work()
    return client, node, nested, call, child


async def test_the_graph_of_a_call_that_runs(world: World) -> None:
    client, node, _nested, call, child = await outer_and_inner(world)
    root = f"{call}:0"
    node.finish(f"{child}:0", Outcome("exception"))
    await settle()
    assert await graph(client, call) == [
        (root, "", "outer", "pending"),
        (f"{child}:0", root, "inner", "exception"),
        (f"{child}:1", root, "inner", "pending"),
    ]
    found = await client.ask("call.graph", CallRef(call))
    assert found.inputs[0].container == node.started[0]
    assert found.inputs[1].module == "demo"
    assert (await graph(client, child))[0] == (f"{child}:0", "", "inner", "exception")


async def test_the_graph_outlives_the_calls(world: World) -> None:
    client, node, nested, call, child = await outer_and_inner(world)
    for input_id in (f"{child}:0", f"{child}:1", f"{call}:0"):
        node.finish(input_id)
        await settle()
    nested.send(m.Received(child, [0, 1]))
    await settle()
    assert world.plane._services.table.calls == {}
    assert [each[3] for each in await graph(client, call)] == ["ok", "ok", "ok"]


async def test_after_a_restart_spawned_calls_are_in_the_graph(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec("outer"), spec("inner"), deploy=True)
    call = client.call(app.functions["outer"], b"a", durable=True)
    await node.work()
    nested = await inside(world, node.started[0])
    child = nested.call(app.functions["inner"], b"x", durable=True, parent=f"{call}:0")
    await node.work()
    node.finish(f"{child}:0")
    await settle()
    await world.restart()
    late = await world.client()
    assert await graph(late, call) == [
        (f"{call}:0", "", "outer", "pending"),
        (f"{child}:0", f"{call}:0", "inner", "ok"),
    ]


async def test_another_workspace_sees_no_graph(world: World) -> None:
    _, _, _, call, child = await outer_and_inner(world)
    stranger = await world.client("other")
    for each in (call, child, "fc-0123456789abcdef"):
        refused = await stranger.ask("call.graph", CallRef(each))
        assert (type(refused), refused.code) == (m.Failure, "not_found")


async def test_lineage_is_bounded(world: World) -> None:
    client = await world.client()
    app = await client.app(spec(), deploy=True)
    lineage = world.plane._services.table.lineage = Lineage(limit=3)
    calls = [client.call(app.functions["f"], b"x", durable=True) for _ in range(5)]
    await settle()
    assert [lineage.call(call) is not None for call in calls] == [False, False, True, True, True]


def test_outputs_are_split_by_size() -> None:
    items = [OutputItem(n, Outcome("ok", Payload(bytes(400_000)))) for n in range(5)]
    assert [len(message.items) for message in outputs_of("fc-1", items)] == [3, 2]
    assert outputs_of("fc-1", []) == []

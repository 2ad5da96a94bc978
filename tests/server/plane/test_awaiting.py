"""An input that waits for a call of its own lends its CPU to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from squall.wire import messages as m
from squall.wire.values import PROTOCOL, InputItem, Payload
from tests.server.plane.inside import inside

if TYPE_CHECKING:
    from tests.server.fakes import World
    from tests.server.plane.inside import Inside

pytestmark = pytest.mark.anyio

CALL = "fc-" + "c" * 32


def call(client: Inside, function: str, parent: str, *, durable: bool = False) -> None:
    items = [InputItem(0, Payload(b"abc"))]
    client.send(m.Inputs(CALL, function, "unary", items, durable=durable, parent=parent))


def waiting(world: World) -> set[str]:
    return {i for c in world.plane._services.scheduler.containers().values() for i in c.waiting}


async def test_while_the_call_is_unfinished(world: World) -> None:
    """One core, which the parent's container has."""
    node, client, functions, parent = await inside(world, 1000)
    await client.hello()
    call(client, functions["g"], parent)
    await node.work()
    assert waiting(world) == {parent}
    assert f"{CALL}:0" in node.inputs
    node.finish(f"{CALL}:0")
    assert client.got(m.Outputs)
    assert not waiting(world)


async def test_a_spawned_call_only_when_its_result_is_wanted(world: World) -> None:
    node, client, functions, parent = await inside(world, 1000)
    await client.hello()
    call(client, functions["g"], parent, durable=True)
    await node.work()
    assert client.got(m.Accepted)
    assert not waiting(world)
    assert f"{CALL}:0" not in node.inputs
    client.send(m.Attach(CALL, 0, 1, parent))
    await node.work()
    assert waiting(world) == {parent}
    assert f"{CALL}:0" in node.inputs


@pytest.mark.parametrize(("start", "end", "waits"), [(0, 0, False), (1, 1 << 60, False), (0, None, True)])
async def test_what_of_a_call_is_wanted(world: World, start: int, end: int | None, waits: bool) -> None:
    node, client, functions, parent = await inside(world, 1000)
    await client.hello()
    call(client, functions["g"], parent, durable=True)
    await node.work()
    client.send(m.Attach(CALL, start, end, parent))
    await node.work()
    assert waiting(world) == ({parent} if waits else set())


async def test_nobody_waits_in_the_name_of_others(world: World) -> None:
    node, client, functions, parent = await inside(world)
    await client.hello()
    outside = await world.client(environment="dev")
    other = outside.call(functions["g"], b"x")
    await node.work()
    client.send(m.Attach(CALL, 0, None, f"{other}:0"))
    outside.send(m.Attach(other, 0, None, parent))
    await node.work()
    assert not waiting(world)


async def test_after_a_restart_of_the_server(world: World) -> None:
    """The client in the container says again what it waits for; the call ends with its parent as before."""
    node, client, functions, parent = await inside(world)
    welcome = await client.hello()
    call(client, functions["g"], parent)
    await node.work()
    await world.restart()
    await node.connect()
    assert not waiting(world)
    client.send(m.Hello(PROTOCOL, "client", "0", session=welcome.session))
    call(client, functions["g"], parent)
    await node.work()
    assert waiting(world) == {parent}
    node.finish(parent)
    await node.work()
    assert f"{CALL}:0" not in node.inputs, "its parent has ended"

"""The machine's clock is set by an hour, forth and back: only what is shown to people knows of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from squall.wire import messages as m
from tests.server.fakes import spec

if TYPE_CHECKING:
    from tests.server.fakes import World

pytestmark = pytest.mark.anyio

HOUR = 3600.0


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
async def test_what_runs_goes_on_and_results_are_kept(world: World, jump: float) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec("f"))
    spawned = client.call(app.functions["f"], b"ab", durable=True)
    waited = client.call(app.functions["f"], b"cd")
    await node.work()
    world.clock.jump(jump)
    await world.clock.advance(20.0)
    node.finish(f"{spawned}:0")
    node.finish(f"{waited}:0")
    await node.work()
    assert [client.results(c)[0].payload.data for c in (spawned, waited)] == [b"ba", b"dc"]
    world.clock.jump(-jump)
    later = await world.client()
    later.send(m.Attach(spawned))
    await node.work()
    assert later.results(spawned)[0].payload.data == b"ba"
    assert world.plane._services.nodes.nodes.keys() == {"no-1"}


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
async def test_while_the_server_was_away(world: World, jump: float) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec("f"), deploy=True)
    call = client.call(app.functions["f"], b"ab", durable=True)
    await node.work()
    world.clock.jump(jump)
    await world.restart()
    await node.connect()
    node.finish(f"{call}:0")
    await node.work()
    later = await world.client()
    later.send(m.Attach(call))
    await node.work()
    assert later.results(call)[0].payload.data == b"ba"


async def test_a_node_is_lost_by_its_silence_alone(world: World) -> None:
    node = await world.node()
    node.beating = False
    world.clock.jump(HOUR)
    await world.clock.advance(20.0)
    assert world.plane._services.nodes.nodes
    world.clock.jump(-2 * HOUR)
    await world.clock.advance(20.0)
    assert not world.plane._services.nodes.nodes


async def test_a_server_that_slept_hears_its_nodes_first(world: World) -> None:
    """It was stopped for an hour, or its machine was: all leases seem to be over when it wakes."""
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec("f"))
    call = client.call(app.functions["f"], b"ab")
    await node.work()
    node.beating = False
    world.clock.time += HOUR
    await world.clock.advance(1.0)
    node.send(m.Heartbeat(2))
    node.finish(f"{call}:0")
    await node.work()
    assert client.results(call)[0].payload.data == b"ba"
    assert len(node.started) == 1
    await world.clock.advance(world.settings.lease + 6.0)
    assert not world.plane._services.nodes.nodes, "who stays silent is lost all the same"

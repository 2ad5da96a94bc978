"""Before its end the server lets what is under way come home, and nobody new in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from squall.wire import messages as m
from squall.wire.values import PROTOCOL
from tests.server.fakes import spec

if TYPE_CHECKING:
    from tests.server.fakes import World

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("durable", [False, True])
async def test_it_waits_for_what_runs(world: World, *, durable: bool) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec("f"))
    call = client.call(app.functions["f"], b"ab", durable=durable)
    await node.work()
    done: list[bool] = []
    world.plane.drain(lambda: done.append(True))
    world.plane.drain(lambda: done.append(False))
    await world.clock.advance(5.0)
    assert not done
    node.finish(f"{call}:0")
    await world.clock.advance(1.0)
    assert done == [True]
    assert client.results(call)[0].payload.data == b"ba"


async def test_it_does_not_wait_for_spawned_calls_that_have_not_begun(world: World) -> None:
    client = await world.client()
    app = await client.app(spec("f"))
    client.call(app.functions["f"], b"ab", durable=True)
    await world.clock.advance(0.1)
    done: list[bool] = []
    world.plane.drain(lambda: done.append(True))
    await world.clock.advance(1.0)
    assert done == [True]


async def test_who_is_in_may_come_back_and_nobody_new(world: World) -> None:
    client, node = await world.client(), await world.node()
    app = await client.app(spec("f"))
    client.call(app.functions["f"], b"ab")
    world.plane.drain(lambda: None)
    client.vanish()
    await client.connect()
    assert not client.of(m.Failure)
    stranger = world.connect()
    stranger.deliver(m.Hello(PROTOCOL, "client", "0"))
    await node.work()
    (failure,) = [x for x in stranger.sent if isinstance(x, m.Failure)]
    assert failure.code == "unavailable"


async def test_who_is_in_may_call_on(world: World) -> None:
    """What is under way is seldom whole without it: a map that is fed, an input that calls others."""
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec("f"))
    first = client.call(app.functions["f"], b"ab")
    await node.work()
    done: list[bool] = []
    world.plane.drain(lambda: done.append(True))
    second = client.call(app.functions["f"], b"cd")
    await node.work()
    node.finish(f"{first}:0")
    await node.work()
    await world.clock.advance(1.0)
    assert not done, "somebody waits for the second"
    node.finish(f"{second}:0")
    await world.clock.advance(1.0)
    assert done == [True]
    assert client.results(second)[0].payload.data == b"dc"

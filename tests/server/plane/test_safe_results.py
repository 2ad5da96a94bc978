"""A result is safe before its node may forget it, and whoever has it is believed after a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from squall.store.base import StoreError
from squall.wire import messages as m
from squall.wire.values import Outcome, OutputItem, Payload
from tests.server.fakes import payloads, settle, spec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from squall.store.base import OutputRecord
    from tests.server.fakes import World

pytestmark = pytest.mark.anyio


async def full(_records: Sequence[OutputRecord], *, lazy: bool) -> None:
    raise StoreError("the disk is full")


def said_again(container: str, item: m.NodeInput) -> m.NodeOutputs:
    """As an agent does after each announcement, until it hears that the output is safe."""
    output = OutputItem(0, Outcome("ok", Payload(b"cba", size=3)), item.attempt)
    return m.NodeOutputs(container, [m.NodeOutput(item.input, item.attempt, output, 0.1)])


async def test_a_result_that_is_said_again_is_not_safe_for_that(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec(), deploy=True)
    call = client.call(app.functions["f"], b"abc", durable=True)
    await node.work()
    running = dict(node.inputs)
    container, item = running[f"{call}:0"]
    monkeypatch.setattr(world.store, "add_outputs", full)
    node.finish(f"{call}:0")
    await settle()
    node.connection.close()
    node.inputs = running
    await node.connect()
    node.send(said_again(container, item))
    await settle()
    await world.clock.advance(1.0)
    assert node.acknowledged() == set(), "the disk is still full"
    assert node.of(m.Assign) == [], "nor is it run again"


@pytest.mark.parametrize("lives", [True, False])
async def test_a_result_from_before_the_servers_restart_counts(world: World, *, lives: bool) -> None:
    """Also that of a container which has ended since: its node announces it for as long as it has results."""
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec(), deploy=True)
    call = client.call(app.functions["f"], b"abc", durable=True)
    await node.work()
    container, item = node.inputs[f"{call}:0"]
    await world.restart()
    await node.connect()
    node.send(said_again(container, item))
    if not lives:
        node.end(container, "stopped")
    await world.clock.advance(1.0)
    assert node.acknowledged() == {(item.input, item.attempt)}
    await world.clock.advance(15.0)
    await node.work()
    assert node.of(m.Assign) == []
    later = await world.client()
    later.send(m.Attach(call))
    await settle()
    assert payloads(later.results(call)) == {0: b"cba"}

"""Blobs that nothing names any more are deleted, also those that a crash left; those that are named never."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import pytest

from squall.server import sweep
from squall.wire import messages as m
from squall.wire.control import BlobsHave, ManifestPut
from squall.wire.hashing import manifest_id
from squall.wire.values import FileEntry, InputItem, Manifest, Outcome, Payload
from tests.server.fakes import FakeClient, settle, spec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from squall.store.base import BlobKey, OutputRecord
    from tests.server.fakes import World

pytestmark = pytest.mark.anyio

#: Past the time that anything unnamed stays, and the sweep after it.
LONG = sweep.UNNAMED + 2 * sweep.INTERVAL
#: The same of what a call has named.
SOON = sweep.RELEASED + 2 * sweep.INTERVAL


async def put(client: FakeClient, data: bytes, number: int = 50) -> str:
    blob = hashlib.sha256(data).hexdigest()
    client.send(m.BlobChunk(number, blob, 0, data, last=True))
    await settle()
    client.forget()
    return blob


def call_with(client: FakeClient, function: str, blob: str, *, durable: bool = False, call: str = "") -> str:
    call = call or f"fc-{blob[:32]}"
    item = InputItem(0, Payload(blob=blob, size=1))
    client.send(m.Inputs(call, function, "unary", [item], last=True, durable=durable))
    return call


async def here(world: World) -> set[str]:
    return {blob for _, blob in await world.blobs.all()}


async def kept(world: World, seconds: float) -> set[str]:
    """What is there so long after; nobody asks for it meanwhile."""
    await world.clock.advance(seconds)
    return await here(world)


@pytest.mark.parametrize("durable", [False, True])
async def test_arguments_stay_while_their_input_runs_and_no_longer(world: World, *, durable: bool) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec(), deploy=True)
    blob = await put(client, b"arguments")
    call = call_with(client, app.functions["f"], blob, durable=durable)
    await node.work()
    assert await kept(world, 3 * LONG) == {blob}
    node.finish(f"{call}:0")
    await settle()
    client.send(m.Received(call, [0]))
    assert await here(world) == {blob}
    assert await kept(world, SOON) == set()


async def test_a_result_stays_until_it_was_taken_and_a_while_to_be_fetched(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec())
    call = client.call(app.functions["f"], b"x")
    await node.work()
    blob = await put(client, b"a result")  # the node does so
    node.finish(f"{call}:0", Outcome("ok", Payload(blob=blob, size=8)))
    assert await kept(world, 3 * LONG + sweep.INTERVAL / 2) == {blob}
    client.send(m.Received(call, [0]))
    assert await kept(world, sweep.RELEASED - 1) == {blob}, "there was a sweep, between"
    assert await kept(world, SOON) == set()


async def test_a_spawned_calls_result_stays_as_long_as_its_record(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec(), deploy=True)
    call = client.call(app.functions["f"], b"x", durable=True)
    await node.work()
    blob = await put(client, b"a result")
    node.finish(f"{call}:0", Outcome("ok", Payload(blob=blob, size=8)))
    await settle()
    await world.restart()
    assert await kept(world, 2 * LONG) == {blob}
    await world.store.expire(world.clock.wall() + 1, 0.0)
    assert await kept(world, 2 * sweep.INTERVAL) == set()


async def test_a_result_on_its_way_to_the_disk_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waited long for a full disk, and gets there when the sweep has looked at the disk already."""
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec(), deploy=True)
    call = client.call(app.functions["f"], b"x", durable=True)
    await node.work()
    blob = await put(client, b"a result")
    room, add, named = asyncio.Event(), world.store.add_outputs, world.store.named_blobs

    async def add_later(outputs: Sequence[OutputRecord]) -> None:
        await room.wait()
        await add(outputs)

    async def look_too_early() -> set[BlobKey]:
        found = await named()
        room.set()
        await settle()
        return found

    monkeypatch.setattr(world.store, "add_outputs", add_later)
    node.finish(f"{call}:0", Outcome("ok", Payload(blob=blob, size=8)))
    assert await kept(world, LONG) == {blob}
    monkeypatch.setattr(world.store, "named_blobs", look_too_early)
    assert await kept(world, sweep.INTERVAL) == {blob}
    assert room.is_set()


async def test_a_generators_values_go_when_they_were_taken(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec(is_generator=True))
    call = client.call(app.functions["f"], b"x", kind="generator")
    await node.work()
    blob = await put(client, b"a value")
    node.send(m.NodeYields(node.started[0], f"{call}:0", 1, 0, [Payload(blob=blob, size=7)]))
    assert await kept(world, 2 * LONG) == {blob}
    client.send(m.Credit(call, 0, 65))
    assert await kept(world, SOON) == set()


async def test_what_a_crash_left_goes_and_what_was_spawned_stays(world: World) -> None:
    client = await world.client()
    app = await client.app(spec(), deploy=True)
    left, spawned = await put(client, b"of a call"), await put(client, b"of a spawned call", 51)
    call_with(client, app.functions["f"], left)
    call_with(client, app.functions["f"], spawned, durable=True)
    await settle()
    assert await world.store.named_blobs() == {("default", spawned)}
    await world.restart()
    assert await kept(world, sweep.UNNAMED - 1) == {left, spawned}, "who waited for it may come back"
    assert await kept(world, LONG) == {spawned}
    node = await world.node()
    node.hold = True
    await node.work()
    assert [item.payload.blob for _, item in node.inputs.values()] == [spawned]


async def test_sources_stay(world: World) -> None:
    client = await world.client()
    source = await put(client, b"print()")
    manifest = Manifest([FileEntry("a.py", source, 7)])
    await client.ask("manifest.put", ManifestPut(manifest_id(manifest), manifest))
    code = await put(client, b"pickled code", 51)
    await client.app(spec(serialized=Payload(blob=code, size=12)))
    await world.restart()
    assert await kept(world, LONG) == {source, code}


async def test_who_asks_for_a_blob_may_name_it_later(world: World) -> None:
    client = await world.client()
    app = await client.app(spec())
    blob = await put(client, b"x")
    await world.clock.advance(sweep.UNNAMED - sweep.INTERVAL)
    assert (await client.ask("blobs.missing", BlobsHave([blob]))).hashes == []
    assert await kept(world, sweep.UNNAMED - 1) == {blob}
    call_with(client, app.functions["f"], blob)
    await settle()
    assert await kept(world, 2 * LONG) == {blob}
    assert client.of(m.CallFailed) == []


async def test_one_that_is_put_again_stays_for_the_next(world: World) -> None:
    """The content of two calls is the same."""
    client, node = await world.client(), await world.node()
    app = await client.app(spec())
    blob = await put(client, b"x")
    first = call_with(client, app.functions["f"], blob)
    await node.work()
    client.send(m.Received(first, [0]))
    await world.clock.advance(sweep.RELEASED - 1)
    await put(client, b"x")
    assert await kept(world, SOON) == {blob}
    assert await kept(world, LONG) == set()


async def test_the_machines_clock_has_no_say(world: World) -> None:
    client = await world.client()
    blob = await put(client, b"x")
    world.clock.jump(3 * LONG)
    assert await kept(world, sweep.UNNAMED - 1) == {blob}


async def test_another_workspaces_blob_of_the_same_content_goes(world: World) -> None:
    client, other, node = await world.client(), await world.client("other"), await world.node()
    node.hold = True
    app = await client.app(spec())
    blob = await put(client, b"x")
    call_with(client, app.functions["f"], blob)
    await put(other, b"x")
    await world.clock.advance(LONG)
    assert await world.blobs.all() == [("default", blob)]


async def test_who_asks_while_blobs_are_deleted_hears_what_is_left(world: World) -> None:
    """Else it would name one that is gone a moment later."""
    client = await world.client()
    blob = await put(client, b"x")
    inner = world.blobs.remove
    asked: list[bool] = []

    async def remove(blobs: list[tuple[str, str]]) -> int:
        question = world.plane._services.blobs.has("default", blob)
        asking = world.plane._tasks.spawn(ask(question))
        await settle()
        count = await inner(blobs)
        assert not asking.done(), "it has to wait"
        return count

    async def ask(question: object) -> None:
        asked.append(await question)  # type: ignore[misc]

    world.blobs.remove = remove  # type: ignore[method-assign, assignment]
    assert await kept(world, LONG) == set()
    assert asked == [False]

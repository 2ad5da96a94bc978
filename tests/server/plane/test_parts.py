"""Small parts on their own: index sets, jobs in order, and outputs that a full disk keeps waiting."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from squall.server import outputs as room
from squall.server.tasks import Strands, Tasks
from squall.store.base import StoreError
from tests.server.fakes import payloads, settle, spec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from squall.store.base import OutputRecord
    from tests.server.fakes import World


@pytest.mark.anyio
async def test_jobs_of_one_key_keep_their_order() -> None:
    strands, done, gate = Strands(Tasks()), list[str](), asyncio.Event()

    async def slow() -> None:
        await gate.wait()
        done.append("slow")

    async def broken() -> None:
        raise RuntimeError("one job's failure")

    strands.run("a", slow)
    strands.run("a", broken)
    strands.run("a", lambda: done.append("behind"))
    strands.run("b", lambda: done.append("elsewhere"))
    assert done == ["elsewhere"]
    gate.set()
    await settle()
    assert done == ["elsewhere", "slow", "behind"]
    strands.run("a", lambda: done.append("at once"))
    assert done[-1] == "at once"


@pytest.mark.anyio
async def test_an_output_waits_for_a_full_disk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    client, node = await world.client(), await world.node()
    app = await client.app(spec())
    full, write = [True], world.store.add_outputs

    async def add_outputs(outputs: Sequence[OutputRecord], *, lazy: bool) -> None:
        if full:
            full.pop()
            raise StoreError("the disk is full")
        await write(outputs, lazy=lazy)

    monkeypatch.setattr(world.store, "add_outputs", add_outputs)
    monkeypatch.setattr(room, "STORE_RETRY", 0.01)
    call = client.call(app.functions["f"], b"abc", durable=True)
    await node.work()
    assert client.results(call) == {}
    assert node.acknowledged() == set(), "the node must keep it"
    while not client.results(call):  # noqa: ASYNC110 - the store tells nobody
        await asyncio.sleep(0.01)
    assert payloads(client.results(call)) == {0: b"cba"}
    await world.clock.advance(0.02)  # acknowledgements wait for company
    assert node.acknowledged() == {(f"{call}:0", 1)}

"""Calls that are spawned together: one write, one decision, and each as safe as if it had come alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from squall.store.base import StoreError
from squall.wire import messages as m
from squall.wire.control import CallRef
from squall.wire.values import InputItem, Payload
from tests.server.fakes import payloads, settle, spec

if TYPE_CHECKING:
    from squall.store.base import OutputRecord
    from tests.server.fakes import FakeClient, FakeNode, World

pytestmark = pytest.mark.anyio

CALLS = [f"fc-{number:032x}" for number in range(5)]


def spawn(function: str, call: str, data: bytes = b"abc") -> m.Inputs:
    return m.Inputs(call, function, "unary", [InputItem(0, Payload(data, size=len(data)))], durable=True)


async def known(world: World) -> tuple[FakeClient, FakeNode, str]:
    """With a function that has been called."""
    client, node = await world.client(), await world.node()
    app = await client.app(spec())
    client.call(app.functions["f"], b"first")
    await node.work()
    return client, node, app.functions["f"]


def ran(node: FakeNode) -> int:
    return sum(len(message.inputs) for message in node.of(m.Assign))


async def test_they_are_written_and_answered_together(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    client, node, f = await known(world)
    writes: list[int] = []
    add_calls = world.store.add_calls

    async def counted(calls: list[object]) -> set[str]:
        writes.append(len(calls))
        return await add_calls(calls)  # type: ignore[arg-type]

    monkeypatch.setattr(world.store, "add_calls", counted)
    client.send(*(spawn(f, call, call.encode()) for call in CALLS))
    await node.work()
    assert writes == [len(CALLS)]
    assert client.of(m.Accepted) == [m.Accepted(call, 1) for call in CALLS]
    assert not any(message.call in CALLS for message in client.of(m.Outputs))  # who spawns does not listen
    for call in CALLS:
        client.send(m.Attach(call))
        await settle()
        assert payloads(client.results(call)) == {0: call.encode()[::-1]}


async def test_who_spawns_a_function_for_the_first_time_does_not_listen_either(world: World) -> None:
    client, node = await world.client(), await world.node()
    app = await client.app(spec())
    client.send(spawn(app.functions["f"], CALLS[0]))
    await node.work()
    assert await world.store.call_size(CALLS[0]) == (1, 1)
    assert not client.of(m.Outputs)


async def test_those_that_came_before_run_once(world: World) -> None:
    client, node, f = await known(world)
    client.send(*(spawn(f, call) for call in CALLS[:2]))
    await node.work()
    given = ran(node)
    client.send(*(spawn(f, call) for call in (*CALLS, CALLS[4])))
    await node.work()
    assert ran(node) - given == 3
    assert {a.call for a in client.of(m.Accepted)} == set(CALLS)
    for call in CALLS:
        assert await world.store.call_size(call) == (1, 1)


async def test_what_follows_in_the_same_frame_is_about_them(world: World) -> None:
    client, node, f = await known(world)
    node.hold = True
    client.send(
        spawn(f, CALLS[0]),
        spawn(f, CALLS[1]),
        m.Cancel(CALLS[0]),
    )
    await node.work()
    assert set(node.inputs) == {f"{CALLS[1]}:0"}
    assert [(await client.ask("call.get", CallRef(call))).done for call in CALLS[:2]] == [1, 0]


async def test_one_that_is_refused_is_no_harm_to_the_others(world: World) -> None:
    client, node, f = await known(world)
    client.send(*(spawn("fu-none" if call == CALLS[1] else f, call) for call in CALLS))
    await node.work()
    assert [failed.call for failed in client.of(m.CallFailed)] == [CALLS[1]]
    assert {a.call for a in client.of(m.Accepted)} == {*CALLS} - {CALLS[1]}


async def test_nothing_is_accepted_that_is_not_on_disk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    client, node, f = await known(world)
    given = ran(node)

    async def full(_calls: object) -> set[str]:
        raise StoreError("the disk is full")

    monkeypatch.setattr(world.store, "add_calls", full)
    client.send(*(spawn(f, call) for call in CALLS))
    await node.work()
    assert not client.of(m.Accepted)
    assert {failed.call: failed.code for failed in client.of(m.CallFailed)} == dict.fromkeys(
        CALLS, "unavailable"
    )
    assert ran(node) == given


async def test_only_results_that_nobody_waits_for_are_in_no_hurry(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, node, f = await known(world)
    node.hold = True
    hurried: list[bool] = []
    add_outputs = world.store.add_outputs

    async def noted(outputs: list[OutputRecord], *, lazy: bool) -> None:
        hurried.append(not lazy)
        await add_outputs(outputs, lazy=lazy)

    monkeypatch.setattr(world.store, "add_outputs", noted)
    client.send(*(spawn(f, call) for call in CALLS[:2]), m.Attach(CALLS[1]))
    for call in CALLS[:2]:
        await node.work()
        node.finish(f"{call}:0")
        await settle()
    assert hurried == [False, True]

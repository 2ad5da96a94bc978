"""Chunks in the server: counted as the inputs that they are, and taken apart when one goes its own way."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest

from squall.wire import messages as m
from squall.wire.control import CallRef
from squall.wire.parcels import new_name
from squall.wire.values import (
    Concurrency,
    ErrorInfo,
    InputItem,
    Outcome,
    OutputItem,
    Part,
    Payload,
    RetryPolicy,
)
from tests.server.fakes import FakeNode, settle, spec

if TYPE_CHECKING:
    from tests.server.fakes import FakeClient, World

pytestmark = pytest.mark.anyio
LETTERS = b"abcdefghijkl"


def chunk(first: int, count: int) -> InputItem:
    data = LETTERS[first : first + count]
    return InputItem(first, Payload(data, size=count), sizes=[1] * count)


def send(client: FakeClient, function: str, *items: InputItem, call: str = "", **inputs: Any) -> str:
    call = call or f"fc-{secrets.token_hex(16)}"
    client.send(m.Inputs(call, function, inputs.pop("kind", "map"), list(items), **inputs))
    return call


def answer(node: FakeNode, input_id: str, done: int, **more: Any) -> None:
    """The first inputs of a chunk have their results: their payloads in capitals."""
    container, item = node.inputs.pop(input_id)
    data = item.payload.data[:done].upper()
    index = int(input_id.rpartition(":")[2])
    outcome = more.pop("outcome", None) or Outcome("ok", Payload(data, size=len(data)))
    fields = {"count": done, "sizes": [1] * done, **more}
    output = OutputItem(fields.pop("index", index), outcome, item.attempt, **fields)
    node.send(m.NodeOutputs(container, [m.NodeOutput(input_id, item.attempt, output, 0.1)]))


def found(client: FakeClient, call: str) -> dict[int, bytes]:
    """Results by index, each of them once."""
    got: dict[int, bytes] = {}
    for message in client.of(m.Outputs):
        for item in message.items if message.call == call else ():
            for offset in range(item.count):
                assert item.index + offset not in got, "it was delivered twice"
                data = item.outcome.payload.data
                got[item.index + offset] = data[offset : offset + 1] if item.sizes else data or b"?"
    return got


async def prepared(world: World, **fields: Any) -> tuple[FakeClient, FakeNode, str]:
    """A client, a node that takes chunks and answers nothing by itself, a function."""
    client, node = await world.client(), await world.node()
    world.plane._services.nodes.nodes[node.name].chunks = True
    node.hold = True
    app = await client.app(spec(**fields), deploy=True)
    return client, node, app.functions["f"]


async def test_a_chunk_goes_to_a_node_and_comes_home_whole(world: World) -> None:
    client, node, function = await prepared(world)
    call = send(client, function, chunk(0, 4))
    await node.work()
    (item,) = (item for _, item in node.inputs.values())
    assert (item.input, item.sizes, item.payload.data) == (f"{call}:0", [1] * 4, b"abcd")
    info = await client.ask("call.get", CallRef(call))
    assert (info.inputs, info.done) == (4, 0)
    parts = [Part(1, Outcome("exception", error=ErrorInfo("E", "m")))]
    answer(node, f"{call}:0", 4, parts=parts)
    await settle()
    (message,) = client.of(m.Outputs)
    (output,) = message.items
    assert message.spread == 4, "there may be a container for each"
    assert (output.count, output.parts, output.seconds) == (4, parts, 0.1)
    counted = world.plane._services.catalog.functions[function]
    assert (counted.inputs, counted.ended, counted.failed) == (4, 4, 1)
    (tally,) = counted.tallies.within(0, 0)
    assert tally.ended == {"ok": 3, "exception": 1}
    assert tally.seconds == pytest.approx(0.1)
    assert tally.longest == pytest.approx(0.025)
    client.send(m.Received(call, [0]))
    assert world.plane._services.table.calls == {}
    assert world.plane._services.table.inputs == {}
    assert not any(session.inputs or session.bytes for session in sessions(world))


def sessions(world: World) -> list[Any]:
    return list(world.plane._services.sessions.sessions.values())


async def test_what_a_node_gives_back_runs_input_by_input(world: World) -> None:
    client, node, function = await prepared(world)
    call = send(client, function, chunk(0, 4))
    await node.work()
    answer(node, f"{call}:0", 2)
    await node.work()
    assert found(client, call) == {0: b"A", 1: b"B"}
    assert {i: (x.attempt, x.sizes, x.payload.data) for i, (_, x) in node.inputs.items()} == {
        f"{call}:2": (3, None, b"c"),
        f"{call}:3": (3, None, b"d"),
    }
    await finish_all(node)
    assert found(client, call) == {0: b"A", 1: b"B", 2: b"c", 3: b"d"}
    counted = world.plane._services.catalog.functions[function]
    assert (counted.inputs, counted.ended, counted.failed) == (4, 4, 0)


async def finish_all(node: FakeNode) -> None:
    await node.work()
    while node.inputs:
        for input_id in list(node.inputs):
            node.finish(input_id)
        await node.work()


async def test_the_one_whose_doing_the_end_was_fails_alone(world: World) -> None:
    client, node, function = await prepared(world)
    call = send(client, function, chunk(0, 4))
    await node.work()
    failed = Outcome("failed", error=ErrorInfo("RemoteError", "it crashed"))
    answer(node, f"{call}:0", 1, index=2, outcome=failed, sizes=None)
    await finish_all(node)
    assert found(client, call) == {0: b"a", 1: b"b", 2: b"?", 3: b"d"}


async def test_a_chunk_whose_container_was_killed_runs_input_by_input(world: World) -> None:
    client, node, function = await prepared(world)
    call = send(client, function, chunk(0, 4))
    await node.work()
    (container,) = {c for c, _ in node.inputs.values()}
    node.end(container, "killed")
    await finish_all(node)
    assert found(client, call) == {0: b"a", 1: b"b", 2: b"c", 3: b"d"}


async def test_a_stale_answer_to_a_chunk_is_no_answer_to_its_first_input(world: World) -> None:
    client, node, function = await prepared(world)
    call = send(client, function, chunk(0, 4))
    await node.work()
    container, item = node.inputs[f"{call}:0"]
    node.end(container, "killed")
    await node.work()
    stale = OutputItem(0, Outcome("ok", Payload(b"ABCD")), item.attempt, count=4, sizes=[1] * 4)
    node.send(m.NodeOutputs(container, [m.NodeOutput(f"{call}:0", item.attempt, stale, 0.1)]))
    await settle()
    assert found(client, call) == {}
    await finish_all(node)
    assert len(found(client, call)) == 4


@pytest.mark.parametrize(
    "fields",
    [{"retries": RetryPolicy(max_retries=1)}, {"concurrency": Concurrency(4, 4)}, {"single_use": True}],
)
async def test_functions_whose_inputs_travel_alone(world: World, fields: dict[str, Any]) -> None:
    """Also where their client thinks otherwise, as after another deployment."""
    client, node, function = await prepared(world, **fields)
    call = send(client, function, chunk(0, 4))
    await node.work()
    assert all(item.sizes is None for _, item in node.inputs.values())
    await finish_all(node)
    assert found(client, call) == {0: b"a", 1: b"b", 2: b"c", 3: b"d"}
    assert {message.spread for message in client.of(m.Outputs)} == {0}


async def test_a_node_that_takes_none_gets_none(world: World) -> None:
    client, node, function = await prepared(world)
    world.plane._services.nodes.nodes[node.name].chunks = False
    call = send(client, function, chunk(0, 4))
    await finish_all(node)
    assert found(client, call) == {0: b"a", 1: b"b", 2: b"c", 3: b"d"}


@pytest.mark.parametrize(
    ("item", "inputs"),
    [
        (InputItem(0, Payload(b"abc"), sizes=[1, 1]), {}),
        (InputItem(0, Payload(b"abc"), sizes=[4, -1]), {}),
        (InputItem(0, Payload(b"a"), sizes=[1]), {}),
        (InputItem(0, Payload(), sizes=[0] * 1001), {}),
        (chunk(0, 2), {"durable": True}),
        (InputItem(9_999_999, Payload(b"ab"), sizes=[1, 1]), {}),
    ],
)
async def test_what_is_no_chunk_is_refused(world: World, item: InputItem, inputs: dict[str, Any]) -> None:
    client, _, function = await prepared(world)
    send(client, function, item, **inputs)
    await settle()
    (failed,) = client.of(m.CallFailed)
    assert failed.code == "invalid"


async def test_what_a_node_says_of_a_chunk_that_cannot_be(world: World) -> None:
    client, node, function = await prepared(world)
    call = send(client, function, chunk(0, 4))
    await node.work()
    answer(node, f"{call}:0", 4, sizes=[1, 2])
    await settle()
    (output,) = client.of(m.Outputs)[0].items
    assert (output.count, output.outcome.status) == (4, "failed")


async def test_a_chunk_is_sent_again_and_is_here_once(world: World) -> None:
    client, node, function = await prepared(world)
    call = send(client, function, chunk(0, 4))
    await node.work()
    send(client, function, chunk(0, 4), call=call)
    await node.work()
    assert len(node.inputs) == 1
    answer(node, f"{call}:0", 2)
    await node.work()
    send(client, function, chunk(0, 4), call=call)  # it has not heard yet
    await finish_all(node)
    assert world.plane._services.catalog.functions[function].inputs == 4


async def test_all_of_a_cancelled_chunk_ends(world: World) -> None:
    client, node, function = await prepared(world)
    call = send(client, function, chunk(0, 4))
    await node.work()
    client.send(m.Cancel(call))
    await node.work()
    (output,) = client.of(m.Outputs)[0].items
    assert (output.count, output.outcome.status) == (4, "cancelled")
    info = await client.ask("call.get", CallRef(call))
    assert info.done == 4


async def test_a_chunk_that_no_container_ever_takes(world: World) -> None:
    client, node, function = await prepared(world)
    node.starts = False
    call = send(client, function, chunk(0, 4))
    await node.work()
    for container in list(node.containers):
        node.end(container, "import", "no module", state="failed")
    await node.work()
    (output,) = client.of(m.Outputs)[0].items
    assert output.count == 4
    assert found(client, call).keys() == {0, 1, 2, 3}


async def test_it_goes_on_after_the_servers_restart(world: World) -> None:
    client, node, function = await prepared(world)
    call = send(client, function, chunk(0, 4))
    await node.work()
    await restarted(world, client, node)
    send(client, function, chunk(0, 4), call=call)
    await node.work()
    assert node.of(m.Assign) == []
    answer(node, f"{call}:0", 2)
    await finish_all(node)
    assert found(client, call) == {0: b"A", 1: b"B", 2: b"c", 3: b"d"}


async def test_its_client_has_it_apart_after_the_servers_restart(world: World) -> None:
    """It had heard of the first two, and the node had not heard that the server had."""
    client, node, function = await prepared(world)
    call = send(client, function, chunk(0, 4))
    await node.work()
    await restarted(world, client, node)
    rest = [InputItem(n, Payload(LETTERS[n : n + 1], size=1)) for n in (2, 3)]
    send(client, function, *rest, call=call)
    await node.work()
    assert node.of(m.Assign) == []
    answer(node, f"{call}:0", 2)
    await finish_all(node)
    assert found(client, call) == {0: b"A", 1: b"B", 2: b"c", 3: b"d"}


async def restarted(world: World, client: FakeClient | None, node: FakeNode) -> None:
    """The node announces its chunk; the client, if any, is there again."""
    await world.restart()
    announce = node.announcement

    def announcement() -> m.Announce:
        said = announce()
        said.chunks = True
        for container in said.containers:
            for running in container.inputs:
                running.count = 4
        return said

    node.announcement = announcement  # type: ignore[method-assign]
    await node.connect()
    if client is not None:
        await client.connect()


async def test_what_a_cancelled_chunk_gives_back_is_not_run(world: World) -> None:
    """Its answer and the cancellation met on the way."""
    client, node, function = await prepared(world)
    call = send(client, function, chunk(0, 4))
    await node.work()
    client.send(m.Cancel(call))
    await settle()
    answer(node, f"{call}:0", 2)
    await node.work()
    assert node.inputs == {}
    info = await client.ask("call.get", CallRef(call))
    assert info.done == 4


async def test_the_rest_of_a_chunk_waits_for_its_client_after_a_restart(world: World) -> None:
    """The node was there again first, and had the first two done."""
    client, node, function = await prepared(world)
    call = send(client, function, chunk(0, 4))
    await node.work()
    await restarted(world, None, node)
    answer(node, f"{call}:0", 2)
    await node.work()
    await client.connect()
    send(client, function, chunk(0, 4), call=call)
    await finish_all(node)
    assert found(client, call) == {0: b"A", 1: b"B", 2: b"c", 3: b"d"}


async def test_its_client_has_it_apart_in_several_messages(world: World) -> None:
    client, node, function = await prepared(world)
    call = send(client, function, chunk(0, 4))
    await node.work()
    await restarted(world, client, node)
    for n in (2, 3):
        send(client, function, InputItem(n, Payload(LETTERS[n : n + 1], size=1)), call=call)
    await node.work()
    answer(node, f"{call}:0", 2)
    await finish_all(node)
    assert found(client, call) == {0: b"A", 1: b"B", 2: b"c", 3: b"d"}


async def test_a_chunk_whose_results_were_lost(world: World) -> None:
    client, node, function = await prepared(world)
    call = send(client, function, chunk(0, 4))
    await node.work()
    lost = Outcome("ok", Payload(blob=new_name(), size=4))
    answer(node, f"{call}:0", 4, outcome=lost)
    await settle()
    (output,) = client.of(m.Outputs)[0].items
    assert (output.count, output.outcome.status, output.sizes) == (4, "failed", None)
    assert output.outcome.error is not None
    assert "was lost" in output.outcome.error.message


@pytest.mark.parametrize(("index", "count"), [(0, 6), (2, 6), (0, -1), (4, 2)])
async def test_a_node_answers_for_no_more_than_the_chunk(world: World, index: int, count: int) -> None:
    client, node, function = await prepared(world)
    call = send(client, function, chunk(0, 4), chunk(4, 4), last=True)
    await node.work()
    container, item = node.inputs.pop(f"{call}:0")
    outcome = Outcome("ok", Payload(b"X" * max(0, count)))
    output = OutputItem(index, outcome, item.attempt, count=count, sizes=[1] * count)
    node.send(m.NodeOutputs(container, [m.NodeOutput(f"{call}:0", item.attempt, output, 0.1)]))
    await node.work()
    for input_id in [i for i in node.inputs if int(i.rpartition(":")[2]) < 4]:
        answer(node, input_id, 1, sizes=None)
    answer(node, f"{call}:4", 4)
    await settle()
    got = found(client, call)
    assert {n: got[n] for n in range(4, 8)} == {4: b"E", 5: b"F", 6: b"G", 7: b"H"}
    assert set(got) <= set(range(8))

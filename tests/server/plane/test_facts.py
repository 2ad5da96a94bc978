"""Tags, statistics, logs that are read, and deployments that do not wait."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from squall.server.stats import KEPT, Tallies, total
from squall.wire import messages as m
from squall.wire.control import AppCreate, AppRef, AppTags, Empty, FunctionGet, LogsRead, StatsQuery
from squall.wire.values import LogItem, Outcome
from tests.server.fakes import FakeClient, payloads, settle, spec

if TYPE_CHECKING:
    from tests.server.fakes import World

pytestmark = pytest.mark.anyio


async def test_tags_are_kept_and_listed(world: World) -> None:
    client = await world.client()
    app = (await client.app(spec(), deploy=True, tags={"team": "a"}, tag="v1")).app
    await world.restart()
    client = await world.client()
    (listed,) = (await client.ask("app.list")).apps
    assert (listed.tags, listed.tag) == ({"team": "a"}, "v1")
    assert (await client.ask("app.tags", AppTags(app, {"b": "c"}))).tags == {"b": "c"}
    await client.app(spec(), deploy=True)
    assert (await client.ask("app.tags", AppTags(app))).tags == {"b": "c"}
    created = await client.ask("app.create", AppCreate("x", tags={"k": "v"}))
    assert created.tags == {"k": "v"}
    stranger = await world.client("other")
    assert (await stranger.ask("app.tags", AppTags(app))).code == "not_found"


@pytest.mark.parametrize(
    "tags", [{"": "x"}, {"a b": "x"}, {"a": "x" * 256}, {"a": "x\ny"}, {f"k{n}": "" for n in range(51)}]
)
async def test_tags_are_checked(world: World, tags: dict[str, str]) -> None:
    client = await world.client()
    assert (await client.ask("app.create", AppCreate("x", tags=tags))).code == "invalid"


async def test_statistics(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec(), deploy=True)
    call = client.call(app.functions["f"], b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h")
    await node.work()
    node.finish(f"{call}:0", seconds=2.0)
    node.finish(f"{call}:1", Outcome("exception"), seconds=4.0)
    await node.work()
    query = StatsQuery(app.functions["f"])
    stats = await client.ask("function.stats", query)
    assert (stats.ended, stats.seconds, stats.longest) == ({"ok": 1, "exception": 1}, 6.0, 4.0)
    assert stats.runners == len(node.containers) > 0
    assert stats.backlog + len(node.inputs) == 6
    assert await client.ask("app.stats", StatsQuery(app.app)) == stats
    later = StatsQuery(app.functions["f"], since=world.clock.wall() + 120)
    assert (await client.ask("function.stats", later)).ended == {}
    stranger = await world.client("other")
    for method, identity in (("function.stats", query.id), ("app.stats", app.app)):
        assert (await stranger.ask(method, StatsQuery(identity))).code == "not_found"
    assert (await stranger.ask("function.get", FunctionGet(query.id))).code == "not_found"


def test_minutes_are_bounded() -> None:
    tallies = Tallies()
    for minute in range(KEPT + 10):
        tallies.ended("ok", 1.0, minute * 60.0 + 1)
        tallies.ended("ok", 2.0, minute * 60.0 + 59)
    assert total(tallies.within(0, 0)).ended["ok"] == 2 * KEPT
    assert total(tallies.within(20 * 60, 22 * 60)).ended["ok"] == 4
    assert total(tallies.within(20 * 60 + 30, 20 * 60 + 40)).longest == 2.0


# ------------------------------------------------------------------------------------------------------ logs


def lines(container: str, *said: tuple[float, int, bytes]) -> m.NodeLogs:
    return m.NodeLogs([LogItem(container, "f", fd, data, time) for time, fd, data in said])


async def read(client: FakeClient, app: str, **query: object) -> list[bytes]:
    page = await client.ask("logs.read", LogsRead(app, **query))  # type: ignore[arg-type]
    return [item.data for item in page.items]


async def test_logs_by_time_source_and_place(world: World) -> None:
    client, node = await world.client(), await world.node()
    app = (await client.app(spec(), deploy=True)).app
    client.call((await client.ask("app.get", AppRef(app))).functions["f"], b"x")
    await node.work()
    (container,) = node.containers
    node.send(lines(container, (10.0, 1, b"a"), (20.0, 2, b"b"), (30.0, 0, b"c")))
    assert await read(client, app) == await read(client, "demo") == [b"a", b"b", b"c"]
    assert await read(client, app, since=20.0) == [b"b", b"c"]
    assert await read(client, app, until=20.0) == [b"a"]
    assert await read(client, app, fd=0) == [b"c"]
    assert await read(client, app, function="f", container=container, after=1) == [b"b", b"c"]
    assert await read(client, app, function="g") == await read(client, app, container="ct-0") == []
    assert (await client.ask("logs.read", LogsRead(app, after=2))).upto == 3
    stranger = await world.client("other")
    assert (await stranger.ask("logs.read", LogsRead(app))).code == "not_found"


async def test_logs_of_one_call(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec(), deploy=True)
    first = client.call(app.functions["f"], b"x", durable=True)
    await node.work()
    (container,) = node.containers
    began = world.clock.wall()
    await world.clock.advance(10)
    node.finish(f"{first}:0")
    await settle()
    await world.clock.advance(5)
    second = client.call(app.functions["f"], b"y", durable=True)
    await node.work()
    assert node.started == [container]
    node.send(
        lines(container, (began + 1, 1, b"first"), (began + 12, 1, b"between"), (began + 16, 1, b"second"))
    )
    assert await read(client, app.app, call=first) == [b"first"]
    assert await read(client, app.app, call=second) == [b"second"]
    assert await read(client, app.app, call="fc-0123456789abcdef") == []


async def test_who_waits_for_logs_is_woken(world: World) -> None:
    client, node = await world.client(), await world.node()
    app = await client.app(spec(), deploy=True)
    client.call(app.functions["f"], b"x")
    await node.work()
    (container,) = node.containers
    node.send(lines(container, (1.0, 1, b"old")))
    assert await client.ask("logs.read", LogsRead(app.app, after=1, wait=30.0)) is None  # it waits
    waiting = client._number
    node.send(lines(container, (2.0, 1, b"new")))
    await settle()
    page = client.answer(waiting, "logs.read")
    assert ([item.data for item in page.items], page.upto, page.live) == ([b"new"], 2, True)
    assert await client.ask("logs.read", LogsRead(app.app, after=2, wait=30.0)) is None
    waiting = client._number
    await client.ask("app.stop", AppRef(app.app))
    await asyncio.sleep(0)
    assert not client.answer(waiting, "logs.read").live


# --------------------------------------------------------------------------------------------------- recreate


@pytest.mark.covers("App.deploy(strategy)")
async def test_recreate_ends_containers_and_runs_their_inputs_on_the_new_version(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec(), deploy=True)
    calls = [
        client.call(app.functions["f"], data, durable=durable)
        for data, durable in ((b"ab", False), (b"cd", True))
    ]
    await node.work()
    old = dict(node.containers)
    stale = {i: (c, item.attempt) for i, (c, item) in node.inputs.items()}
    assert stale
    node.hold = False
    new = await client.app(spec(), deploy=True, strategy="recreate")
    await node.work()
    assert {stop.container for stop in node.stopped if not stop.drain} == set(old)
    started = {s.function_id for s in node.of(m.StartContainer) if s.container not in old}
    assert started == {new.functions["f"]}
    assert [payloads(client.results(call)) for call in calls] == [{0: b"ba"}, {0: b"dc"}]
    attempts = {i.input: i.attempt for a in node.of(m.Assign) for i in a.inputs}
    assert all(attempts[input_id] == attempt + 1 for input_id, (_, attempt) in stale.items())
    client.send(m.Received(calls[0], [0]))
    assert world.plane._services.table.calls == {}
    assert list(world.plane._services.catalog.functions) == [new.functions["f"]]


async def test_recreate_without_the_function_cancels_its_calls(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec("f"), deploy=True)
    call = client.call(app.functions["f"], b"ab")
    await node.work()
    await client.app(spec("g"), deploy=True, strategy="recreate")
    await node.work()
    outcome = client.results(call)[0]
    assert outcome.error is not None
    assert (outcome.status, "does not have the function any more" in outcome.error.message) == (
        "cancelled",
        True,
    )


async def test_recreate_fails_a_generator_that_has_begun(world: World) -> None:
    client, node = await world.client(), await world.node()
    node.hold = True
    app = await client.app(spec(is_generator=True), deploy=True)
    call = client.call(app.functions["f"], b"ab", kind="generator")
    await node.work()
    (container,) = node.containers
    node.send(m.NodeYields(container, f"{call}:0", 1, 0, [node.inputs[f"{call}:0"][1].payload]))
    await client.app(spec(is_generator=True), deploy=True, strategy="recreate")
    await node.work()
    assert client.results(call)[0].status == "failed"


async def test_strategies_are_known(world: World) -> None:
    client = await world.client()
    with pytest.raises(AssertionError, match="no strategy"):
        await client.app(spec(), deploy=True, strategy="slow")
    assert (await client.ask("app.list", Empty())).apps == []

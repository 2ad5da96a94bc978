"""Logs: to the app's own session, to followers, and a bounded rest for later."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from squall.server import logs as room
from squall.wire import messages as m
from squall.wire.control import AppRef, LogsFetch
from tests.server.fakes import FakeClient, FakeNode, logs, spec

if TYPE_CHECKING:
    from tests.server.fakes import World

pytestmark = pytest.mark.anyio


async def start(world: World) -> tuple[FakeClient, FakeNode, str, str]:
    client, node = await world.client(), await world.node()
    app = await client.app(spec())
    client.call(app.functions["f"], b"x")
    await node.work()
    return client, node, app.app, next(iter(node.containers))


def lines(client: FakeClient) -> list[bytes]:
    return [item.data for message in client.of(m.Logs) for item in message.items]


async def test_the_apps_session_hears_its_containers(world: World) -> None:
    client, node, _app, container = await start(world)
    other = await world.client()
    node.send(logs(container, b"hello\n"))
    assert lines(client) == [b"hello\n"]
    assert lines(other) == []


async def test_who_follows_hears_too(world: World) -> None:
    _client, node, app, container = await start(world)
    other = await world.client()
    await other.ask("logs.follow", AppRef(app))
    node.send(logs(container, b"hello\n"))
    assert lines(other) == [b"hello\n"]


async def test_the_last_words_of_a_container_arrive(world: World) -> None:
    client, node, app, container = await start(world)
    node.end(container, "exit")
    node.send(logs(container, b"dying\n"))
    assert lines(client) == [b"dying\n"]
    await client.ask("session.close")
    other = await world.client()
    fetched = await other.ask("logs.fetch", LogsFetch(app))
    assert [text[3] for text in fetched.text] == [b"dying\n"]


async def test_what_is_kept_is_bounded(world: World) -> None:
    client, node, app, container = await start(world)
    for number in range(200):
        node.send(logs(container, b"%d" % number + b"." * 10_000))
    fetched = (await client.ask("logs.fetch", LogsFetch(app))).text
    assert sum(len(text[3]) for text in fetched) <= world.settings.log_bytes
    assert fetched[-1][3].startswith(b"199.")
    tail = (await client.ask("logs.fetch", LogsFetch(container, tail=2))).text
    assert [text[3][:4] for text in tail] == [b"198.", b"199."]


async def test_a_slow_follower_misses_lines_and_is_told(world: World) -> None:
    client, node, _app, container = await start(world)
    client.connection.unread = room.FOLLOWER_BYTES + 1
    node.send(logs(container, b"a", b"b"), logs(container, b"c"))
    client.connection.unread = 0
    node.send(logs(container, b"d"))
    assert [(i.data, i.dropped) for message in client.of(m.Logs) for i in message.items] == [(b"d", 3)]


async def test_nobody_speaks_for_anothers_container(world: World) -> None:
    client, _node, _app, container = await start(world)
    liar = await world.node("no-2")
    liar.send(logs(container, b"forged\n"), logs("ct-unknown", b"forged\n"))
    assert lines(client) == []


async def test_nothing_is_known_of_strange_names(world: World) -> None:
    client = await world.client()
    assert (await client.ask("logs.fetch", LogsFetch("ap-nothing"))).code == "not_found"

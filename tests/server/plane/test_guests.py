"""Programs that join containers: who may, how many, what is under way, and how they end."""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from squall.server import guests as room
from squall.wire import codec, guests
from squall.wire import messages as m
from squall.wire.guests import PIECE, WINDOW, GuestCredit, GuestData, GuestEnd, GuestResize, Join
from tests.server.fakes import FakeClient, FakeNode, spec
from tests.server.plane.inside import inside

if TYPE_CHECKING:
    from tests.server.fakes import World

pytestmark = pytest.mark.anyio


def new_id() -> str:
    return f"gu-{secrets.token_hex(16)}"


async def begin(world: World, **hello: Any) -> tuple[FakeNode, FakeClient, str]:
    """A node, a client with a function that runs, and its container."""
    node = await world.node()
    node.hold = True
    client = await world.client(**hello)
    app = await client.app(spec("f"))
    client.call(app.functions["f"], b"x")
    await node.work()
    return node, client, node.started[0]


def join(client: FakeClient, container: str, *argv: str, **fields: Any) -> str:
    guest = str(fields.pop("guest", "") or new_id())
    client.send(Join(guest, container, list(argv or ("ls",)), **fields))
    return guest


def said(peer: FakeNode | FakeClient) -> list[Any]:
    """What came of guests but their beginning."""
    return [x for x in peer.connection.sent if isinstance(x, (GuestData, GuestCredit, GuestResize, GuestEnd))]


def end_of(client: FakeClient, guest: str) -> GuestEnd:
    (end,) = [e for e in client.of(GuestEnd) if e.guest == guest]
    return end


async def test_messages_go_both_ways(world: World) -> None:
    node, client, container = await begin(world)
    guest = join(client, container, "sh", "-c", "ls", env={"A": "1"}, terminal=True, rows=3, columns=4)
    assert node.of(Join) == [Join(guest, container, ["sh", "-c", "ls"], {"A": "1"}, True, 3, 4)]
    client.send(GuestData(guest, 0, b"typed"), GuestResize(guest, 5, 6))
    assert node.of(GuestData) == [GuestData(guest, 0, b"typed")]
    assert node.of(GuestResize) == [GuestResize(guest, 5, 6)]
    node.send(GuestCredit(guest, 5), GuestData(guest, 1, b"out"), GuestData(guest, 2, b"err"))
    assert client.of(GuestCredit) == [GuestCredit(guest, 5)]
    assert [(d.fd, d.data) for d in client.of(GuestData)] == [(1, b"out"), (2, b"err")]
    client.send(GuestCredit(guest, 6))
    assert node.of(GuestCredit) == [GuestCredit(guest, 6)]
    node.send(GuestEnd(guest, code=7))
    assert end_of(client, guest).code == 7
    client.send(GuestData(guest, 0, b"late"))
    assert len(node.of(GuestData)) == 1


@pytest.mark.parametrize("hello", [{"environment": "dev"}, {"workspace": "others"}])
async def test_only_ones_own_workspace_and_environment(world: World, hello: dict[str, Any]) -> None:
    node, _client, container = await begin(world)
    stranger = await world.client(**hello)
    guest = join(stranger, container)
    assert "no container" in end_of(stranger, guest).error
    assert node.of(Join) == []


async def test_a_guest_belongs_to_its_session(world: World) -> None:
    node, client, container = await begin(world)
    guest = join(client, container)
    other = await world.client()
    other.send(GuestData(guest, 0, b"x"), GuestResize(guest, 1, 1), GuestEnd(guest))
    join(other, container, guest=guest)
    assert "new hex digits" in end_of(other, guest).error
    assert said(node) == []
    node.send(GuestData(guest, 1, b"secret"))
    assert (len(client.of(GuestData)), other.of(GuestData)) == (1, [])


async def test_a_guest_belongs_to_its_node(world: World) -> None:
    _node, client, container = await begin(world)
    guest = join(client, container)
    other = await world.node("no-2")
    other.send(GuestData(guest, 1, b"false"), GuestEnd(guest, code=0))
    assert said(client) == []
    assert other.of(GuestEnd) == [GuestEnd(guest)]


async def test_programs_inside_may_not(world: World) -> None:
    node, nested, _functions, _parent = await inside(world)
    await nested.hello()
    nested.send(Join(new_id(), next(iter(node.containers)), ["ls"]))
    assert "cannot have others join" in nested.got(GuestEnd)[0].error
    assert node.of(Join) == []


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"guest": "gu-1"}, "a guest's id"),
    ({"argv": []}, "no command"),
    ({"argv": [""]}, "no command"),
    ({"argv": ["a\0b"]}, "NUL"),
    ({"argv": ["a"] * (room.WORDS + 1)}, "more than"),
    ({"argv": ["a" * room.BYTES, "b"]}, "more than"),
    ({"env": {"A=B": "1"}}, "environment variable"),
    ({"env": {"": "1"}}, "environment variable"),
    ({"rows": -1}, "rows and columns"),
    ({"columns": 1 << 16}, "rows and columns"),
    ({"container": "ct-none\n" * 99}, "no container"),
]


@pytest.mark.parametrize(("fields", "complaint"), WRONG)
async def test_what_cannot_be_is_refused(world: World, fields: dict[str, Any], complaint: str) -> None:
    node, client, container = await begin(world)
    client.send(Join(**{"guest": new_id(), "container": container, "argv": ["ls"], **fields}))
    (end,) = client.of(GuestEnd)
    assert complaint in end.error
    assert "\n" not in end.error
    assert node.of(Join) == []


async def test_numbers_are_limited(world: World) -> None:
    node, client, container = await begin(world)
    crowd = [join(client, container) for _ in range(room.PER_CONTAINER)]
    assert client.of(GuestEnd) == []
    one_more = join(client, container)
    assert "joined the container already" in end_of(client, one_more).error
    node.send(GuestEnd(crowd[0], code=0))
    join(client, container)
    assert len(node.of(Join)) == room.PER_CONTAINER + 1


async def test_sessions_are_limited(world: World) -> None:
    node, client, container = await begin(world)
    app = await client.app(spec("g"), name="other")
    client.call(app.functions["g"], b"x")
    await node.work()
    for index in range(room.PER_SESSION):
        join(client, (container, node.started[1])[index % 2])
    assert client.of(GuestEnd) == []
    guest = join(client, node.started[1])
    assert "of this session" in end_of(client, guest).error


async def test_windows_hold(world: World) -> None:
    """Whoever sends more than it may is hung up on."""
    node, client, container = await begin(world)
    full = [join(client, container) for _ in range(7)]
    pieces = [bytes(PIECE)] * (WINDOW // PIECE)
    for data in pieces:
        client.send(GuestData(full[0], 0, data))
        node.send(GuestData(full[1], 1, data))
    assert client.of(GuestEnd) == node.of(GuestEnd) == []
    client.send(GuestData(full[0], 0, b"x"))
    node.send(GuestData(full[1], 2, b"x"))
    client.send(GuestData(full[2], 0, bytes(PIECE + 1)), GuestData(full[3], 1, b"x"))
    client.send(GuestCredit(full[4], 1), GuestCredit(full[5], 0))
    node.send(GuestData(full[6], 0, b"x"))
    assert {e.guest for e in client.of(GuestEnd)} == set(full)
    assert {e.guest for e in node.of(GuestEnd)} == set(full)
    assert all("more than it may" in end_of(client, guest).error for guest in full[:4])


async def test_credit_opens_the_window(world: World) -> None:
    node, client, container = await begin(world)
    guest = join(client, container)
    for _ in range(5 * WINDOW // PIECE):
        client.send(GuestData(guest, 0, bytes(PIECE)))
        node.send(GuestCredit(guest, PIECE), GuestData(guest, 1, bytes(PIECE)))
        client.send(GuestCredit(guest, PIECE))
    assert client.of(GuestEnd) == node.of(GuestEnd) == []
    node.send(GuestCredit(guest, 1 << 40))
    client.send(GuestData(guest, 0, b"x"))
    assert client.of(GuestCredit)[-1].size == PIECE


async def test_a_client_that_does_not_read_is_hung_up_on(world: World) -> None:
    node, client, container = await begin(world)
    guest = join(client, container)
    node.send(GuestData(guest, 1, b"xxx"))
    client.connection.unread = room.UNREAD + 1
    client.send(GuestCredit(guest, 1))
    assert "does not read" in end_of(client, guest).error
    assert node.of(GuestEnd) == [GuestEnd(guest)]


async def test_hanging_up(world: World) -> None:
    node, client, container = await begin(world)
    guest = join(client, container)
    client.send(GuestEnd(guest))
    assert node.of(GuestEnd) == [GuestEnd(guest)]
    assert client.of(GuestEnd) == []


async def test_guests_end_with_the_clients_connection(world: World) -> None:
    """Though the session may come back."""
    node, client, container = await begin(world)
    guest = join(client, container)
    client.vanish()
    assert node.of(GuestEnd) == [GuestEnd(guest)]
    await client.connect()
    client.send(GuestData(guest, 0, b"x"))
    assert node.of(GuestData) == []


async def test_guests_end_with_the_nodes_connection(world: World) -> None:
    node, client, container = await begin(world)
    guest = join(client, container)
    node.connection.close()
    assert "lost touch" in end_of(client, guest).error
    again = join(client, container)
    assert "is away" in end_of(client, again).error


async def test_guests_end_with_their_container(world: World) -> None:
    node, client, container = await begin(world)
    guest = join(client, container)
    node.end(container, "exit")
    assert end_of(client, guest) == GuestEnd(guest, signal=9, error="the container has ended")


async def test_words_of_a_node_are_one_line(world: World) -> None:
    node, client, container = await begin(world)
    guest = join(client, container)
    node.send(GuestEnd(guest, error="a\nb" + "c" * 9999))
    assert end_of(client, guest).error.startswith("a b")
    assert len(end_of(client, guest).error) <= 2000


async def test_who_ran_what_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    node, client, container = await begin(world)
    with caplog.at_level(logging.INFO, "squall.server"):
        guest = join(client, container, "sh", "-c", "echo a\nb")
        node.send(GuestEnd(guest, code=3))
    begun, ended = caplog.messages
    assert f"guest {guest}: session " in begun
    assert f"workspace default, environment main, runs in container {container} of f: " in begun
    assert "\n" not in begun
    assert ended == f"guest {guest}: ended: code 3"


def test_messages_have_numbers() -> None:
    for message in (Join("g", "c", ["a"]), GuestData("g", 0, b""), GuestEnd("g"), GuestCredit("g", 1)):
        assert codec.decode(codec.encode([message])) == [message]
    assert not set(m.KINDS) & set(guests.KINDS)

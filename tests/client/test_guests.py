"""A guest of the blocking client against a scripted server."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from squall import exception
from squall.wire.control import Empty
from squall.wire.guests import PIECE, WINDOW, GuestCredit, GuestData, GuestEnd, GuestResize, Join
from tests.client.test_blocking import until

if TYPE_CHECKING:
    from squall.client.blocking import BlockingClient
    from tests.client.fake_server import FakeServer


def test_what_it_says_and_hears(server: FakeServer, client: BlockingClient) -> None:
    guest = client.join("ct-1", ["sh", "-c", "x"], env={"A": "1"}, terminal=(3, 4))
    until(lambda: server.of(Join))
    assert server.of(Join) == [Join(guest.id, "ct-1", ["sh", "-c", "x"], {"A": "1"}, True, 3, 4)]
    guest.send(b"typed")
    guest.resize(5, 6)
    guest.end_input()
    until(lambda: len(server.of(GuestData)) == 2)
    assert [d.data for d in server.of(GuestData)] == [b"typed", b""]
    assert server.of(GuestResize) == [GuestResize(guest.id, 5, 6)]
    server.push(GuestData("gu-other", 1, b"no"), GuestData(guest.id, 2, b"err"), GuestEnd(guest.id, code=3))
    assert guest.next(10) == GuestData(guest.id, 2, b"err")
    assert guest.next(10) == GuestEnd(guest.id, code=3)
    guest.send(b"late")
    guest.close()
    with pytest.raises(exception.TimeoutError):
        guest.next(0)
    assert len(server.of(GuestData)) == 2
    assert server.of(GuestEnd) == []


def test_credit_is_given_for_what_was_taken(server: FakeServer, client: BlockingClient) -> None:
    guest = client.join("ct-1", ["x"])
    server.push(GuestData(guest.id, 1, b"abc"))
    guest.next(10)
    until(lambda: server.of(GuestCredit) == [GuestCredit(guest.id, 3)])


def test_sending_waits_for_credit(server: FakeServer, client: BlockingClient) -> None:
    guest = client.join("ct-1", ["x"])
    sender = threading.Thread(target=guest.send, args=(bytes(2 * WINDOW),))
    sender.start()

    def sent() -> int:
        return sum(len(d.data) for d in server.of(GuestData))

    until(lambda: sent() == WINDOW)
    assert max(len(d.data) for d in server.of(GuestData)) == PIECE
    server.push(GuestCredit(guest.id, 100))
    until(lambda: sent() == WINDOW + 100)
    server.push(GuestEnd(guest.id, code=0))
    sender.join(10)
    assert not sender.is_alive()
    assert guest.next(10) == GuestEnd(guest.id, code=0)


def test_closing_hangs_up(server: FakeServer, client: BlockingClient) -> None:
    guest = client.join("ct-1", ["x"])
    guest.close()
    guest.close()
    until(lambda: server.of(GuestEnd))
    assert server.of(GuestEnd) == [GuestEnd(guest.id)]


def test_broken_connection_ends_it(server: FakeServer, client: BlockingClient) -> None:
    """It is not begun again on the next one."""
    guest = client.join("ct-1", ["x"])
    until(lambda: server.of(Join))
    server.push(GuestData(guest.id, 1, b"last"))
    assert isinstance(guest.next(10), GuestData)
    server.drop_all()
    with pytest.raises(exception.ConnectionError, match="broke"):
        guest.next(10)
    client.request("status", Empty())
    assert len(server.of(Join)) == 1

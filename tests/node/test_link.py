"""The link to the server where the agent's whole life does not show it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from squall.node.endpoint import Endpoint
from squall.node.link import Link, Owner
from squall.wire import codec
from squall.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pytest

    from squall.wire.values import ContainerUsage


class Nobody(Owner):
    """An owner with nothing to say."""

    def __init__(self) -> None:
        self.welcomes = 0
        self.lost = 0

    def welcomed(self) -> None:
        self.welcomes += 1

    def received(self, message: Any) -> None: ...

    def congested(self, full: bool) -> None: ...

    def confirmed(self, number: int) -> None: ...

    def disconnected(self) -> None: ...

    def lease_lost(self) -> None:
        self.lost += 1

    def usage(self) -> Mapping[str, ContainerUsage]:
        return {}


class Plain:
    """Framing of a transport that needs no handshake on our part, but has one."""

    open = False
    farewell = None

    def opening(self) -> bytes:
        return b""

    def feed(self, data: bytes) -> list[bytes]:
        self.open = True
        return [data] if data != b"101" else []

    def frame(self, payload: bytes) -> bytes:
        return payload

    def replies(self) -> bytes:
        return b""

    def closing(self) -> bytes:
        return b""


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def close(self) -> None: ...

    def abort(self) -> None: ...


def test_a_server_that_answers_before_connect_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        owner, transport = Nobody(), Transport()

        async def connect(_self: Endpoint, _loop: object, make: Callable[[], Any]) -> Any:
            connection = make()
            connection.connection_made(transport)
            connection.data_received(b"101")
            await asyncio.sleep(0)
            connection.data_received(codec.encode([m.Welcome("se-1", "0", "default", "main")]))
            return connection

        monkeypatch.setattr(Endpoint, "connect", connect)
        monkeypatch.setattr(Endpoint, "framing", lambda _self: Plain())
        running = asyncio.create_task(Link(Endpoint(path="/s"), owner).run())
        await asyncio.sleep(0.05)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        (hello,) = codec.decode(next(filter(None, transport.written)))
        assert isinstance(hello, m.Hello)
        assert owner.welcomes == 1

    asyncio.run(scenario())


class SleepyLoop(asyncio.SelectorEventLoop):
    """Its machine can sleep: time passes at once."""

    slept = 0.0

    def time(self) -> float:
        return super().time() + self.slept


def run_asleep(monkeypatch: pytest.MonkeyPatch, *, answers: bool) -> int:
    """How often the lease was lost, after a long sleep, when the server answers then, or does not."""
    loop, owner, transport = SleepyLoop(), Nobody(), Transport()
    made: list[Any] = []

    async def connect(_self: Endpoint, _loop: object, make: Callable[[], Any]) -> Any:
        if made:
            raise ConnectionRefusedError
        made.append(make())
        made[0].connection_made(transport)
        welcome = m.Welcome("se-1", "0", "default", "main", heartbeat=0.2, lease=2.0)
        made[0].data_received(codec.encode([welcome]))
        return made[0]

    def newest() -> int:
        messages = [each for part in filter(None, transport.written) for each in codec.decode(part)]
        return max(each.number for each in messages if isinstance(each, m.Heartbeat))

    async def scenario() -> int:
        running = asyncio.create_task(link.run())
        while link.heartbeats < 2:  # noqa: ASYNC110 - the link tells nobody
            await asyncio.sleep(0.01)
        before = link.heartbeats
        loop.slept = 3600.0
        for _ in range(50):
            await asyncio.sleep(0.02)
            if answers and link.heartbeats > before:
                made[0].data_received(codec.encode([m.Heartbeat(newest())]))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return owner.lost

    monkeypatch.setattr(Endpoint, "connect", connect)
    monkeypatch.setattr(Endpoint, "framing", lambda _self: Plain())
    link = Link(Endpoint(path="/s"), owner)
    try:
        return loop.run_until_complete(scenario())
    finally:
        loop.close()


def test_after_a_sleep_the_server_is_asked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_asleep(monkeypatch, answers=True) == 0


def test_after_a_sleep_without_an_answer_the_lease_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_asleep(monkeypatch, answers=False) == 1

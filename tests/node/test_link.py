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

    def welcomed(self) -> None:
        self.welcomes += 1

    def received(self, message: Any) -> None: ...

    def congested(self, full: bool) -> None: ...

    def confirmed(self, number: int) -> None: ...

    def disconnected(self) -> None: ...

    def lease_lost(self) -> None: ...

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

"""Where the server is: `unix:PATH`, `ws://HOST:PORT` or `wss://HOST:PORT`."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from squall.wire.websocket import ClientWebSocket

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from squall.wire.framing import Framing

    P = TypeVar("P", bound=asyncio.Protocol)

_PORTS = {"ws": 80, "http": 80, "wss": 443, "https": 443}


@dataclass(frozen=True)
class Endpoint:
    """A Unix socket's `path`, or `host` and `port`."""

    path: str = ""
    host: str = ""
    port: int = 0
    tls: bool = False

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Raises ValueError with one line that says what is right."""
        if text.startswith("unix:") and len(text) > len("unix:"):
            return cls(path=text[len("unix:") :])
        parts = urlsplit(text)
        if parts.scheme not in _PORTS or not parts.hostname or parts.path not in {"", "/"}:
            raise ValueError(f"{text!r} is no server: use unix:PATH, ws://HOST:PORT or wss://HOST:PORT")
        return cls(
            host=parts.hostname, port=parts.port or _PORTS[parts.scheme], tls=parts.scheme in {"wss", "https"}
        )

    def framing(self) -> Framing:
        if self.path:
            return ClientWebSocket("localhost", mask=False)
        host = f"[{self.host}]" if ":" in self.host else self.host
        return ClientWebSocket(f"{host}:{self.port}", mask=not self.tls)

    async def connect(self, loop: asyncio.AbstractEventLoop, make: Callable[[], P]) -> P:
        """Raises OSError."""
        if self.path:
            _, protocol = await loop.create_unix_connection(make, self.path)
        else:
            context = ssl.create_default_context() if self.tls else None
            _, protocol = await loop.create_connection(make, self.host, self.port, ssl=context)
        return protocol

    def __str__(self) -> str:
        return (
            f"unix:{self.path}" if self.path else f"{'wss' if self.tls else 'ws'}://{self.host}:{self.port}"
        )

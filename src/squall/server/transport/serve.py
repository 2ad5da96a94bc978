"""Listens: the embedded Unix socket always, TCP where asked."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from squall.server.transport.guard import Guard
from squall.server.transport.http import application, protocol

if TYPE_CHECKING:
    from squall.server.connection import Acceptor


class ListenError(Exception):
    """An address cannot be listened on; one line for a user."""


@dataclass(frozen=True)
class Addresses:
    """`unix` is a path; `tcp` (host, port) or None."""

    unix: Path
    tcp: tuple[str, int] | None = None


class Transport:
    """One uvicorn server on both sockets. `allowed_uids` may use the Unix one, besides root and the server's own."""

    def __init__(self, addresses: Addresses, guard: Guard | None = None, allowed_uids: frozenset[int] = frozenset()) -> None:
        self._addresses = addresses
        self._guard = guard or Guard()
        self._uids = allowed_uids | {0, os.geteuid()}
        self._sockets: list[socket.socket] = []
        self._server: uvicorn.Server | None = None

    def listen(self) -> None:
        """Bind. Raises ListenError."""
        self._sockets.append(_unix(self._addresses.unix, others=bool(self._uids - {0, os.geteuid()})))
        if self._addresses.tcp is not None:
            self._sockets.append(_tcp(*self._addresses.tcp))

    @property
    def port(self) -> int | None:
        """The TCP port that was bound."""
        return self._sockets[1].getsockname()[1] if len(self._sockets) > 1 else None

    async def serve(self, acceptor: Acceptor) -> None:
        """Until `stop`. `listen` comes first."""
        config = uvicorn.Config(
            application(),
            http=protocol(acceptor, self._guard, self._uids),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=3,
        )
        self._server = _Server(config)
        await self._server.serve(sockets=self._sockets)
        self._addresses.unix.unlink(missing_ok=True)

    def stop(self) -> None:
        """Accept nothing more and end `serve`."""
        if self._server is not None:
            self._server.should_exit = True


class _Server(uvicorn.Server):
    """Signals are the program's business, not uvicorn's."""

    def install_signal_handlers(self) -> None:
        """None."""

    def capture_signals(self):  # type: ignore[no-untyped-def]  # noqa: ANN201
        from contextlib import nullcontext

        return nullcontext()


def _unix(path: Path, *, others: bool) -> socket.socket:
    """Mode 0600; where another uid (root's server, dropped) must reach it, the peer check is the lock."""
    if _alive(path):
        raise ListenError(f"{path} is in use: another Squall server runs there (squall daemon status)")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(path))
        path.chmod(0o666 if others else 0o600)
        sock.listen(1024)
    except OSError as error:
        raise ListenError(f"cannot listen on {path}: {error.strerror}; choose another --socket or state directory") from None
    return sock


def _alive(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def _tcp(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        sock = socket.socket(family)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(1024)
    except OSError as error:
        hint = "is in use: stop what uses it or choose another port" if error.errno == errno.EADDRINUSE else f"cannot be used: {error}"
        raise ListenError(f"{host}:{port} {hint}") from None
    return sock

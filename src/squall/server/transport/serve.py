"""The transport: one uvicorn server on the Unix socket and, where asked, on TCP."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
from typing import TYPE_CHECKING

import uvicorn

from squall.server.transport.guard import Guard
from squall.server.transport.http import Door, application, protocol_class
from squall.server.transport.limits import Limits
from squall.server.transport.link import RESTART, Link
from squall.server.transport.sockets import listen_tcp, listen_unix
from squall.server.transport.strangers import Strangers
from squall.wire.codec import FRAME_LIMIT

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Iterator

    from squall.server.connection import Acceptor

log = logging.getLogger("squall.server.transport")

ADAPTERS = ("auto", "picows", "plain")

#: Seconds that plain HTTP requests may take to end when the server stops.
_GRACE = 3


class Transport:
    """`allowed_uids` may use the Unix socket, besides root and the server's own user.

    `adapter` forces one of ADAPTERS (the setting SQUALL_WEBSOCKET); "auto" is picows where it fits.
    """

    def __init__(
        self,
        *,
        guard: Guard | None = None,
        allowed_uids: frozenset[int] = frozenset(),
        adapter: str = "auto",
        limits: Limits | None = None,
    ) -> None:
        self._guard = guard or Guard()
        self._allowed_uids = allowed_uids
        self._fast = _is_fast(adapter)
        self._limits = limits or Limits()
        self._links: set[Link] = set()
        self._server: _Server | None = None
        #: The TCP port, once it listens.
        self.port: int | None = None

    async def serve(
        self,
        acceptor: Acceptor,
        unix_path: str,
        tcp: tuple[str, int] | None = None,
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        """Until `stop` or cancellation. `ready` is called when it listens. Raises sockets.ListenError."""
        sockets = self._listen(unix_path, tcp)
        owned = os.stat(unix_path).st_ino
        door = Door(
            acceptor,
            self._guard,
            self._limits,
            os.geteuid(),
            self._allowed_uids,
            self._links,
            Strangers(self._limits.strangers),
            self._fast,
        )
        self._server = _Server(self._config(door), ready, self._end_links)
        try:
            await self._server.serve(sockets)
        finally:
            for sock in sockets:
                sock.close()
            _unlink(unix_path, owned)
        if self._server.cancelled:
            raise asyncio.CancelledError

    def stop(self) -> None:
        """Accept nothing more, say farewell to all, and end `serve`."""
        if self._server is not None:
            self._server.stop()

    def _listen(self, unix_path: str, tcp: tuple[str, int] | None) -> list[socket.socket]:
        if tcp is None:
            return [listen_unix(unix_path, others=bool(self._allowed_uids))]
        public = listen_tcp(*tcp)
        self.port = public.getsockname()[1]
        try:
            return [listen_unix(unix_path, others=bool(self._allowed_uids)), public]
        except BaseException:
            public.close()
            raise

    def _config(self, door: Door) -> uvicorn.Config:
        return uvicorn.Config(
            application(door),
            http=protocol_class(door),
            ws="none" if self._fast else "websockets-sansio",
            ws_max_size=FRAME_LIMIT,
            ws_ping_interval=self._limits.ping_after,
            ws_ping_timeout=self._limits.ping_patience,
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=_GRACE,
        )

    async def _end_links(self) -> None:
        ends = [link.end(RESTART) for link in list(self._links)]
        if ends:
            await asyncio.wait(ends)


class _Server(uvicorn.Server):
    """Signals are the program's business, and nothing wakes up ten times a second to look for the end."""

    def __init__(
        self,
        config: uvicorn.Config,
        ready: Callable[[], None],
        end_links: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(config)
        self._ready = ready
        self._end_links = end_links
        self._end = asyncio.Event()
        self.cancelled = False

    def stop(self) -> None:
        self.should_exit = True
        self._end.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        await self.on_tick(0)
        self._ready()
        try:
            await self._end.wait()
        except asyncio.CancelledError:
            self.cancelled = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """First what uvicorn does not know of, and would wait for in vain."""
        for server in self.servers:
            server.close()
        await self._end_links()
        await super().shutdown(sockets)


def _is_fast(adapter: str) -> bool:
    if adapter not in ADAPTERS:
        raise ValueError(f"no WebSocket adapter {adapter!r}: choose one of {', '.join(ADAPTERS)}")
    if adapter == "plain":
        return False
    if importlib.util.find_spec("picows") is not None:
        from squall.server.transport import fast

        if fast.fits():
            return True
    if adapter == "picows":
        raise ValueError("the picows that is installed is not 2.3: install it, or use the adapter plain")
    log.warning("no picows 2.3 is installed: WebSockets take the slow way")
    return False


def _unlink(path: str, inode: int) -> None:
    """Not the socket of a server that has taken the place meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        if os.stat(path).st_ino == inode:
            os.unlink(path)

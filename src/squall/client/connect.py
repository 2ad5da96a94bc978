"""The way to a server from here: a container's socket, a configured URL, or the embedded server."""

from __future__ import annotations

import atexit
import os
import time
import weakref
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from squall import exception
from squall.client import embedded
from squall.client.blocking import BlockingClient
from squall.client.core import Credentials
from squall.client.transport import Endpoint
from squall.config import load, state_dir
from squall.exception import InvalidError
from squall.runner.protocol import SOCKET

if TYPE_CHECKING:
    from squall.client.api import AsyncClient, Client

_PORTS = {"ws": 80, "http": 80, "wss": 443, "https": 443}


def connect(*, start: bool = True, environment: str = "") -> Client:
    """A connected client; `start` starts the embedded server where that is the one and it does not run.

    `environment` takes the place of the configured one. Raises exception.ConnectionError, AuthError,
    VersionError, InvalidError (configuration).
    """
    client = BlockingClient(*way(start=start, environment=environment))
    client.open()
    atexit.register(_close, weakref.ref(client))
    return client


async def connect_async(*, start: bool = True, environment: str = "") -> AsyncClient:
    """As `connect`, for the running loop."""
    from squall.client.aio import AsyncioClient  # asyncio takes longer to import than all the rest

    client = AsyncioClient(*way(start=start, environment=environment))
    await client.open()
    return client


def way(*, start: bool, environment: str = "") -> tuple[Endpoint, Credentials]:
    """Where the server is, and who asks."""
    settings = load()
    environment = environment or settings.environment
    nested = nested_socket()
    if nested:
        hint = "It is the agent's socket: did the container lose its node?"
        return Endpoint(nested, hint, path=nested, nested=True), Credentials(environment=environment)
    if settings.server_url:
        return remote(settings.server_url), Credentials(settings.token, environment)
    if settings.token:
        raise InvalidError(
            "There is a token and no server that it is for: set SQUALL_SERVER_URL (or server_url in the "
            "configuration file), or take the token away to use the server of this machine."
        )
    return local(state_dir(), start=start), Credentials(environment=environment)


def nested_socket() -> str:
    """The agent's socket, when this process runs in one of Squall's containers."""
    path = os.environ.get("SQUALL_SOCKET") or SOCKET
    return path if os.environ.get("SQUALL_IS_REMOTE") == "1" and os.path.exists(path) else ""


def remote(url: str) -> Endpoint:
    """A server by its URL. Raises InvalidError."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in _PORTS or not parts.hostname or port == -1 or parts.path not in {"", "/"}:
        raise InvalidError(
            f"{url!r} is no server's URL: write https://HOST:PORT, or http://HOST:PORT without TLS."
        )
    tls = parts.scheme in {"wss", "https"}
    hint = "Check that it runs, and the URL in SQUALL_SERVER_URL or the configuration file."
    return Endpoint(url, hint, host=parts.hostname, port=port or _PORTS[parts.scheme], tls=tls)


def local(state: str, *, start: bool) -> Endpoint:
    """The embedded server with this state directory."""
    hint = "See `squall daemon logs`." if start else "Start it with `squall daemon start`."
    prepare = _Starter(state) if start else None
    path = embedded.socket_path(state)
    return Endpoint(path, hint, path=path, prepare=prepare)


class _Starter:
    """Starts the embedded server for a client, also when it is away; not once its user has stopped it."""

    def __init__(self, state: str) -> None:
        self._state = state
        self._began: float | None = None

    def __call__(self) -> None:
        if self._began is None:
            self._began = time.time()
        elif embedded.stopped_since(self._state, self._began):
            raise exception.ConnectionError("The server was stopped with `squall daemon stop`.")
        embedded.ensure(self._state)


def _close(reference: weakref.ref[BlockingClient]) -> None:
    client = reference()
    if client is not None:
        client.close()

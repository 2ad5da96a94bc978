"""The server's program: opens state, listens, serves, and ends in good order on SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING

import uvloop

from squall.server.auth import Authenticator
from squall.server.control import ControlPlane
from squall.server.settings import Settings
from squall.server.transport.guard import Guard
from squall.server.transport.lines import Lines
from squall.server.transport.serve import Transport
from squall.server.transport.sockets import ListenError
from squall.server.transport.strangers import raise_descriptor_limit
from squall.server.vault import Vault
from squall.store.base import StoreError
from squall.store.disk import DiskBlobs
from squall.store.sqlite import SqliteStore
from squall.wire import parcels

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

log = logging.getLogger("squall.server")

#: Whose the embedded socket's clients are, unless another workspace is named.
DEFAULT_WORKSPACE = "default"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 1 when the server cannot start, with one line on standard error."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=options.log_level)
    try:
        raise_descriptor_limit()
        tcp = _address(options.listen) if options.listen else None
        os.makedirs(options.state, 0o700, exist_ok=True)
        uvloop.run(_check(options.state) if options.check else _serve(options, tcp))
    except (StoreError, ListenError, _UsageError) as error:
        print(f"squall server: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"squall server: {options.state}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


class _UsageError(Exception):
    """A wrong argument; one line."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m squall.server", description=__doc__)
    parser.add_argument("--state", required=True, help="directory of the database and the blobs")
    parser.add_argument("--socket", default="", help="the embedded Unix socket (default: STATE/server.sock)")
    parser.add_argument("--listen", default="", metavar="HOST:PORT", help="TCP as well; a token is required")
    parser.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name that clients use for this server, besides its addresses and localhost; may be repeated",
    )
    parser.add_argument(
        "--allowed-origin",
        action="append",
        default=[],
        metavar="URL",
        help="web pages that may use this server, such as https://ui.example.org; may be repeated",
    )
    parser.add_argument(
        "--lease",
        type=_seconds,
        default=_default("lease"),
        metavar="SECONDS",
        help="a node that is silent for so long has lost its work to others (default: %(default)s)",
    )
    parser.add_argument(
        "--heartbeat",
        type=_seconds,
        default=_default("heartbeat"),
        metavar="SECONDS",
        help="how often nodes and clients say that they are there (default: %(default)s)",
    )
    parser.add_argument(
        "--grace",
        type=_seconds,
        default=_default("grace"),
        metavar="SECONDS",
        help="a client that has vanished may take so long to come back (default: %(default)s)",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="only open the state, bring it up to date, and say if it is whole",
    )
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    return parser


def _default(name: str) -> str:
    """The environment's, which a supervisor hands on, or our own."""
    return os.environ.get(f"SQUALL_{name.upper()}") or f"{getattr(Settings, name):g}"


def _seconds(text: str) -> float:
    value = float(text)
    if not 0.01 <= value <= 86_400:
        raise ValueError(text)
    return value


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65_535:
        raise _UsageError(f"--listen {text}: give HOST:PORT, such as 127.0.0.1:7377")
    return host.strip("[]"), int(port)


async def _serve(options: argparse.Namespace, tcp: tuple[str, int] | None) -> None:
    socket = options.socket or os.path.join(options.state, "server.sock")
    async with _state(options.state) as (store, blobs):
        await store.create_workspace(DEFAULT_WORKSPACE)
        vault = Vault.open(os.path.join(options.state, "secret.keys"))
        settings = Settings(options.heartbeat, options.lease, options.grace)
        control = ControlPlane(
            store, blobs, Authenticator(store, DEFAULT_WORKSPACE), settings=settings, vault=vault
        )
        lines = Lines(control.parcels, DEFAULT_WORKSPACE, frozenset({0, os.geteuid()}))
        await control.start()
        gc.freeze()  # what is here now stays, and what comes later is mostly freed by its count
        gc.set_threshold(20_000, 20, 20)
        guard = Guard(frozenset(h.lower() for h in options.allowed_host), frozenset(options.allowed_origin))
        transport = Transport(guard=guard, adapter=os.environ.get("SQUALL_WEBSOCKET", "auto"))
        _stop_on_signals(transport)
        drain = partial(control.drain, transport.stop)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, drain)
        try:
            lines.listen(parcels.socket_path(socket))  # before who needs it can come
            await transport.serve(control, socket, tcp, lambda: _say_ready(socket, tcp, transport))
        finally:
            lines.close()
            await control.stop()
        log.info("stopped")


async def _check(directory: str) -> None:
    async with _state(directory):
        """Opened, it is whole and of a known version."""


@contextlib.asynccontextmanager
async def _state(directory: str) -> AsyncIterator[tuple[SqliteStore, DiskBlobs]]:
    store = SqliteStore(os.path.join(directory, "db.sqlite"))
    blobs = DiskBlobs(os.path.join(directory, "blobs"))
    await store.open()
    try:
        await blobs.open()
        try:
            yield store, blobs
        finally:
            await blobs.close()
    finally:
        await store.close()


def _stop_on_signals(transport: Transport) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, transport.stop)


def _say_ready(socket: str, tcp: tuple[str, int] | None, transport: Transport) -> None:
    also = f" and {tcp[0]}:{transport.port}" if tcp else ""
    log.info("listening on %s%s", socket, also)

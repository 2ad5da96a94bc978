"""The socket of one container: who comes in is its runner, once, or a nested client."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from squall.runner.protocol import CLIENT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: Connections that have said nothing yet; for how many seconds one may be so.
_STRANGERS = 16
_PATIENCE = 10.0
_FULL_PAUSE = 0.5


class Door:
    """Listens at `folder/agent.sock`. The callbacks own the sockets that they get."""

    def __init__(
        self,
        folder: Path,
        runner: Callable[[socket.socket], None],
        client: Callable[[socket.socket], None],
    ) -> None:
        self._runner = runner
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._strangers: dict[socket.socket, asyncio.TimerHandle] = {}
        self._pause: asyncio.TimerHandle | None = None
        self._path = folder / "agent.sock"
        self._socket = _listening(folder)
        self._loop.add_reader(self._socket, self._accept)

    def close(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()
        for stranger in list(self._strangers):
            self._dismiss(stranger).close()
        with suppress(OSError):
            self._path.unlink()

    def _accept(self) -> None:
        try:
            stranger, _ = self._socket.accept()
        except BlockingIOError:
            return
        except OSError:  # out of descriptors: it waits until there are some
            self._loop.remove_reader(self._socket)
            self._pause = self._loop.call_later(
                _FULL_PAUSE, self._loop.add_reader, self._socket, self._accept
            )
            return
        if len(self._strangers) >= _STRANGERS:
            stranger.close()
            return
        stranger.setblocking(False)
        self._strangers[stranger] = self._loop.call_later(_PATIENCE, self._refuse, stranger)
        self._loop.add_reader(stranger, self._introduced, stranger)

    def _introduced(self, stranger: socket.socket) -> None:
        """Both prefaces arrive whole: they are sent at once."""
        try:
            start = stranger.recv(len(CLIENT), socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            start = b""
        if start == CLIENT:
            stranger.recv(len(CLIENT))
            self._client(self._dismiss(stranger))
        elif start and not start.startswith(CLIENT[:4]):
            self._runner(self._dismiss(stranger))
        else:
            self._refuse(stranger)

    def _refuse(self, stranger: socket.socket) -> None:
        self._dismiss(stranger).close()

    def _dismiss(self, stranger: socket.socket) -> socket.socket:
        """No stranger any more."""
        self._strangers.pop(stranger).cancel()
        self._loop.remove_reader(stranger)
        return stranger


def _listening(folder: Path) -> socket.socket:
    """Any uid may connect: only this container sees the folder. The path may be longer than an address."""
    path = folder / "agent.sock"
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    parent = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{parent}/agent.sock")
        path.chmod(0o666)
        listener.listen(64)
    except BaseException:
        listener.close()
        raise
    finally:
        os.close(parent)
    listener.setblocking(False)
    return listener

"""The keeper: a small process that holds descriptors for the launcher, so that containers outlive it.

What a container or a zone is to the launcher are descriptors: sockets, pidfds, namespaces, pipes. The keeper
has copies of them with a few words each, under a name. When the launcher is killed nothing inside notices,
for no socket closes; what is said meanwhile waits in them. The next launcher connects, takes all and goes on.
The keeper looks at nothing that it holds. It ends when it is told to, and by itself when no launcher comes.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from squall.runtime.launcher import messages
from squall.runtime.linux import processes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from squall.runtime.launcher.messages import Message

#: How long the keeper waits for the next launcher (seconds): longer than a supervisor's pause between starts.
PATIENCE_S = 120.0
#: Its name in the launcher's directory has the version of what is kept: another one is not understood.
SOCKET = "keeper-1.sock"
#: How long a launcher waits for the keeper. It does next to nothing; beyond this it is broken.
TIMEOUT_S = 10.0


@dataclass
class Kept:
    """What was kept under a name: words, and descriptors by their names. They are the receiver's."""

    value: dict[str, Any]
    descriptors: dict[str, int]


class Keeper:
    """The launcher's end. The process starts when there is something to keep.

    `restore` is called when a keeper died: it keeps everything once more.
    """

    def __init__(self, path: Path) -> None:
        self.restore: Callable[[], None] = lambda: None
        self._path = path
        self._connection: socket.socket | None = None

    def take_all(self) -> dict[str, Kept]:
        """What an earlier launcher had kept; it stays kept. Nothing when there is no keeper."""
        connection = _connect(self._path)
        if connection is None:
            return {}
        try:
            found = _receive_all(connection)
        except (OSError, ValueError):  # it has just ended, of old age
            connection.close()
            return {}
        self._connection = connection
        return found

    def keep(self, name: str, value: dict[str, Any], descriptors: dict[str, int]) -> None:
        """Keep this in place of what was kept under the name."""
        message = {"op": "keep", "name": name, "value": value, "parts": list(descriptors)}
        self._tell(message, list(descriptors.values()))

    def drop(self, name: str) -> None:
        if self._connection is not None:
            self._tell({"op": "drop", "name": name}, [])

    def end(self) -> None:
        """End the keeper with all that it keeps."""
        if self._connection is not None:
            with self._connection as connection:
                try:
                    messages.send(connection, {"op": "end"})
                    connection.recv(1)  # until it is gone
                except OSError:
                    pass
            self._connection = None
        self._path.unlink(missing_ok=True)

    def _tell(self, message: Message, descriptors: list[int]) -> None:
        """Without a keeper containers run as well, but no longer than this launcher."""
        killed = False
        try:
            killed = self._connection is not None and not _sent(self._connection, message, descriptors)
            if self._connection is None or killed:
                self._connection = _start(self._path)
                messages.send(self._connection, message, descriptors)
        except OSError as error:
            self._connection = None
            print(f"launcher: containers would not outlive me: {error}", file=sys.stderr, flush=True)
            return
        if killed:
            self.restore()


def _sent(connection: socket.socket, message: Message, descriptors: list[int]) -> bool:
    try:
        messages.send(connection, message, descriptors)
    except OSError:
        connection.close()
        return False
    return True


def _connect(path: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(TIMEOUT_S)
    try:
        with messages.reachable(path) as name:
            connection.connect(name)
    except OSError:
        connection.close()
        return None
    return connection


def _receive_all(connection: socket.socket) -> dict[str, Kept]:
    messages.send(connection, {"op": "all"})
    found: dict[str, Kept] = {}
    while True:
        message, descriptors = messages.receive(connection)
        if "end" in message:
            return found
        parts = dict(zip(message["parts"], descriptors, strict=True))
        found[message["name"]] = Kept(message["value"], parts)


def _start(path: Path) -> socket.socket:
    """Fork a keeper that listens at `path`; the connection to it."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        with messages.reachable(path) as name:
            listener.bind(name)
        listener.listen(1)
        pid = os.fork()
        if pid == 0:
            if os.fork() == 0:  # nobody's child, so that the launcher need not reap it
                _become(listener, f"squall-keeper {path.parent}")
            os._exit(0)
        os.waitpid(pid, 0)
    connection = _connect(path)
    if connection is None:
        raise OSError("the keeper of containers does not start")
    return connection


def _become(listener: socket.socket, title: str) -> NoReturn:
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        processes.hide_memory()
        processes.set_title(title)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in range(3):
            os.dup2(null, fd)
        processes.close_all_but({0, 1, 2, listener.fileno()})
        _serve(listener)
    finally:
        os._exit(0)


def _serve(listener: socket.socket) -> None:
    kept: dict[str, tuple[Message, list[int]]] = {}
    first = True
    while first or kept:
        if not select.select([listener], [], [], PATIENCE_S)[0]:
            return
        first = False
        with listener.accept()[0] as launcher:
            try:
                while _obey(launcher, kept):
                    pass
                return
            except (OSError, ValueError):
                continue  # the launcher has died


def _obey(launcher: socket.socket, kept: dict[str, tuple[Message, list[int]]]) -> bool:
    """One request; False to end."""
    message, descriptors = messages.receive(launcher)
    if message["op"] == "end":
        return False
    if message["op"] == "all":
        for entry, held in kept.values():
            messages.send(launcher, entry, held)
        messages.send(launcher, {"end": True})
        return True
    name = message["name"]
    if name in kept:
        messages.close_all(kept.pop(name)[1])
    if message["op"] == "keep":
        kept[name] = (message, descriptors)
    return True

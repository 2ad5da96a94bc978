"""A bad network between a node and its server: slow, broken now and then, or parted."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_CHUNK = 64 << 10


class Relay:
    """Passes bytes between connections to `path` and connections to `target`, both ways.

    `delay`: seconds that bytes take. While `parted`, nothing passes and connections stay open, as over a wire
    that was pulled out: what was sent arrives afterwards.
    """

    def __init__(self, path: Path, target: Path) -> None:
        self.path = path
        self.delay = 0.0
        self._target = target
        self._together = threading.Event()
        self._together.set()
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def part(self) -> None:
        self._together.clear()

    def heal(self) -> None:
        self._together.set()

    def cut(self) -> None:
        """Break every connection, wherever it is in what it says."""
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for end in sockets:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.heal()
        self.cut()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                ours, _ = self._listener.accept()
            except OSError:
                return
            theirs = socket.socket(socket.AF_UNIX)
            try:
                theirs.connect(str(self._target))
            except OSError:
                ours.close()
                continue
            with self._lock:
                self._sockets |= {ours, theirs}
            pumps = [
                threading.Thread(target=self._pump, args=p, daemon=True)
                for p in ((ours, theirs), (theirs, ours))
            ]
            self._threads.append(threading.Thread(target=_serve, args=(pumps, ours, theirs), daemon=True))
            self._threads[-1].start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                time.sleep(self.delay)
                self._together.wait()
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def _serve(pumps: list[threading.Thread], *ends: socket.socket) -> None:
    """One connection, from both sides, to its end."""
    for pump in pumps:
        pump.start()
    for pump in pumps:
        pump.join()
    for end in ends:
        end.close()

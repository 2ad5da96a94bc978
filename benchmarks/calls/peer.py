"""What a peer must be able to do. One class each; a worker process holds one of them."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: Containers, or actors, that work at maps.
WORKERS = 2
#: Inputs in one chunk where a peer has to be fed chunks.
CHUNK = 100
#: Spawns on their way at once.
AT_ONCE = 64


def seconds_of(what: Callable[[], object]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


def spin(seconds: float) -> None:
    """Use so much CPU time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


class Peer(ABC):
    """Every measure answers seconds, one or many. Started warm: the first call of each kind is done."""

    name: str

    @abstractmethod
    def start(self, folder: str) -> None:
        """`folder` is for its state, and names its processes."""

    @abstractmethod
    def stop(self) -> None: ...

    @abstractmethod
    def remote(self, count: int) -> list[float]:
        """Calls of a function that does nothing, one after another."""

    @abstractmethod
    def map_noop(self, count: int) -> list[float]:
        """All of an ordered map of no-ops over WORKERS, input by input."""

    @abstractmethod
    def map_chunks(self, count: int) -> list[float]:
        """The same in whichever way is quickest for many small inputs."""

    @abstractmethod
    def map_spin(self, count: int) -> list[float]:
        """All of a map of inputs that compute for 10 ms each."""

    @abstractmethod
    def map_sleep(self, count: int) -> list[float]:
        """All of a map of inputs that sleep for 10 ms each."""

    @abstractmethod
    def spawn_many(self, count: int) -> list[float]:
        """All of so many calls handed over, AT_ONCE at a time (Ray: async actor calls to their end)."""

    @abstractmethod
    def spawn_map(self, count: int) -> list[float]:
        """All of so many calls handed over by one statement (Ray: as spawn_many)."""

    @abstractmethod
    def spawn_each(self, count: int) -> list[float]:
        """Calls handed over one after another, each safe before the next (Ray: actor calls)."""

    @abstractmethod
    def echo(self, count: int, size: int) -> list[float]:
        """`size` bytes there and back."""

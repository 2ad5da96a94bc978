"""The scheduler's records: mutable, private to this room."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from squall.scheduling.model import FunctionConfig

Gpus = tuple[tuple[str, int], ...]

#: Weight of the newest sample in the running means.
_NEWEST = 0.2


class InputQueue:
    """Input ids in order; both ends and removal from the middle cost the same little."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def append(self, input_id: str) -> None:
        self._ids[input_id] = None

    def appendleft(self, input_id: str) -> None:
        self._ids[input_id] = None
        self._ids.move_to_end(input_id, last=False)

    def popleft(self) -> str:
        return self._ids.popitem(last=False)[0]

    def remove(self, input_id: str) -> None:
        del self._ids[input_id]


@dataclass(slots=True)
class Input:
    """One input. It is in exactly one place: its function's queue, a container, or waiting for `due`."""

    id: str
    function: str
    attempt: int = 0
    container: str | None = None
    started: bool = False
    due: float | None = None
    retries: int = 0
    victim_runs: int = 0
    yielded: bool = False
    cancelled: bool = False


@dataclass(slots=True)
class Container:
    """`since` is when it became idle, or was asked for while it is not ready; `used`: it has had an input."""

    id: str
    function: str
    node: str
    cpu_millis: int
    memory_mib: int
    gpus: Gpus
    since: float
    ready: bool = False
    stopping: bool = False
    used: bool = False
    inputs: dict[str, int] = field(default_factory=dict)

    @property
    def idle(self) -> bool:
        return self.ready and not self.stopping and not self.inputs


@dataclass(slots=True)
class Node:
    """Free amounts are totals less the demands of all containers that have not exited."""

    id: str
    cpu_millis: int
    memory_mib: int
    gpus: dict[str, int]
    free_cpu: int
    free_memory: int
    free_gpus: dict[str, int]
    containers: set[str] = field(default_factory=set)

    def take(self, container: Container) -> None:
        self._move(container, -1)
        self.containers.add(container.id)

    def give_back(self, container: Container) -> None:
        self._move(container, 1)
        self.containers.discard(container.id)

    def _move(self, container: Container, sign: int) -> None:
        self.free_cpu += sign * container.cpu_millis
        self.free_memory += sign * container.memory_mib
        for kind, count in container.gpus:
            self.free_gpus[kind] = self.free_gpus.get(kind, 0) + sign * count


@dataclass(slots=True)
class Function:
    """`mean` is the running mean of seconds in user code, `start` of a container's start; None: unknown.

    `room`: containers of others that were told to end for this function, and have not yet.
    """

    config: FunctionConfig
    queue: InputQueue = field(default_factory=InputQueue)
    containers: dict[str, Container] = field(default_factory=dict)
    mean: float | None = None
    start: float | None = None
    start_failures: int = 0
    #: Its last start failed for a shortage, and its callers were told.
    short: bool = False
    not_before: float = 0.0
    removed: bool = False
    said: str = ""
    room: set[str] = field(default_factory=set)

    def observe_duration(self, seconds: float) -> None:
        self.mean = _mean(self.mean, seconds)

    def observe_start(self, seconds: float) -> None:
        self.start = _mean(self.start, seconds)

    def live(self) -> list[Container]:
        """Containers that run or will run inputs."""
        return [c for c in self.containers.values() if not c.stopping]


def _mean(old: float | None, new: float) -> float:
    return new if old is None else old + _NEWEST * (new - old)

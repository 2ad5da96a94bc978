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
    """Input ids in order; both ends and removal from the middle cost the same little.

    Those that another input waits for are known by how deeply they are nested.
    """

    def __init__(self) -> None:
        self._ids: OrderedDict[str, int] = OrderedDict()
        #: Inputs of the user's: chunks have several.
        self.weight = 0
        self._depths: dict[str, int] = {}
        self._awaited: dict[int, OrderedDict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    @property
    def head(self) -> int:
        """How many inputs of the user's the oldest is; 0: there is none."""
        return next(iter(self._ids.values()), 0)

    @property
    def awaited(self) -> int:
        """How many of them another input waits for."""
        return len(self._depths)

    def append(self, record: Input) -> None:
        self._ids[record.id] = record.count
        self.weight += record.count
        if record.waiters:
            self.prefer(record)

    def appendleft(self, record: Input) -> None:
        self.append(record)
        self._ids.move_to_end(record.id, last=False)

    def prefer(self, record: Input) -> None:
        """Another input waits for this one."""
        self.prefer_no_more(record.id)
        self._depths[record.id] = record.depth
        self._awaited.setdefault(record.depth, OrderedDict())[record.id] = None

    def popleft(self, *, awaited_first: bool = False) -> str:
        """The oldest; with `awaited_first`, the oldest of the most deeply nested, if there is one."""
        input_id = self.deepest() if awaited_first and self._depths else next(iter(self._ids))
        self.remove(input_id)
        return input_id

    def deepest(self) -> str:
        """The oldest of the most deeply nested."""
        return next(iter(self._awaited[max(self._awaited)]))

    def remove(self, input_id: str) -> None:
        self.weight -= self._ids.pop(input_id)
        self.prefer_no_more(input_id)

    def prefer_no_more(self, input_id: str) -> None:
        """Nobody waits for it."""
        depth = self._depths.pop(input_id, None)
        if depth is not None:
            level = self._awaited[depth]
            del level[input_id]
            if not level:
                del self._awaited[depth]


@dataclass(slots=True)
class Input:
    """One input. It is in exactly one place: its function's queue, a container, or waiting for `due`.

    `awaits` are the unfinished inputs that it waits for, `waiters` those that wait for it, which makes it as
    nested as `depth` says. `recalled`: its node gives it back unless it has begun. `direct` as in
    model.InputsArrived; `count` inputs of the user's make it.
    """

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
    recalled: bool = False
    direct: bool = False
    count: int = 1
    depth: int = 0
    awaits: set[str] | None = None
    waiters: tuple[str, ...] = ()


@dataclass(slots=True)
class Container:
    """`since` is when it became idle, or was asked for while it is not ready; `used`: it has had an input.

    `inputs` have their attempts, `weight` counts the user's. `waiting` are those of its inputs that wait for
    others; `line` is a direct input that makes way for them.
    """

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
    weight: int = 0
    waiting: set[str] = field(default_factory=set)
    line: str = ""

    @property
    def load(self) -> int:
        """How many inputs of the user's it has, without a line that they end by coming."""
        return self.weight - (bool(self.line) and len(self.inputs) > 1)

    def hold(self, record: Input) -> None:
        self.inputs[record.id] = record.attempt
        self.weight += record.count

    def let_go(self, record: Input) -> None:
        del self.inputs[record.id]
        self.weight -= record.count

    @property
    def idle(self) -> bool:
        return self.ready and not self.stopping and not self.inputs


@dataclass(slots=True)
class Node:
    """Free amounts are totals less the demands of all containers that have not exited.

    Free CPU is below zero while containers that lent theirs have it back before the borrowers have ended.
    """

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

    `room`: containers of others that were told to end for this function, and have not yet. `nests`: some of
    its inputs waited for others.
    """

    config: FunctionConfig
    queue: InputQueue = field(default_factory=InputQueue)
    containers: dict[str, Container] = field(default_factory=dict)
    mean: float | None = None
    start: float | None = None
    #: Starts that failed one after another, and when the last one did that counted.
    start_failures: int = 0
    failed_at: float = -1.0
    #: Its last start failed for a shortage, and its callers were told.
    short: bool = False
    not_before: float = 0.0
    removed: bool = False
    said: str = ""
    room: set[str] = field(default_factory=set)
    nests: bool = False

    def observe_duration(self, seconds: float) -> None:
        self.mean = _mean(self.mean, seconds)

    def observe_start(self, seconds: float) -> None:
        self.start = _mean(self.start, seconds)

    def live(self) -> list[Container]:
        """Containers that run or will run inputs."""
        return [c for c in self.containers.values() if not c.stopping]


def _mean(old: float | None, new: float) -> float:
    return new if old is None else old + _NEWEST * (new - old)

"""What is measured, how often, on which CPUs, and what is asked of the ratio to Ray."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def p99(values: Sequence[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]


class Floor(Enum):
    """What each operation needs of the machine, whoever does it."""

    DISK = "disk"
    MEMORY = "memory"


@dataclass(frozen=True)
class Measure:
    """A round has `ops` operations; seconds an operation come out.

    `target` is what Ray's seconds over Squall's are to be at least.
    """

    name: str
    method: str
    arguments: tuple[int, ...]
    ops: int
    target: float | None
    reduce: Callable[[Sequence[float]], float] = median
    #: Which method Ray answers with, where it is another one.
    ray_method: str = ""
    one_cpu: bool = False
    #: What is measured beside it.
    floor: Floor | None = None

    def per_operation(self, seconds: Sequence[float]) -> float:
        return self.reduce(seconds) / self.ops


def measures(scale: float) -> list[Measure]:
    """`scale` makes all rounds longer or shorter."""

    def n(count: int) -> int:
        return max(1, int(count * scale))

    calls, many, heavy = n(400), n(20_000), n(2_000)
    return [
        Measure("warm .remote(), p50, one CPU", "remote", (calls,), 1, 4.0, one_cpu=True),
        Measure("warm .remote(), p99, one CPU", "remote", (calls,), 1, 4.0, p99, one_cpu=True),
        Measure("warm .remote(), p50", "remote", (calls,), 1, 4.0),
        Measure("warm .remote(), p99", "remote", (calls,), 1, 4.0, p99),
        Measure("ordered .map of no-ops / Ray one by one", "map_noop", (many,), many, 25.0),
        Measure(
            "ordered .map of no-ops / Ray in chunks", "map_noop", (many,), many, 1.0, ray_method="map_chunks"
        ),
        Measure(".map of 10 ms of computing", "map_spin", (heavy,), heavy, None),
        Measure(".map of 10 ms of sleep", "map_sleep", (heavy,), heavy, None),
        Measure(".spawn.aio, 64 at a time / Ray async actor", "spawn_many", (n(5_000),), n(5_000), 10.0),
        Measure(".spawn_map / Ray async actor", "spawn_map", (n(5_000),), n(5_000), 10.0),
        Measure(".spawn one after another / Ray actor", "spawn_each", (n(200),), 1, 1.0, floor=Floor.DISK),
        Measure("1 MB there and back", "echo", (n(50), 1 << 20), 1, 1.0, floor=Floor.MEMORY),
        Measure("100 MB there and back", "echo", (n(3), 100 << 20), 1, 1.0, floor=Floor.MEMORY),
    ]

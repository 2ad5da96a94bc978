"""Which GPUs of this machine each container has. No I/O."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from squall.runtime.gpus import Gpu


class NoGpuError(Exception):
    """A container asks for what is not free; the message is one line."""


class Gpus:
    """Hands out the devices that are `present`; of types that are only `declared`, none.

    Without `declared` the node has what is present. With it, it has what is declared: fewer devices than
    there are, or types without devices, for planning. Raises ValueError for more than there are of a type.
    """

    def __init__(self, present: Sequence[Gpu], declared: Mapping[str, int] | None = None) -> None:
        there = Counter(gpu.type for gpu in present)
        self.counts: dict[str, int] = dict(there) if declared is None else dict(declared)
        for kind, count in self.counts.items():
            if there[kind] and count > there[kind]:
                raise ValueError(f"{kind}:{count} is declared, and this machine has {there[kind]} of them")
        self.present = [gpu for gpu in present if gpu.type in self.counts]
        self._limits = {kind: self.counts[kind] for kind in there if kind in self.counts}
        self._taken: dict[str, tuple[Gpu, ...]] = {}

    @property
    def only_declared(self) -> list[str]:
        """Types that containers get no device of."""
        return sorted(kind for kind in self.counts if kind not in self._limits)

    def take(self, container: str, kinds: Iterable[str]) -> tuple[Gpu, ...]:
        """Devices for a container, the lowest free ones of each type. Raises NoGpuError."""
        given: list[Gpu] = []
        for kind, count in Counter(kinds).items():
            if kind not in self.counts:
                raise NoGpuError(f"this node has no GPU of type {kind}")
            if kind in self._limits:
                free = self._free(kind)
                if len(free) < count:
                    raise NoGpuError(f"{count} GPUs of type {kind} are needed, and {len(free)} are free here")
                given += free[:count]
        self._taken[container] = tuple(given)
        return self._taken[container]

    def adopt(self, container: str, minors: Iterable[int]) -> None:
        """A container that runs already has these."""
        wanted = set(minors)
        self._taken[container] = tuple(gpu for gpu in self.present if gpu.minor in wanted)

    def give_back(self, container: str) -> None:
        self._taken.pop(container, None)

    def _free(self, kind: str) -> list[Gpu]:
        taken = {gpu.minor for gpus in self._taken.values() for gpu in gpus}
        used = sum(gpu.type == kind and gpu.minor in taken for gpu in self.present)
        free = [gpu for gpu in self.present if gpu.type == kind and gpu.minor not in taken]
        return free[: max(0, self._limits[kind] - used)]

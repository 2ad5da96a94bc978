"""What containers use, measured every few seconds for heartbeats and last words."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from squall.runtime.driver import DriverError, Runtime
from squall.wire.values import ContainerUsage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from squall.node.containers import Container

#: Seconds between measurements.
INTERVAL = 3.0


class Meters:
    def __init__(self, runtime: Runtime, containers: Callable[[], Iterable[Container]]) -> None:
        self._runtime = runtime
        self._containers = containers

    def usage(self) -> Mapping[str, ContainerUsage]:
        """The newest measurement of every container that runs."""
        return {
            c.id: ContainerUsage(c.usage.cpu_seconds, c.usage.memory_bytes, c.usage.memory_peak_bytes)
            for c in self._containers()
            if c.running
        }

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            for container in list(self._containers()):
                if container.running:
                    try:
                        container.usage = await self._runtime.usage(container.id)
                    except DriverError:  # it has just ended
                        continue
            await asyncio.sleep(INTERVAL)

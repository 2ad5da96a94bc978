"""How the start of a container went, for the traces of the inputs that waited for it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squall.node import outcomes
from squall.wire import hops

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from squall.wire.values import Trace

#: What a runner tells with READY: when its program began, reached the agent, and had loaded the function.
_RUNNER = (("runner.main", "main"), ("runner.connected", "connected"), ("runner.imported", "imported"))


class Stages:
    """Noted of every container: some ten times each. Empty for one that an earlier agent started."""

    def __init__(self) -> None:
        self._hops: Trace = []

    def mark(self, name: str, now: float) -> None:
        self._hops.append((name, now))

    def driver(self, stages: Iterable[tuple[str, float]]) -> None:
        """Those that the driver tells of: it is trusted."""
        self._hops += stages

    def ready(self, header: Mapping[str, Any], now: float) -> None:
        if self._hops:
            self._hops += outcomes.moments(header, _RUNNER, self._hops[-1][1], now)
            self.mark("agent.ready", now)

    def tell(self, trace: Trace) -> None:
        """Add them, if the input waited for this container, as the server knows."""
        if any(name == hops.START for name, _ in trace):
            trace += self._hops

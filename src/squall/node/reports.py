"""What the server must hear, until it has: outputs until it says so, ends until a later heartbeat's answer.

A new connection begins with an announcement of what is; what is not yet confirmed counts as still there, so
that the server does not run it again in the moment before it hears of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from squall.wire.messages import (
    AnnouncedContainer,
    ContainerState,
    NodeOutput,
    NodeOutputs,
    NodeYields,
    RunningInput,
)

if TYPE_CHECKING:
    from collections.abc import Callable

#: Bytes of unconfirmed outputs at which containers are no longer read.
FULL = 64 << 20


@dataclass(frozen=True)
class _Output:
    container: str
    output: NodeOutput
    yields: NodeYields | None
    count: int

    @property
    def size(self) -> int:
        yields = 0 if self.yields is None else sum(len(p.data) for p in self.yields.payloads)
        return yields + len(self.output.output.outcome.payload.data)


@dataclass(frozen=True)
class _Ended:
    """A container's last word, and the heartbeat whose answer confirms it. What was returned with it is the
    server's from then on; the container itself is announced for as long as it has outputs: without it, they
    would be a stranger's to a server that comes after this one.
    """

    heartbeat: int
    state: ContainerState
    function: str


class Reports:
    """`send` is silent without a connection; `heartbeats` is the number of the newest one sent.

    `taken` is told of a result's blob once nobody asks for it here any more.
    `full` is told when too much waits for confirmation, and when it does not any more.
    """

    def __init__(
        self,
        send: Callable[..., None],
        heartbeats: Callable[[], int],
        full: Callable[[bool], None],
        taken: Callable[[str], None] = lambda _blob: None,
    ) -> None:
        self._send = send
        self._heartbeats = heartbeats
        self._full = full
        self._taken = taken
        self._outputs: dict[tuple[str, int], _Output] = {}
        self._ended: list[_Ended] = []
        self._bytes = 0

    def output(
        self, container: str, output: NodeOutput, yields: NodeYields | None = None, count: int = 1
    ) -> None:
        """An attempt's end; `yields` are those of it that go along when it must be said again. It was one at
        `count` inputs of the user's.
        """
        key = (output.input, output.attempt)
        self._outputs[key] = _Output(container, output, yields, count)
        self._count(self._outputs[key].size)
        self._send(NodeOutputs(container, [output]))

    def state(self, state: ContainerState) -> None:
        """Of a container that lives."""
        self._send(state)

    def ended(self, state: ContainerState, function: str) -> None:
        """Its last word. The unbegun inputs are in it; the others have their outputs, or are the server's."""
        self._ended.append(_Ended(self._heartbeats() + 1, state, function))
        self._send(state)

    def durable(self, keys: list[tuple[str, int]]) -> None:
        for input_id, attempt in keys:
            found = self._outputs.pop((input_id, attempt), None)
            if found is not None:
                self._count(-found.size)
                self._let_go(found)

    def confirmed(self, heartbeat: int) -> None:
        self._ended = [
            e if e.heartbeat > heartbeat else replace(e, state=replace(e.state, returned=[]))
            for e in self._ended
            if e.heartbeat > heartbeat or self.pending(e.state.container)
        ]

    def pending(self, container: str) -> list[RunningInput]:
        """Inputs whose outputs are not confirmed: they are still this node's."""
        return [
            RunningInput(i, n, started=True, count=kept.count)
            for (i, n), kept in self._outputs.items()
            if kept.container == container
        ]

    def lent(self, container: str) -> int:
        """Bytes of its results in blobs and parcels that are not confirmed."""
        payloads = (
            k.output.output.outcome.payload for k in self._outputs.values() if k.container == container
        )
        return sum(p.size for p in payloads if p.blob)

    def announced(self) -> list[AnnouncedContainer]:
        """Containers that have ended and nobody may have heard of it."""
        return [self._announced(e.state, e.function) for e in self._ended]

    def _announced(self, state: ContainerState, function: str) -> AnnouncedContainer:
        inputs = self.pending(state.container)
        inputs += [RunningInput(i, n, started=False) for i, n in state.returned]
        return AnnouncedContainer(state.container, function, state.state == "exited", inputs)

    def resend(self) -> None:
        """After an announcement."""
        by_container: dict[str, list[NodeOutput]] = {}
        for kept in self._outputs.values():
            if kept.yields is not None:
                self._send(kept.yields)
            by_container.setdefault(kept.container, []).append(kept.output)
        self._send(*(NodeOutputs(container, items) for container, items in by_container.items()))
        again, self._ended = self._ended, []
        for ended in again:
            self._ended.append(replace(ended, heartbeat=self._heartbeats() + 1))
            self._send(ended.state)

    def forget(self) -> None:
        """The lease is lost: all of this is somebody else's now."""
        for kept in self._outputs.values():
            self._let_go(kept)
        self._outputs.clear()
        self._ended.clear()
        self._count(-self._bytes)

    def _let_go(self, kept: _Output) -> None:
        blob = kept.output.output.outcome.payload.blob
        if blob:
            self._taken(blob)

    def _count(self, size: int) -> None:
        before, self._bytes = self._bytes, self._bytes + size
        if (before > FULL) != (self._bytes > FULL):
            self._full(self._bytes > FULL)

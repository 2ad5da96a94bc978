"""One node, as the control plane sees it: what it has and runs, and messages to it in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from squall.wire.messages import Assign, OutputsDurable

if TYPE_CHECKING:
    from squall.server.connection import Connection
    from squall.server.model import Container
    from squall.wire.messages import NodeInput, NodeResources

#: So many outputs that the node may forget are told at once: until then it holds them.
MANY_ACKNOWLEDGED = 256


@dataclass(eq=False)
class Node:
    """It outlives its connections while its lease holds; messages to it meanwhile are lost, and made good by
    what it announces when it is back. `deadline` is when the lease ends, `workspaces` whose work it has had.
    `chunks`: it takes them.
    """

    id: str
    resources: NodeResources
    images: set[str]
    deadline: float
    connection: Connection | None = None
    containers: dict[str, Container] = field(default_factory=dict)
    workspaces: set[str] = field(default_factory=set)
    chunks: bool = False
    _assigned: dict[str, list[NodeInput]] = field(default_factory=dict)
    _acknowledged: list[tuple[str, int]] = field(default_factory=list)

    def send(self, *messages: object) -> None:
        self._send_assigned()
        if self.connection is not None:
            self.connection.send(*messages)

    def assign(self, container: str, inputs: list[NodeInput]) -> None:
        """Leaves with `flush`, or before the next message: order matters to cancellation."""
        self._assigned.setdefault(container, []).extend(inputs)

    def acknowledge(self, input_id: str, attempt: int) -> None:
        """The node may forget this attempt's output; leaves with the next inputs, or `flush_all`."""
        self._acknowledged.append((input_id, attempt))

    def flush(self) -> bool:
        """Send what cannot wait; whether something is left that `flush_all` must send soon."""
        if self._assigned or len(self._acknowledged) >= MANY_ACKNOWLEDGED:
            self.flush_all()
        return bool(self._acknowledged)

    def flush_all(self) -> None:
        self._send_assigned()
        if self._acknowledged and self.connection is not None:
            self.connection.send(OutputsDurable(self._acknowledged))
        self._acknowledged = []

    def _send_assigned(self) -> None:
        assigned, self._assigned = self._assigned, {}
        if assigned and self.connection is not None:
            self.connection.send(*(Assign(container, inputs) for container, inputs in assigned.items()))

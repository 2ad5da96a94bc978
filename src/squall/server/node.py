"""One node, as the control plane sees it: what it has and runs, and messages to it in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from squall.wire.messages import Assign, OutputsDurable

if TYPE_CHECKING:
    from squall.server.connection import Connection
    from squall.server.model import Container
    from squall.wire.messages import NodeInput, NodeResources


@dataclass(eq=False)
class Node:
    """It outlives its connections while its lease holds; messages to it meanwhile are lost, and made good by
    what it announces when it is back. `deadline` is when the lease ends, `workspaces` whose work it has had.
    """

    id: str
    resources: NodeResources
    images: set[str]
    deadline: float
    connection: Connection | None = None
    containers: dict[str, Container] = field(default_factory=dict)
    workspaces: set[str] = field(default_factory=set)
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
        """The node may forget this attempt's output; leaves with `flush`."""
        self._acknowledged.append((input_id, attempt))

    def flush(self) -> None:
        self._send_assigned()
        if self._acknowledged:
            acknowledged, self._acknowledged = self._acknowledged, []
            self.send(OutputsDurable(acknowledged))

    def _send_assigned(self) -> None:
        if not self._assigned:
            return
        assigned, self._assigned = self._assigned, {}
        if self.connection is not None:
            self.connection.send(*(Assign(container, inputs) for container, inputs in assigned.items()))

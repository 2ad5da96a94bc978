"""Where a caller's direct line goes: into a container that idles, or nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squall.scheduling import autoscaling
from squall.scheduling import model as m

if TYPE_CHECKING:
    from squall.scheduling.inputs import InputLedger
    from squall.scheduling.state import Container, Function


def place(event: m.InputsArrived, function: Function, ledger: InputLedger) -> list[m.Action]:
    """What its inputs lead to; those that are here already are here once."""
    actions: list[m.Action] = []
    for input_id in event.inputs:
        if input_id in ledger.inputs:
            continue
        container = _idle(function)
        if container is None:
            actions.append(m.FailInput(input_id, "busy", "no container is free for a line"))
            continue
        attempt = ledger.place(input_id, event.attempt, container)
        actions.append(m.AssignInputs(container.id, container.node, (attempt,)))
    return actions


def _idle(function: Function) -> Container | None:
    """The one that was at work last; None as long as inputs wait."""
    idle = [c for c in function.live() if c.idle and autoscaling.room(function, c) > 0]
    return max(idle, key=lambda c: c.since) if idle and not function.queue else None

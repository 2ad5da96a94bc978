"""How far an app is, for those who watch: counts of inputs and containers, a few times a second at most."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squall.wire.messages import Progress
from squall.wire.values import FunctionProgress

if TYPE_CHECKING:
    from collections.abc import Iterable

    from squall.server.calltable import CallTable
    from squall.server.clock import Clock
    from squall.server.dispatch import Dispatcher
    from squall.server.model import App, Container, Function
    from squall.server.nodes import Nodes
    from squall.server.session import Session

#: Seconds between two messages about one app.
INTERVAL = 0.2
#: Functions in one message: those that have inputs or containers, in the app's order.
MAX_FUNCTIONS = 50
#: A follower who reads too slowly gets the next message instead.
FOLLOWER_BYTES = 1 << 20


class AppProgress:
    """Nothing happens while nobody follows, or while the scheduler decides nothing."""

    def __init__(self, table: CallTable, nodes: Nodes, dispatcher: Dispatcher, clock: Clock) -> None:
        self._table = table
        self._nodes = nodes
        self._clock = clock
        #: What each follower of an app was told last.
        self._told: dict[tuple[Session, App], list[FunctionProgress]] = {}
        self._armed = False
        dispatcher.on_flush(self._changed)

    def follow(self, session: Session, app: App) -> None:
        """Tell it now, and from now on."""
        self._told.setdefault((session, app), [])
        self._tell()

    def _changed(self) -> None:
        if self._told and not self._armed:
            self._armed = True
            self._clock.call_later(INTERVAL, self._tick)

    def _tick(self) -> None:
        self._armed = False
        self._tell()

    def _tell(self) -> None:
        for session, app in [key for key in self._told if key[0].ended]:
            del self._told[session, app]
        apps = {app for _, app in self._told}
        counts = {app: self._counts(app, containers) for app, containers in self._containers(apps).items()}
        changed = False
        for (session, app), told in self._told.items():
            if counts[app] == told:
                continue
            changed = True  # a container's state may change without a decision: look once more
            if session.connection is not None and session.buffered() < FOLLOWER_BYTES:
                self._told[session, app] = counts[app]
                session.send(Progress(app.id, counts[app]))
        if changed:
            self._changed()

    def _containers(self, apps: Iterable[App]) -> dict[App, list[Container]]:
        found: dict[App, list[Container]] = {app: [] for app in apps}
        for container in self._nodes.containers.values():
            if container.function.app in found:
                found[container.function.app].append(container)
        return found

    def _counts(self, app: App, containers: list[Container]) -> list[FunctionProgress]:
        counts = {f: self._of_function(f) for f in app.functions.values() if f.inputs or f.waiting}
        for container in containers:
            function = container.function
            if function not in counts:
                counts[function] = self._of_function(function)
            _add(counts[function], container)
        return list(counts.values())[:MAX_FUNCTIONS]

    def _of_function(self, function: Function) -> FunctionProgress:
        calls = (self._table.calls.get(call) for call in function.calls)
        return FunctionProgress(
            function.name,
            function.inputs,
            function.ended,
            function.failed,
            more=any(call is not None and not call.complete for call in calls),
            waiting=function.waiting,
        )


def _add(progress: FunctionProgress, container: Container) -> None:
    """A container is given inputs in advance: those beyond its capacity wait there."""
    progress.running += min(len(container.inputs), container.function.spec.capacity)
    if container.state != "ready":
        progress.starting += 1
    elif container.inputs:
        progress.busy += 1
    else:
        progress.idle += 1

"""A deployment that does not wait for what runs: calls move to the new version of their function."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squall.scheduling.model import FunctionRemoved
from squall.server import outcomes
from squall.server.awaiting import awaited
from squall.server.chunks import arrivals

if TYPE_CHECKING:
    from squall.server.calltable import CallTable
    from squall.server.dispatch import Dispatcher
    from squall.server.model import Function, Input
    from squall.server.outputs import OutputRouter


class Succession:
    def __init__(self, table: CallTable, dispatcher: Dispatcher, router: OutputRouter) -> None:
        self._table = table
        self._dispatcher = dispatcher
        self._router = router

    def replace(self, old: Function) -> None:
        """End the containers of a function at once; what they did begins anew on the newest version."""
        new = old.app.functions.get(old.name)
        if new is not None and new.spec.is_generator != old.spec.is_generator:
            new = None  # it has the name, and is called in another way
        calls = [self._table.calls[call_id] for call_id in old.calls]
        entries = [e for call in calls for e in call.inputs.values() if e.output is None and not e.held]
        if new is not None:
            for call in calls:
                self._table.move(call, new)
        for entry in entries:
            entry.moving = True
        old.registered = False
        self._dispatcher.feed(FunctionRemoved(old.id))
        for entry in entries:
            entry.moving = False
            entry.container = ""
            if new is None or entry.cancelled or entry.next_yield or entry.call.kind == "direct":
                self._end(entry, gone=new is None)
        if new is not None:
            self._begin(new, [entry for entry in entries if entry.output is None])
        self._dispatcher.flush()

    def _begin(self, new: Function, entries: list[Input]) -> None:
        self._dispatcher.feed(
            *arrivals(new.id, entries),
            *(event for entry in entries for event in awaited(entry.call, [entry])),
        )

    def _end(self, entry: Input, *, gone: bool) -> None:
        """A generator's values cannot come twice, nor a line; a function that is no more cannot run."""
        if entry.cancelled:
            outcome = outcomes.cancelled()
        elif gone:
            outcome = outcomes.cancelled("a new version of the app does not have the function any more")
        else:
            outcome = outcomes.failed("interrupted", "a new version of the app was deployed while it ran")
        self._router.finish(entry, entry.ends(outcome))

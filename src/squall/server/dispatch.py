"""The shell around the pure scheduler: the only place where events go in and actions come out.

Events that arrive while actions are carried out wait until those are done. A timer follows the scheduler's
next deadline.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from squall.scheduling.model import Action, Deliver, DropStale, Event, Retrying, Tick

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from squall.scheduling import Scheduler
    from squall.server.clock import Clock, Timer

log = logging.getLogger("squall.server")

A = TypeVar("A", bound=Action)

#: An attempt at an input: its id and number.
Attempt = tuple[str, int]


class Dispatcher:
    """`on` says who carries out an action; `outcomes` come back with the action that decides about them."""

    def __init__(self, scheduler: Scheduler, clock: Clock) -> None:
        self.scheduler = scheduler
        #: When the decision came about that is being carried out.
        self.decided = 0.0
        self._clock = clock
        self._handlers: dict[type, Callable[[Any], None]] = {}
        self._flushers: list[Callable[[], None]] = []
        self._queue: deque[Event] = deque()
        self._outcomes: dict[Attempt, Any] = {}
        self._busy = False
        self._timer: Timer | None = None
        self._armed: float | None = None
        self._arming = False

    def on(self, kind: type[A], handler: Callable[[A], None]) -> None:
        self._handlers[kind] = handler

    def on_flush(self, flush: Callable[[], None]) -> None:
        """Called when a batch of events is through: send what was collected."""
        self._flushers.append(flush)

    def feed(self, *events: Event, outcomes: Mapping[Attempt, Any] | None = None) -> None:
        """Let the scheduler decide on these events of one moment, and do what it says."""
        self._queue.extend(events)
        if outcomes:
            self._outcomes.update(outcomes)
        if self._busy:
            return
        self._busy = True
        try:
            self._drain()
        finally:
            self._busy = False
        if not self._arming:
            self._arming = True
            self._clock.call_later(0, self._arm)

    def take_outcome(self, action: Deliver | Retrying | DropStale) -> Any:
        """What came with the event that this action answers; None for the second of two equal ones."""
        return self._outcomes.pop((action.input, action.attempt), None)

    def flush(self) -> None:
        """Send what was collected without an event; inside a batch its end does so."""
        if not self._busy:
            for flush in self._flushers:
                flush()

    def _drain(self) -> None:
        while self._queue:
            events, self._queue = self._queue, deque()
            actions = self.scheduler.handle_all(events, self._clock.now())
            self.decided = self._clock.now()
            for action in actions:
                self._perform(action)
            for flush in self._flushers:
                flush()

    def _perform(self, action: Action) -> None:
        try:
            self._handlers[type(action)](action)
        except Exception:  # a bug of ours with one thing must not keep all others from running
            log.exception("could not carry out %s", action)

    def _arm(self) -> None:
        self._arming = False
        due = self.scheduler.next_wakeup()
        if due == self._armed and self._timer is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed = due
        self._timer = None
        if due is not None:
            self._timer = self._clock.call_later(max(0.001, due - self._clock.now()), self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.feed(Tick())

"""The ledger of unfinished inputs: where each one is, which attempt counts, and what its end leads to."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from squall.scheduling import autoscaling
from squall.scheduling import model as m
from squall.scheduling.nesting import Nesting
from squall.scheduling.state import Input

if TYPE_CHECKING:
    from collections.abc import Mapping

    from squall.scheduling.state import Container, Function

#: Outcomes that `retries` may answer.
_RETRIABLE = ("exception", "timeout", "failed")


class InputLedger:
    """Inputs that have no final outcome yet."""

    def __init__(self, containers: Mapping[str, Container], functions: Mapping[str, Function]) -> None:
        self.inputs: dict[str, Input] = {}
        self.nesting = Nesting(self.inputs, containers)
        self._containers = containers
        self._functions = functions
        self._delayed: list[tuple[float, str]] = []

    # ------------------------------------------------------------------------------------------- questions

    def current(self, container: str, input_id: str, attempt: int) -> Input | None:
        """The input, if this attempt in this container is the one that counts."""
        record = self.inputs.get(input_id)
        if record is None or record.container != container or record.attempt != attempt:
            return None
        return record

    def of_function(self, function: str) -> list[str]:
        return [i.id for i in self.inputs.values() if i.function == function]

    def unbegun(self, container: Container) -> int:
        """How many of its inputs wait in the container, as far as its node has told."""
        return sum(not self.inputs[i].started for i in container.inputs)

    def next_due(self) -> float | None:
        """When the next retry is due."""
        while self._delayed and not self._is_delayed(*self._delayed[0]):
            heapq.heappop(self._delayed)
        return self._delayed[0][0] if self._delayed else None

    # ------------------------------------------------------------------------------------------- movements

    def arrive(self, event: m.InputsArrived, function: Function) -> None:
        """New inputs go to the end of the queue; one that is here already is here once."""
        counts = event.counts or (1,) * len(event.inputs)
        fresh = [(i, n) for i, n in zip(event.inputs, counts, strict=True) if i not in self.inputs]
        for input_id, count in reversed(fresh) if event.first else fresh:
            self.inputs[input_id] = record = Input(input_id, event.function, event.attempt, count=count)
            record.victim_runs = event.victim_runs
            if event.first:
                function.queue.appendleft(record)
            else:
                function.queue.append(record)

    def assign(self, function: Function, container: Container, count: int) -> tuple[tuple[str, int], ...]:
        """Move up to `count` inputs from the queue into the container, while it has room, as new attempts.

        Of a function whose inputs wait for others, what somebody waits for comes first, the deepest before
        all: to begin more of what will wait would only fill the nodes.
        """
        attempts: list[tuple[str, int]] = []
        while function.queue and len(attempts) < count and autoscaling.room(function, container) > 0:
            record = self.inputs[function.queue.popleft(awaited_first=function.nests)]
            record.attempt += 1
            record.container, record.started, record.recalled = container.id, False, False
            container.hold(record)
            container.used = True
            attempts.append((record.id, record.attempt))
        return tuple(attempts)

    def place(self, input_id: str, attempt: int, container: Container) -> tuple[str, int]:
        """A direct input goes into a container at once; its attempt."""
        record = Input(input_id, container.function, attempt + 1, container.id, direct=True)
        self.inputs[input_id] = record
        container.hold(record)
        container.line, container.used = input_id, True
        return input_id, record.attempt

    def adopt(self, running: m.RunningAttempt, container: Container, function: Function) -> bool:
        """A node says that it runs this attempt. False: it does not count any more, or is not known."""
        record = self.inputs.get(running.input)
        if record is None or record.function != container.function or running.attempt < record.attempt:
            return False
        if record.container not in (None, container.id):
            return False
        if record.container is None:
            if record.due is not None:
                return False
            function.queue.remove(record.id)
        if record.container is not None:
            container.let_go(record)
        record.attempt, record.container, record.started = running.attempt, container.id, running.started
        container.hold(record)
        return True

    def take_out(self, record: Input, container: Container) -> None:
        for child in self.nesting.stop(record, container):
            if child.container is None and child.due is None:
                self._functions[child.function].queue.prefer_no_more(child.id)
        container.let_go(record)
        if container.line == record.id:
            container.line = ""
        record.container, record.started = None, False

    def put_back(self, record: Input, container: Container, function: Function) -> m.Action | None:
        """Out of a container that does not have it: first in the queue again, at no cost, if it may be."""
        self.take_out(record, container)
        return self._unbegun(record, function)

    def forget(self, input_id: str) -> None:
        """The input is final."""
        record = self.inputs[input_id]
        if record.container is not None:
            self.take_out(record, self._containers[record.container])
        elif record.due is None:
            self._functions[record.function].queue.remove(input_id)
        self._end(record)

    def due(self, now: float) -> list[Input]:
        """Inputs whose delay is over; they wait no more."""
        ready: list[Input] = []
        while self._delayed and self._delayed[0][0] <= now:
            time, input_id = heapq.heappop(self._delayed)
            if self._is_delayed(time, input_id):
                record = self.inputs[input_id]
                record.due = None
                ready.append(record)
        return ready

    # ------------------------------------------------------------------------------------------------ ends

    def recall(self, container: Container) -> list[m.Action]:
        """Get back those of its inputs that may have to wait there for one that goes on for long."""
        recalled = []
        for input_id, attempt in container.inputs.items():
            record = self.inputs[input_id]
            if not (record.started or record.recalled or record.cancelled or record.direct):
                record.recalled = True
                recalled.append((input_id, attempt))
        if not recalled:
            return []
        return [m.RevokeInputs(container.id, container.node, tuple(recalled), recall=True)]

    def came_back(self, record: Input, event: m.InputFinished, function: Function) -> m.Action | None:
        """If the node gave back what was recalled: first in the queue again, at no cost."""
        if not record.recalled or record.cancelled or event.status != "cancelled":
            return None
        function.queue.appendleft(record)
        return m.Retrying(event.input, event.attempt, 0.0)

    def finish(self, record: Input, event: m.InputFinished, config: m.FunctionConfig, now: float) -> m.Action:
        """An outcome came for the attempt that counts: final, or one more try."""
        delay = self._retry(record, event.status, config, now)
        if delay is not None:
            return m.Retrying(event.input, event.attempt, delay)
        self._end(record)
        return m.Deliver(event.input, event.attempt)

    def container_ended(
        self, container: Container, event: m.ContainerExited, function: Function, now: float
    ) -> list[m.Action]:
        """What becomes of the inputs that an ended container held, the oldest first in the queue again."""
        returned = {input_id for input_id, _ in event.returned}
        actions: list[m.Action] = []
        for input_id in reversed(list(container.inputs)):
            record = self.inputs[input_id]
            begun = record.started and input_id not in returned
            self.take_out(record, container)
            action = self._ended(record, event, function, now) if begun else self._unbegun(record, function)
            actions += [action] if action else []
        return actions

    def _unbegun(self, record: Input, function: Function) -> m.Action | None:
        if record.cancelled:
            return self._fail(record, "cancelled", "the call was cancelled")
        if record.direct:
            return self._fail(record, "lost", "the line broke")
        if record.yielded:
            return self._fail(
                record, "interrupted", "the node lost the generator: it is not run again after a yield"
            )
        function.queue.appendleft(record)
        return None

    def _ended(
        self, record: Input, event: m.ContainerExited, function: Function, now: float
    ) -> m.Action | None:
        if record.cancelled:
            return self._fail(record, "cancelled", "the call was cancelled")
        if record.count > 1:  # one of them may be to blame: which one, their own runs show
            self._end(record)
            return m.TakeApart(record.id, record.attempt, record.victim_runs + 1)
        if record.yielded:
            return self._fail(
                record, "interrupted", f"{event.message}: a generator is not run again after a yield"
            )
        if event.fault:
            delay = self._retry(record, "failed", function.config, now)
            if delay is not None:
                return None
            return self._fail(record, event.reason, event.message)
        if record.direct:
            return self._fail(record, "lost", event.message)
        record.victim_runs += 1
        if record.victim_runs >= m.MAX_VICTIM_RUNS:
            return self._fail(
                record, "killed", f"{event.message}; it ran {record.victim_runs} times and never ended"
            )
        function.queue.appendleft(record)
        return None

    def _fail(self, record: Input, code: str, message: str) -> m.FailInput:
        self._end(record)
        return m.FailInput(record.id, code, message)

    def _end(self, record: Input) -> None:
        del self.inputs[record.id]
        self.nesting.ended(record)

    def _retry(self, record: Input, status: str, config: m.FunctionConfig, now: float) -> float | None:
        """The delay of the next try in seconds, now waiting; None when this was the last."""
        if (
            status not in _RETRIABLE
            or record.cancelled
            or record.yielded
            or record.direct
            or record.retries >= config.max_retries
        ):
            return None
        delay = min(config.max_delay, config.initial_delay * config.backoff_coefficient**record.retries)
        record.retries += 1
        record.due = now + delay
        heapq.heappush(self._delayed, (record.due, record.id))
        return delay

    def _is_delayed(self, time: float, input_id: str) -> bool:
        record = self.inputs.get(input_id)
        return record is not None and record.due == time

"""Calls of user code under way, side by side: each in a worker's thread or as a task of the event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from squall.runner import context
from squall.runner.batches import Batch
from squall.runner.calls import Counter
from squall.runner.results import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from squall.runner.calls import Executor
    from squall.runner.held import Held
    from squall.runner.protocol.spool import Pickled
    from squall.runner.workers import ThreadInterrupts


class Flow:
    """Where the values of one generator go (calls.Stream), as far as its consumer's credit reaches."""

    def __init__(self, credit: int, send: Callable[[int, Pickled], object]) -> None:
        self._send = send
        self._credit = credit
        self._seen = credit
        self._bell = threading.Lock()
        self._bell.acquire()
        self._wake: Callable[[], object] = int

    def credited(self, upto: int) -> None:
        """On the event loop's thread."""
        self._credit = max(self._credit, upto)
        self._wake()
        with suppress(RuntimeError):  # it rings already
            self._bell.release()

    def send(self, number: int, data: Pickled) -> None:
        self._send(number, data)

    def ready(self, number: int) -> bool:
        self._seen = self._credit
        return number < self._seen

    def wait(self) -> None:
        """Not for long: an interruption is raised between two waits."""
        self._bell.acquire(timeout=0.05)

    async def arrival(self) -> None:
        """Until there is more credit, on whichever loop the generator runs."""
        loop, event = asyncio.get_running_loop(), asyncio.Event()
        self._wake = lambda: loop.call_soon_threadsafe(event.set)
        if self._credit == self._seen:
            await event.wait()
        self._wake = int


class Job(ABC):
    """`answers` by the inputs' numbers, when it is over. `cancelled`: somebody wants it to end."""

    def __init__(self, inputs: Sequence[Held], function: Callable[..., Any]) -> None:
        self.inputs = inputs
        self.cancelled = False
        self.answers: dict[int, Answer] = {}
        #: When it did begin and end.
        self.times: dict[str, float] = {}
        self._function = function

    @abstractmethod
    def run(self, executor: Executor, interrupts: ThreadInterrupts) -> None:
        """In a worker's thread; `interrupts` are the executor's. Never raises."""

    @abstractmethod
    async def go(self, executor: Executor) -> None:
        """As a task. Never raises."""

    def fail(self, answer: Answer) -> None:
        """For all inputs that have no answer."""
        for held in self.inputs:
            self.answers.setdefault(held.number, Answer(dict(answer.header), answer.payload))

    def enter(self) -> None:
        """The context of the caller is the job's own."""
        context.shared.set(self.inputs[0].ids)
        self.times["begin"] = time.monotonic()

    def failure(self, executor: Executor, error: BaseException) -> Answer:
        """What an error of its task means."""
        if self.cancelled and isinstance(error, asyncio.CancelledError):
            return Answer({"s": "cancelled"})
        return executor.answer_of(error)


class Single(Job):
    """One input; `flow` is a generator's."""

    def __init__(self, held: Held, function: Callable[..., Any], flow: Flow | None) -> None:
        super().__init__((held,), function)
        self.flow = flow

    def run(self, executor: Executor, interrupts: ThreadInterrupts) -> None:  # noqa: ARG002
        self.enter()
        (held,) = self.inputs
        self.answers[held.number] = executor.run(held.payload, self.flow, method=held.method)

    async def go(self, executor: Executor) -> None:
        self.enter()
        counted = Counter()
        try:
            answer = await self._call(executor, counted)
        except BaseException as error:
            answer = self.failure(executor, error)
        self.answers[self.inputs[0].number] = Answer({**answer.header, "n": counted.value}, answer.payload)

    async def _call(self, executor: Executor, counted: Counter) -> Answer:
        held = self.inputs[0]
        value = executor.invoke(held.payload, held.method)
        if self.flow is not None:
            await executor.event_loop().generate(value, self.flow, executor, counted)
            return Answer({"s": "done"})
        return Answer({}, executor.dump(await value if hasattr(type(value), "__await__") else value))


class Together(Job):
    """Several inputs in one call."""

    def run(self, executor: Executor, interrupts: ThreadInterrupts) -> None:
        self.enter()
        batch = Batch(executor, self._function, self.inputs)
        try:
            with interrupts.interruptible():
                value = batch.call()
                if hasattr(type(value), "__await__"):
                    value = executor.event_loop().run(value, interrupts)
                batch.share_out(value)
        except BaseException as error:
            batch.fail(executor.answer_of(error))
        self.answers = batch.answers

    async def go(self, executor: Executor) -> None:
        self.enter()
        batch = Batch(executor, self._function, self.inputs)
        try:
            value = batch.call()
            batch.share_out(await value if hasattr(type(value), "__await__") else value)
        except BaseException as error:
            batch.fail(self.failure(executor, error))
        self.answers = batch.answers

"""Inputs side by side in one container, and batches: an event loop in the main thread does all the talking.

Async functions run as its tasks, others in threads. It loads only for functions that are declared so:
asyncio costs more than all the rest of the runner.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

from squall.runner import protocol, streams
from squall.runner.calls import RefusedError
from squall.runner.channel import AgentGoneError
from squall.runner.connection import Connection
from squall.runner.gathering import Line
from squall.runner.held import Held
from squall.runner.jobs import Flow, Job, Single, Together
from squall.runner.results import Answer
from squall.runner.workers import ThreadInterrupts, Worker

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from squall.runner.calls import Executor
    from squall.runner.channel import Channel
    from squall.runner.protocol import Frame
    from squall.runner.protocol.spool import Pickled

#: As in `inspect`: a coroutine's code, and an async generator's.
_ASYNC = 0x80 | 0x200
_ROOM = 1024 * protocol.ALARM.size
_CANCELLED = Answer({"s": "cancelled"})


class Sharing:
    """`serve` is the rest of the runner's life. `executor` calls the function that CONFIG names."""

    def __init__(
        self, channel: Channel, executor: Executor, config: Mapping[str, Any], exception: type[BaseException]
    ) -> None:
        self._channel = channel
        self._executor = executor
        self._exception = exception
        self._loop: asyncio.AbstractEventLoop = executor.event_loop().loop
        self._loop.set_exception_handler(self._went_wrong)
        self._connection = Connection(self._loop, channel, self._handle, self._fill)
        self._places: int = config["max_inputs"]
        batching = config.get("batching", {})
        self._batched = frozenset(batching)
        self._line = Line({method: (size, wait) for method, (size, wait) in batching.items()})
        self._timer: asyncio.TimerHandle | None = None
        #: Those without an answer, by number; the jobs of those that have begun; generators' flows.
        self._held: dict[int, Held] = {}
        self._jobs: dict[int, Job] = {}
        self._flows: dict[int, Flow] = {}
        self._running: dict[Job, Worker | asyncio.Task[None]] = {}
        self._idle: list[Worker] = []
        #: Cancelled before they arrived.
        self._early: set[int] = set()
        self._newest = 0
        self._alarm = -1
        self._stopping = False
        self._gone: AgentGoneError | None = None
        self._pid = os.getpid()

    def listen(self, alarm: int) -> None:
        """Take over this descriptor as the alarm socket, in place of an earlier one."""
        if self._alarm >= 0:
            self._loop.remove_reader(self._alarm)
            os.close(self._alarm)
            self._early.clear()  # another agent counts anew, and says once more what is cancelled
            self._newest = max(self._held, default=0)
        self._alarm = alarm
        os.set_blocking(alarm, False)
        self._loop.add_reader(alarm, self._alarmed)

    def serve(self) -> None:
        """Until the agent says stop. Raises AgentGoneError."""
        self._connection.start(self._hello)
        self._loop.run_forever()
        for worker in self._idle:
            worker.give(None)
            worker.join()
        if self._gone is not None:
            raise self._gone

    # -- frames

    def _hello(self) -> bytes:
        held = [self._held[number].listed for number in sorted(self._held)]
        return protocol.encode(protocol.HELLO, 0, {"python": sys.version.split()[0], "held": held})

    def _handle(self, frame: Frame) -> None:
        if frame.kind == protocol.INPUT:
            received = time.monotonic() if "t" in frame.header else 0.0
            self._arrived(Held(frame, self._channel.payload(frame), received))
        elif frame.kind == protocol.CREDIT:
            flow = self._flows.get(frame.input)
            if flow is not None:
                flow.credited(frame.header["upto"])
        elif frame.kind == protocol.CONFIG:
            self.listen(self._channel.descriptor())
            self._channel.payload(frame)
            self._connection.send(protocol.READY)
        elif frame.kind == protocol.STOP:
            self._stopping = True
            self._stop_when_idle()

    def _arrived(self, held: Held) -> None:
        self._newest = held.number
        self._held[held.number] = held
        if held.number in self._early:
            self._early.discard(held.number)
            self._answer(held, _CANCELLED)
            return
        try:
            self._executor.function(held.method)
        except RefusedError as error:
            self._answer(held, error.answer)
        else:
            self._line.add(held, self._loop.time())

    def _stop_when_idle(self) -> None:
        if self._stopping and not self._held:
            self._loop.stop()

    # -- inputs

    def _fill(self) -> None:
        """Begin what may begin."""
        now = self._loop.time()
        while len(self._running) < self._places and (inputs := self._line.take(now)):
            self._begin(inputs)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._line.due()
        if due is not None and len(self._running) < self._places:
            self._timer = self._loop.call_at(due, self._fill)

    def _begin(self, inputs: list[Held]) -> None:
        if self._batched:
            self._connection.send(protocol.BEGUN, 0, {"ins": [held.number for held in inputs]})
        function = self._executor.function(inputs[0].method)
        job = self._job(inputs, function)
        self._jobs.update(dict.fromkeys((held.number for held in inputs), job))
        if is_async(function):
            task = self._running[job] = self._loop.create_task(job.go(self._executor))
            task.add_done_callback(lambda _task: self._done(job))
        else:
            worker = self._running[job] = self._idle.pop() if self._idle else self._worker()
            worker.give(job)

    def _job(self, inputs: list[Held], function: Callable[..., Any]) -> Job:
        held = inputs[0]
        if held.method in self._batched:
            return Together(inputs, function)
        if "c" not in held.frame.header:
            return Single(held, function, None)
        in_thread = not is_async(function)

        def send(number: int, data: Pickled) -> None:
            if in_thread:
                self._loop.call_soon_threadsafe(self._yield, held.number, number, data)
            else:
                self._yield(held.number, number, data)

        flow = self._flows[held.number] = Flow(held.frame.header["c"], send)
        return Single(held, function, flow)

    def _worker(self) -> Worker:
        def done(worker: Worker, job: Job) -> None:
            self._loop.call_soon_threadsafe(self._thread_done, worker, job)

        return Worker(ThreadInterrupts(self._exception), self._executor.twin, done)

    def _thread_done(self, worker: Worker, job: Job) -> None:
        self._idle.append(worker)
        self._done(job)

    def _done(self, job: Job) -> None:
        if os.getpid() != self._pid:  # user code forked, and the child came back out of it
            os._exit(0)
        del self._running[job]
        job.times["end"] = time.monotonic()
        for held in job.inputs:
            if self._jobs.get(held.number) is job:
                self._answer(held, job.answers.get(held.number, _CANCELLED))
        self._fill()

    def _yield(self, input_number: int, number: int, data: Pickled) -> None:
        self._connection.send(protocol.YIELD, input_number, {"n": number}, data)

    def _answer(self, held: Held, answer: Answer) -> None:
        streams.flush()
        header = answer.header
        if "t" in held.frame.header:
            times = self._jobs[held.number].times if held.number in self._jobs else {}
            header = {**header, "t": {"received": held.received, **times, "sent": time.monotonic()}}
        self._jobs.pop(held.number, None)
        self._flows.pop(held.number, None)
        self._connection.send(
            protocol.OUTPUT, held.number, header, answer.payload, lambda: self._answered(held.number)
        )

    def _answered(self, number: int) -> None:
        del self._held[number]
        self._stop_when_idle()

    # -- cancellation

    def _alarmed(self) -> None:
        data = bytes(_ROOM)
        while len(data) == _ROOM:
            try:
                data = os.read(self._alarm, _ROOM)
            except OSError:
                return
            if not data:  # the agent is gone, and comes back with another one
                self._loop.remove_reader(self._alarm)
            for (number,) in protocol.ALARM.iter_unpack(
                data[: len(data) // protocol.ALARM.size * protocol.ALARM.size]
            ):
                self._cancel(number)

    def _cancel(self, number: int) -> None:
        held = self._held.get(number)
        if held is None:
            if number > self._newest:
                self._early.add(number)
        elif self._line.remove(number):
            self._answer(held, _CANCELLED)
        elif number in self._jobs:  # else its answer waits for an agent
            self._cancel_begun(held, self._jobs[number])

    def _cancel_begun(self, held: Held, job: Job) -> None:
        """One of a batch leaves it, and its result is dropped; with the last one the call is interrupted."""
        others = [h for h in job.inputs if h is not held and self._jobs.get(h.number) is job]
        runs = self._running[job]
        if others:
            self._answer(held, _CANCELLED)
        elif job.cancelled:  # the agent says it until it has an answer, and a task cleans up only once
            return
        elif isinstance(runs, Worker):
            runs.interrupts.cancel(job)
        else:
            job.cancelled = True
            runs.cancel()

    def _went_wrong(self, loop: asyncio.AbstractEventLoop, found: dict[str, Any]) -> None:
        """In a callback: no agent, or user code's affair."""
        error = found.get("exception")
        if isinstance(error, AgentGoneError):
            self._gone = error
            loop.stop()
        else:
            loop.default_exception_handler(found)


def is_async(function: Any) -> bool:
    """Whether it, or what it wraps, is declared with `async def`."""
    while function is not None:
        code = getattr(function, "__code__", None)
        if code is not None and code.co_flags & _ASYNC:
            return True
        function = getattr(function, "__wrapped__", None)
    return False

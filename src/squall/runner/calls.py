"""Runs one input: plain and async functions, plain and async generators. What comes back is an Answer."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Protocol

from squall.runner import results
from squall.runner.protocol import spool
from squall.runner.protocol.spool import TooLargeError
from squall.runner.results import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from squall.runner.cancellation import Interrupts
    from squall.runner.protocol.spool import Pickled
    from squall.runner.targets import Target
    from squall.runner.workers import ThreadInterrupts


class Stream(Protocol):
    """Where the values of a generator go."""

    def ready(self, number: int) -> bool:
        """Whether the value with this number may be sent now; takes in what has arrived."""

    def wait(self) -> None:
        """Until something arrives, or for a while. May be interrupted."""

    async def arrival(self) -> None:
        """The same, on a running event loop."""

    def send(self, number: int, data: Pickled) -> None:
        """Send the value with this number."""


class RefusedError(Exception):
    """The input or its result cannot be handled; carries what to say."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.header.get("message"))
        self.answer = answer


class Executor:
    """Calls the user's function or methods. `limit` bounds a payload, in bytes."""

    def __init__(
        self, target: Target, name: str, limit: int, interrupts: Interrupts | ThreadInterrupts
    ) -> None:
        self.name = name
        self._target = target
        self._limit = limit
        self._interrupts = interrupts
        self._loop: Any = None
        self._times: dict[str, float] | None = None

    def enter(self) -> None:
        """Before the first input. Raises what the user's code raises."""
        for hook in self._target.enters:
            self._finish(hook())

    def exit(self) -> None:
        """After the last input. What one hook raises is told, and keeps no other from running."""
        for hook in self._target.exits:
            try:
                self._finish(hook())
            except BaseException as error:  # noqa: PERF203 - each on its own
                print(results.told(error)["tb"], end="", file=sys.stderr)

    def _finish(self, value: Any) -> None:
        if hasattr(type(value), "__await__"):
            self.event_loop().run(value, self._interrupts)

    def run(
        self,
        payload: bytes | memoryview,
        stream: Stream | None,
        times: dict[str, float] | None = None,
        method: str = "",
    ) -> Answer:
        """The outcome of one input; with `stream`, of a generator. Never raises.

        `times` gets the "begin" and "end" of the user's code (CLOCK_MONOTONIC seconds).
        """
        self._times = times
        if stream is None:
            try:
                return self._call(payload, method)
            except BaseException as error:
                self._mark("end")
                answer = self.answer_of(error)
            return Answer({**answer.header, "n": 0}, answer.payload)
        counted = Counter()
        try:
            self._generate(payload, stream, counted, method)
            self._mark("end")
            return Answer({"s": "done", "n": counted.value})
        except BaseException as error:
            self._mark("end")
            answer = self.answer_of(error)
        return Answer({**answer.header, "n": counted.value}, answer.payload)

    def answer_of(self, error: BaseException) -> Answer:
        """What it means that this came out of a call."""
        if isinstance(error, RefusedError):
            return error.answer
        if self._interrupts.hit and isinstance(error, self._interrupts.exception):
            return Answer({"s": "cancelled"})
        return results.of_exception(error)

    def twin(self, interrupts: Interrupts | ThreadInterrupts) -> Executor:
        """One of the same function, for another thread."""
        return Executor(self._target, self.name, self._limit, interrupts)

    def close(self) -> None:
        if self._loop is not None:
            self._loop.close()

    def function(self, method: str) -> Callable[..., Any]:
        """What an input calls. Raises RefusedError."""
        found = self._target.calls.get(method)
        if found is None:
            name = f"{self.name}.{method}" if method else self.name
            raise RefusedError(results.failed("NotFoundError", f"there is no {name} in this container"))
        return found

    def _call(self, payload: bytes | memoryview, method: str) -> Answer:
        with self._interrupts.interruptible():
            value = self.invoke(payload, method)
            if hasattr(type(value), "__await__"):
                value = self.event_loop().run(value, self._interrupts)
            self._mark("end")
            return Answer({}, self.dump(value))

    def _generate(self, payload: bytes | memoryview, stream: Stream, counted: Counter, method: str) -> None:
        with self._interrupts.interruptible():
            values = self.invoke(payload, method)
        if hasattr(type(values), "__anext__"):
            with self._interrupts.interruptible():
                self.event_loop().run(
                    self.event_loop().generate(values, stream, self, counted), self._interrupts
                )
            return
        with self._interrupts.interruptible():
            iterator = iter(values)
        try:
            self._iterate(iterator, stream, counted)
        finally:
            getattr(iterator, "close", int)()

    def _iterate(self, iterator: Any, stream: Stream, counted: Counter) -> None:
        while True:
            while not stream.ready(counted.value):
                with self._interrupts.interruptible():
                    stream.wait()
            with self._interrupts.interruptible():
                try:
                    value = next(iterator)
                except StopIteration:
                    return
                data = self.dump(value)
            stream.send(counted.value, data)
            counted.value += 1

    def arguments(self, payload: bytes | memoryview) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Of one input. Raises RefusedError."""
        try:
            args, kwargs = spool.load(payload)
        except Exception as error:
            raise RefusedError(_not_loadable(self.name, error)) from error
        return args, kwargs

    def invoke(self, payload: bytes | memoryview, method: str) -> Any:
        """What the function gives: a result, a coroutine or a generator. Raises RefusedError too."""
        function = self.function(method)
        args, kwargs = self.arguments(payload)
        self._mark("begin")
        return function(*args, **kwargs)

    def _mark(self, name: str) -> None:
        if self._times is not None:
            self._times.setdefault(name, time.monotonic())

    def dump(self, value: object) -> Pickled:
        """The pickle of a result or yield. Raises RefusedError."""
        try:
            return results.dump(value, self._limit)
        except TooLargeError as error:
            size, limit = error.size >> 20, self._limit >> 20
            message = f"a result of {self.name} has {size} MiB, {limit} MiB are possible: send it in parts"
            raise RefusedError(results.failed("RequestSizeError", message)) from None
        except Exception as error:
            raise RefusedError(_not_picklable(self.name, value, error)) from error

    def event_loop(self) -> Any:
        """The loop of this thread's async code."""
        if self._loop is None:
            with self._interrupts.deferred():
                from squall.runner.asynchronous import EventLoop

                self._loop = EventLoop()
        return self._loop


class Counter:
    """How many values a generator has given."""

    value = 0


def _not_loadable(name: str, error: Exception) -> Answer:
    advice = (
        "the container's image needs the module"
        if isinstance(error, ImportError)
        else "are the versions alike?"
    )
    message = f"the arguments of {name} cannot be unpickled in the container: {_line(error)} ({advice})"
    return results.failed("DeserializationError", message)


def _not_picklable(name: str, value: object, error: Exception) -> Answer:
    kind = type(value).__name__
    advice = "declare the function as a generator" if "generator" in kind else "return plain data"
    message = f"a result of {name}, of type {kind}, cannot be pickled: {_line(error)} ({advice})"
    return results.failed("SerializationError", message)


def _line(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}"
    return text.splitlines()[0] if text else ""

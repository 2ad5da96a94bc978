"""Runs one input: plain and async functions, plain and async generators. What comes back is an Answer."""

from __future__ import annotations

import pickle
import time
from typing import TYPE_CHECKING, Any, Protocol

from squall.runner import results
from squall.runner.results import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from squall.runner.cancellation import Interrupts


class Stream(Protocol):
    """Where the values of a generator go."""

    def fileno(self) -> int:
        """What to wait on for more credit."""

    def ready(self, number: int) -> bool:
        """Whether the value with this number may be sent now; takes in what has arrived."""

    def wait(self) -> None:
        """Until something arrives. May be interrupted."""

    def send(self, number: int, data: bytes) -> None:
        """Send the value with this number."""


class RefusedError(Exception):
    """The input or its result cannot be handled; carries what to say."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.header.get("message"))
        self.answer = answer


class Executor:
    """Calls the user's function. `limit` bounds a payload, in bytes."""

    def __init__(self, function: Callable[..., Any], name: str, limit: int, interrupts: Interrupts) -> None:
        self._function = function
        self._name = name
        self._limit = limit
        self._interrupts = interrupts
        self._loop: Any = None
        self._times: dict[str, float] | None = None

    def run(
        self, payload: bytes | memoryview, stream: Stream | None, times: dict[str, float] | None = None
    ) -> Answer:
        """The outcome of one input; with `stream`, of a generator. Never raises.

        `times` gets the "begin" and "end" of the user's code (CLOCK_MONOTONIC seconds).
        """
        counted = _Counter()
        self._times = times
        try:
            if stream is None:
                return self._call(payload)
            self._generate(payload, stream, counted)
            self._mark("end")
            return Answer({"s": "done", "n": counted.value})
        except RefusedError as error:
            answer = error.answer
        except BaseException as error:
            self._mark("end")
            if self._interrupts.hit and isinstance(error, self._interrupts.exception):
                answer = Answer({"s": "cancelled"})
            else:
                answer = results.of_exception(error)
        return Answer({**answer.header, "n": counted.value}, answer.payload)

    def close(self) -> None:
        if self._loop is not None:
            self._loop.close()

    def _call(self, payload: bytes | memoryview) -> Answer:
        with self._interrupts.interruptible():
            value = self._invoke(payload)
            if hasattr(type(value), "__await__"):
                value = self._event_loop().run(value, self._interrupts)
            self._mark("end")
            return Answer({}, self.dump(value))

    def _generate(self, payload: bytes | memoryview, stream: Stream, counted: _Counter) -> None:
        with self._interrupts.interruptible():
            values = self._invoke(payload)
        if hasattr(type(values), "__anext__"):
            with self._interrupts.interruptible():
                self._event_loop().run(
                    self._event_loop().generate(values, stream, self, counted), self._interrupts
                )
            return
        with self._interrupts.interruptible():
            iterator = iter(values)
        try:
            self._iterate(iterator, stream, counted)
        finally:
            getattr(iterator, "close", int)()

    def _iterate(self, iterator: Any, stream: Stream, counted: _Counter) -> None:
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

    def _invoke(self, payload: bytes | memoryview) -> Any:
        try:
            args, kwargs = pickle.loads(payload)
        except Exception as error:
            raise RefusedError(_not_loadable(self._name, error)) from error
        self._mark("begin")
        return self._function(*args, **kwargs)

    def _mark(self, name: str) -> None:
        if self._times is not None:
            self._times.setdefault(name, time.monotonic())

    def dump(self, value: object) -> bytes:
        """The pickle of a result or yield. Raises RefusedError."""
        try:
            data = results.dump(value)
        except Exception as error:
            raise RefusedError(_not_picklable(self._name, value, error)) from error
        if len(data) > self._limit:
            size, limit = len(data) >> 20, self._limit >> 20
            message = f"a result of {self._name} has {size} MiB, {limit} MiB are possible: send it in parts"
            raise RefusedError(results.failed("RequestSizeError", message))
        return data

    def _event_loop(self) -> Any:
        if self._loop is None:
            from squall.runner.asynchronous import EventLoop

            self._loop = EventLoop()
        return self._loop


class _Counter:
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

"""Outcomes of inputs, as values or as the exceptions that the caller gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from squall import exception
from squall.sdk import serialization, splice
from squall.wire import chunks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from squall.sdk.ports import Port
    from squall.wire.values import ErrorInfo, Outcome, OutputItem


class RemoteTraceback(Exception):
    """The traceback as it was in the container."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text
        self.__dict__[splice.REMOTE] = True

    def __str__(self) -> str:
        return f"in the container\n{self.text.rstrip()}"

    def __reduce__(self) -> tuple[Any, ...]:
        # It goes through containers that made nested calls, and is not found under the name that it shows.
        return (_remote_traceback, (self.text,))


RemoteTraceback.__module__ = "squall"


def _remote_traceback(text: str) -> RemoteTraceback:
    return RemoteTraceback(text)


async def value_of(port: Port[Any], outcome: Outcome) -> Any:
    """The result. Raises what the input raised, or what befell it."""
    data = await serialization.from_payload(port, outcome.payload)
    if outcome.status == "ok":
        return serialization.loads(data)
    raise error_of(outcome, data)


def values_of(output: OutputItem, data: bytes | memoryview) -> Iterator[tuple[Any, BaseException | None]]:
    """The results of several inputs, or what they raised."""
    if output.sizes is None:
        for _ in range(output.count):
            yield None, error_of(output.outcome, data)
        return
    parts = {part.offset: part.outcome for part in output.parts or ()}
    for offset, piece in enumerate(chunks.slices(data, output.sizes)):
        if offset in parts:
            yield None, error_of(parts[offset], piece)
            continue
        try:
            value = serialization.loads(piece)
        except exception.DeserializationError as error:
            yield None, error
        else:
            yield value, None


def error_of(outcome: Outcome, data: bytes | memoryview) -> BaseException:
    """The exception of an outcome that is no result."""
    info = outcome.error
    message = info.message if info else ""
    if outcome.status == "exception":
        return _users(info, data)
    if outcome.status == "timeout":
        return exception.FunctionTimeoutError(message or "the input ran longer than its function's timeout")
    if outcome.status == "cancelled":
        return exception.InputCancellation(message or "the input was cancelled")
    cls = getattr(exception, info.type, None) if info else None
    if isinstance(cls, type) and issubclass(cls, exception.Error):
        return _traced(cls(message), info)
    return exception.RemoteError(message or "the platform lost the input and did not say why")


def _users(info: ErrorInfo | None, data: bytes | memoryview) -> BaseException:
    """The exception object itself, where it can be had, with the container's frames in its traceback; else
    one that tells of it.
    """
    error = _unpickled(data)
    if error is None:
        told = f"{info.type}: {info.message}".rstrip(": ") if info else "the function raised"
        return _traced(exception.RemoteError(told), info)
    return error if splice.splice(error) else _traced(error, info)


def _unpickled(data: bytes | memoryview) -> Exception | None:
    """None also for what would end the caller's program: SystemExit and the like."""
    if not data:
        return None
    try:
        error = serialization.loads_exception(data)
    except exception.DeserializationError:
        return None
    return error if isinstance(error, Exception) and not isinstance(error, serialization.Missing) else None


def _traced(error: BaseException, info: ErrorInfo | None) -> BaseException:
    """With the remote traceback as the innermost cause: its own causes, sent along, stay in their places."""
    if info is None or not info.traceback:
        return error
    innermost, seen = error, {id(error)}
    while (deeper := _cause(innermost)) is not None and id(deeper) not in seen:
        seen.add(id(deeper))
        innermost = deeper
    if innermost.__cause__ is None:
        innermost.__cause__ = RemoteTraceback(info.traceback)
    return error


def _cause(error: BaseException) -> BaseException | None:
    if error.__cause__ is not None or error.__suppress_context__:
        return error.__cause__
    return error.__context__

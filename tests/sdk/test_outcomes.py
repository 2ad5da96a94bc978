"""What callers get for each way an input can end."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from squall import exception
from squall.runner import results
from squall.sdk.outcomes import RemoteTraceback, error_of
from squall.wire.values import ErrorInfo, Outcome


def raised(error: BaseException) -> BaseException:
    """What the caller gets for an exception in a container."""
    try:
        raise error
    except BaseException as caught:
        answer = results.of_exception(caught)
    info = ErrorInfo(answer.header["type"], answer.header["message"], answer.header["tb"])
    return error_of(Outcome("exception", error=info), answer.payload)


def test_the_object_with_its_traceback() -> None:
    error = raised(ValueError("bad", 3))
    assert type(error) is ValueError
    assert error.args == ("bad", 3)
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "ValueError: ('bad', 3)" in str(error.__cause__)


def test_causes_stay_and_the_traceback_comes_last() -> None:
    cause = KeyError("why")
    error = ValueError("bad")
    error.__cause__ = cause
    got = raised(error)
    assert isinstance(got.__cause__, KeyError)
    assert isinstance(got.__cause__.__cause__, RemoteTraceback)


def test_an_exception_without_object_is_told() -> None:
    info = ErrorInfo("TheirError", "it broke", "Traceback ...")
    error = error_of(Outcome("exception", error=info), b"")
    assert type(error) is exception.RemoteError
    assert str(error) == "TheirError: it broke"
    assert isinstance(error.__cause__, RemoteTraceback)


@pytest.mark.parametrize("data", [b"garbage", pickle.dumps("no exception"), pickle.dumps(SystemExit(1))])
def test_what_is_no_exception_of_ours_to_raise_is_told(data: bytes) -> None:
    error = error_of(Outcome("exception", error=ErrorInfo("X", "y")), data)
    assert type(error) is exception.RemoteError


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome("timeout"), exception.FunctionTimeoutError),
        (Outcome("cancelled"), exception.InputCancellation),
        (
            Outcome("failed", error=ErrorInfo("ResourceExhaustedError", "memory")),
            exception.ResourceExhaustedError,
        ),
        (Outcome("failed", error=ErrorInfo("InternalFailure", "lost")), exception.InternalFailure),
        (Outcome("failed", error=ErrorInfo("InputCancellation", "no")), exception.RemoteError),
        (Outcome("failed", error=ErrorInfo("builtins", "no")), exception.RemoteError),
        (Outcome("failed"), exception.RemoteError),
        (Outcome("nonsense"), exception.RemoteError),
    ],
)
def test_what_the_platform_says(outcome: Outcome, expected: type[BaseException]) -> None:
    error: Any = error_of(outcome, b"")
    assert type(error) is expected
    assert str(error)


def test_the_cause_of_a_nested_calls_error_goes_home_through_its_callers_container() -> None:
    answer = results.of_exception(error_of(Outcome("exception", error=ErrorInfo("X", "y", "there")), b""))
    again = pickle.loads(answer.payload)
    assert isinstance(again.__cause__, RemoteTraceback)
    assert str(again.__cause__) == "in the container\nthere"

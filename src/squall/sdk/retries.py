"""When an input that failed runs again."""

from __future__ import annotations

from dataclasses import dataclass

from squall.exception import InvalidError
from squall.sdk import checks
from squall.wire.values import RetryPolicy

MAX_RETRIES = 10


@dataclass(frozen=True)
class Retries:
    """Run an input again after an exception or a timeout, `max_retries` times at most.

    The n-th time after `initial_delay * backoff_coefficient ** (n - 1)` seconds, `max_delay` at most.
    """

    max_retries: int
    backoff_coefficient: float = 2.0
    initial_delay: float = 1.0
    max_delay: float = 60.0

    def __post_init__(self) -> None:
        checks.whole("max_retries", self.max_retries, 0, MAX_RETRIES)
        checks.number("backoff_coefficient", self.backoff_coefficient, 1, 10)
        checks.number("initial_delay", self.initial_delay, 0, 60, " of seconds")
        checks.number("max_delay", self.max_delay, 1, 60, " of seconds")


def policy(retries: object) -> RetryPolicy:
    """A number is so many times, one second apart. Raises InvalidError."""
    if retries is None:
        return RetryPolicy()
    if isinstance(retries, Retries):
        return RetryPolicy(
            retries.max_retries,
            float(retries.backoff_coefficient),
            float(retries.initial_delay),
            float(retries.max_delay),
        )
    if isinstance(retries, int):
        count = checks.whole("retries", retries, 0, MAX_RETRIES)
        return RetryPolicy(count, backoff_coefficient=1.0, initial_delay=1.0)
    raise InvalidError(
        f"retries={checks.short(retries)} is not possible: give a number or squall.Retries(...)"
    )

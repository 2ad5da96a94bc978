"""When an input that failed runs again."""

from __future__ import annotations

from typing import NamedTuple

from squall.sdk import checks

MAX_RETRIES = 10


class _Retries(NamedTuple):
    max_retries: int
    backoff_coefficient: float
    initial_delay: float
    max_delay: float


class Retries(_Retries):
    """Run an input again after an exception or a timeout, `max_retries` times at most.

    The n-th time after `initial_delay * backoff_coefficient ** (n - 1)` seconds, `max_delay` at most.
    """

    __slots__ = ()

    def __new__(
        cls,
        *,
        max_retries: int,
        backoff_coefficient: float = 2.0,
        initial_delay: float = 1.0,
        max_delay: float = 60.0,
    ) -> Retries:
        return super().__new__(
            cls,
            checks.whole("max_retries", max_retries, 0, MAX_RETRIES),
            float(checks.number("backoff_coefficient", backoff_coefficient, 1, 10)),
            float(checks.number("initial_delay", initial_delay, 0, 60, " of seconds")),
            float(checks.number("max_delay", max_delay, 1, 60, " of seconds")),
        )

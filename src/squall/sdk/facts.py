"""What the server tells of apps, functions and their inputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from squall.exception import InvalidError
from squall.sdk import checks

if TYPE_CHECKING:
    from squall.wire import control

#: A moment: with or without a time zone (then local), seconds since 1970, or so long ago.
Moment = datetime | timedelta | float | int


@dataclass(frozen=True)
class AppInfo:
    """An app. `state`: "ephemeral", "detached" or "deployed". `functions`: ids by name."""

    app_id: str
    name: str
    state: str
    created_at: datetime
    version: int
    containers: int
    tag: str
    tags: dict[str, str] = field(default_factory=dict)
    functions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FunctionInfo:
    """A function of one version of an app."""

    function_id: str
    app_id: str
    name: str
    version: int
    is_generator: bool


@dataclass(frozen=True)
class Stats:
    """Inputs that ended, by how; `mean_seconds` and `max_seconds` that they ran.

    The server counts by the minute since it began, for a day at most.
    """

    succeeded: int
    failed: int
    timed_out: int
    cancelled: int
    mean_seconds: float
    max_seconds: float

    @property
    def inputs(self) -> int:
        return self.succeeded + self.failed + self.timed_out + self.cancelled


@dataclass(frozen=True)
class FunctionStats:
    """Inputs that wait for a container at this moment, and containers."""

    backlog: int
    num_total_runners: int


def app_info(info: control.AppInfo) -> AppInfo:
    created = datetime.fromtimestamp(info.created, timezone.utc)
    return AppInfo(
        info.id,
        info.name,
        info.state,
        created,
        info.version,
        info.containers,
        info.tag,
        dict(info.tags),
        dict(info.functions),
    )


def stats(told: control.Stats) -> Stats:
    count = told.ended
    whole = sum(count.values())
    return Stats(
        succeeded=count.get("ok", 0) + count.get("done", 0),
        failed=count.get("exception", 0) + count.get("failed", 0),
        timed_out=count.get("timeout", 0),
        cancelled=count.get("cancelled", 0),
        mean_seconds=told.seconds / whole if whole else 0.0,
        max_seconds=told.longest,
    )


def seconds(name: str, moment: Moment | None) -> float:
    """A moment in seconds since 1970; 0 for none. Raises InvalidError."""
    if moment is None:
        return 0.0
    if isinstance(moment, datetime):
        return moment.timestamp()
    if isinstance(moment, timedelta):
        return (datetime.now(timezone.utc) - moment).timestamp()
    if isinstance(moment, bool) or not isinstance(moment, (int, float)):
        raise InvalidError(
            f"{name}={checks.short(moment)} is not possible: give a datetime, a timedelta (so long ago), or "
            "seconds"
        )
    return float(moment)

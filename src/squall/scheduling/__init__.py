"""Pure decisions: events in, actions out; no clock, no socket, no await."""

from __future__ import annotations

from squall.scheduling.scheduler import Scheduler

__all__ = ["Scheduler"]

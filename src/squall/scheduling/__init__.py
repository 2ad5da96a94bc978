"""Pure decisions: events in, actions out; no clock, no socket, no await."""

from squall.scheduling.scheduler import Scheduler

__all__ = ["Scheduler"]

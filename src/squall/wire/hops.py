"""The hops of a traced input: their names, the process of each, and what a neighbour may say of them. Pure.

A trace is a list of (name, CLOCK_MONOTONIC seconds): times of one host can be compared, of several not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from squall.wire.values import Trace

#: In the order in which a call that needs a new container comes by them. Nobody may name another one.
HOPS: dict[str, str] = {
    "sdk.call": "program",
    "sdk.serialized": "program",
    "client.send": "program",
    "server.received": "server",
    "scheduler.start": "server",
    "agent.ordered": "agent",
    "agent.image": "agent",
    "agent.sources": "agent",
    "agent.launch": "agent",
    "launcher.request": "launcher",
    "launcher.composed": "launcher",
    "launcher.skeleton": "launcher",
    "init.ready": "init",
    "runner.main": "runner",
    "runner.connected": "runner",
    "runner.imported": "runner",
    "agent.ready": "agent",
    "server.ready": "server",
    "scheduler.assign": "server",
    "server.assigned": "server",
    "agent.received": "agent",
    "agent.given": "agent",
    "runner.received": "runner",
    "user.begin": "runner",
    "user.end": "runner",
    "runner.sent": "runner",
    "agent.answered": "agent",
    "agent.output": "agent",
    "server.output": "server",
    "server.delivered": "server",
    "client.receive": "program",
    "sdk.result": "program",
}
#: The hops of a container's start: only a call that waited for it has them.
START = "scheduler.start"
#: Whose hops a client may tell of, and whose a node hands on.
CLIENT = frozenset({"program"})
ALL = frozenset(HOPS.values())

#: Hops of one trace, with room for the client's sending it again. The rest is left out.
MOST = 64
#: No host has been up for so many seconds.
_LIMIT = 1e10


def clean(said: Iterable[tuple[str, float]], processes: Collection[str]) -> Trace:
    """What counts of a trace that somebody sent: so many hops, known names of these processes, real times."""
    kept = [(name, at) for name, at in said if HOPS.get(name) in processes and 0 <= at < _LIMIT]
    return kept[:MOST]

"""What a peer may cost: times in seconds, sizes in bytes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """A peer that is silent for `ping_after` is pinged; silent for `ping_patience` more, it is dead.

    `head`: the time and `head_bytes` the size of a request's head. `hello_bytes` may arrive before the first
    answer. Of TCP connections that have not said who they are, `strangers` may be open. More than `backlog`
    bytes that the peer does not take end its connection, as do `farewell` seconds that it needs to take the
    rest after a close.
    """

    ping_after: float = 8.0
    ping_patience: float = 8.0
    head: float = 10.0
    head_bytes: int = 32 << 10
    hello_bytes: int = 64 << 10
    strangers: int = 1024
    backlog: int = 256 << 20
    farewell: float = 5.0

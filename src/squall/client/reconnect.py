"""When to try again after a connection was lost, and when to give up. Pure."""

from __future__ import annotations

import ssl

from squall.exception import Error
from squall.wire.websocket import Refused

#: A lost server may take this long to come back, in seconds.
PATIENCE_S = 60.0
#: Pauses before the attempts, in seconds; the last one repeats.
PAUSES_S = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)
#: What a proxy answers while its server is away.
_PASSING = frozenset({502, 503, 504})


class Reconnect:
    """The state of one attempt to get back; `begin` starts it, `reset` ends it."""

    def __init__(self, patience: float = PATIENCE_S) -> None:
        self._patience = patience
        self._since: float | None = None
        self._next = 0.0
        self._attempts = 0

    @property
    def active(self) -> bool:
        return self._since is not None

    def reset(self) -> None:
        self._since, self._attempts, self._next = None, 0, 0.0

    def begin(self, now: float) -> None:
        """A connection was lost, or an attempt to connect failed."""
        if self._since is None:
            self._since = now
        self._next = now + PAUSES_S[min(self._attempts, len(PAUSES_S) - 1)]
        self._attempts += 1

    def pause(self, now: float) -> float:
        """Seconds until the next attempt is due."""
        return max(0.0, self._next - now)

    def exhausted(self, now: float) -> bool:
        return self._since is not None and now - self._since >= self._patience


def fatal(error: BaseException) -> bool:
    """Whether trying again cannot help."""
    if isinstance(error, Refused):
        return error.status not in _PASSING
    return isinstance(error, (Error, ssl.SSLCertVerificationError))

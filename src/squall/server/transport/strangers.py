"""How many TCP connections may be open that have not said who they are."""

from __future__ import annotations

import logging
import resource
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

log = logging.getLogger("squall.server.transport")

#: Of the descriptors that the server may have, strangers get one in so many at most.
_SHARE = 4


class Strangers:
    """One log line when the limit is met, and no other until there was room again."""

    def __init__(self, limit: int) -> None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._limit = limit if soft == resource.RLIM_INFINITY else min(limit, soft // _SHARE)
        self._open: set[asyncio.BaseTransport] = set()
        self._told = False

    def admit(self, transport: asyncio.BaseTransport) -> bool:
        """Whether there is room for one more."""
        if len(self._open) >= self._limit:
            self._open = {t for t in self._open if not t.is_closing()}
        if len(self._open) >= self._limit:
            if not self._told:
                log.warning(
                    "%d connections have not said who they are: more are refused; who can reach this port?",
                    self._limit,
                )
            self._told = True
            return False
        self._told = False
        self._open.add(transport)
        return True

    def forget(self, transport: asyncio.BaseTransport) -> None:
        """It is known now, or gone."""
        self._open.discard(transport)


def raise_descriptor_limit() -> None:
    """As many descriptors as this process may give itself: each connection is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

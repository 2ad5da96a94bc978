"""Who may talk to the port at all, before any token is looked at. Pure.

A web page in a browser on this machine can reach loopback ports: it always sends Origin with a WebSocket or a
cross-site request, and under DNS rebinding its Host is a name that the attacker owns. Neither gets in.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass


@dataclass(frozen=True)
class Guard:
    """`hosts` are names, `origins` whole origins, that are allowed beyond the defaults (none)."""

    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()

    def refusal(self, headers: list[tuple[bytes, bytes]]) -> str:
        """Why a request with these headers is refused, in one line; empty when it may pass."""
        values = {name.lower(): value.decode("latin-1") for name, value in headers}
        origin = values.get(b"origin")
        if origin is not None and origin not in self.origins:
            return "web pages may not use this port (Origin header)"
        host = _without_port(values.get(b"host", ""))
        if host == "localhost" or host in self.hosts or _is_address(host):
            return ""
        return f"host {host[:80]!r} is not allowed: use the server's address, or start it with --allow-host"


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True

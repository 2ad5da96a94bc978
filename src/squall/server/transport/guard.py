"""Who may talk to the port at all, before any token is looked at. Pure.

A web page in a browser on this machine can reach loopback ports: it always sends Origin with a WebSocket or a
cross-site request, and under DNS rebinding its Host is a name that the attacker owns. Neither gets in.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Guard:
    """`hosts` (names in lower case) and `origins` (as browsers write them) are let in as well."""

    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()

    def refusal(self, headers: Headers, *, any_host: bool = False) -> str:
        """Why a request with these headers is refused, in one line; empty when it may pass.

        With `any_host` the Host says nothing: on the Unix socket, and to those who ask for our health.
        """
        origins = _values(headers, b"origin")
        if any(origin not in self.origins for origin in origins):
            return "web pages may not use this server (Origin header)"
        return "" if any_host else self._host_refusal(_values(headers, b"host"))

    def _host_refusal(self, hosts: list[str]) -> str:
        if len(hosts) != 1:
            return "a request needs one Host header"
        host = _without_port(hosts[0])
        if host == "localhost" or host in self.hosts or _is_address(host):
            return ""
        return (
            f"host {host[:80]!r} is not allowed: use the server's IP address, or allow the name on the server"
        )


def allowed_uid(uid: int | None, own: int, others: Iterable[int]) -> bool:
    """Whether that user of the machine may use the Unix socket."""
    return uid is not None and uid in {own, 0, *others}


def _values(headers: Headers, name: bytes) -> list[str]:
    return [value.decode("latin-1").strip() for key, value in headers if key.lower() == name]


def _without_port(host: str) -> str:
    if host.startswith("["):
        address, bracket, _ = host[1:].partition("]")
        return address if bracket else host
    return host.partition(":")[0].lower()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True

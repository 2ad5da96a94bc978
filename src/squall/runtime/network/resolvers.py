"""Whom containers ask for names: the host's resolvers, as far as a container can reach them."""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: The first that names a usable resolver counts. The others are where systemd-resolved and NetworkManager
#: keep the upstream ones when the first names only their own on loopback.
SOURCES = (
    "/etc/resolv.conf",
    "/run/systemd/resolve/resolv.conf",
    "/run/NetworkManager/no-stub-resolv.conf",
)

#: libc reads no more (resolv.conf(5), MAXNS).
MAX_RESOLVERS = 3

NONE_USABLE = "# The host's resolvers are on its loopback, where containers cannot reach them.\n"


def resolv_conf(sources: Iterable[str] = SOURCES) -> str:
    """The text of a container's /etc/resolv.conf."""
    for text in _texts(sources):
        servers = usable(text)
        if servers:
            kept = [line for line in text.splitlines() if line.split()[:1] in (["search"], ["options"])]
            return "\n".join([*(f"nameserver {s}" for s in servers), *kept, ""])
    return NONE_USABLE


def usable(text: str) -> list[str]:
    """The resolvers in the text of a resolv.conf that containers can reach: IPv4, not on loopback."""
    found: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["nameserver"] and len(words) > 1 and _is_reachable(words[1]):
            found.append(words[1])
    return found[:MAX_RESOLVERS]


def _is_reachable(address: str) -> bool:
    try:
        parsed = ipaddress.IPv4Address(address)
    except ValueError:
        return False
    return not parsed.is_loopback and not parsed.is_unspecified


def _texts(sources: Iterable[str]) -> Iterable[str]:
    for source in sources:
        with suppress(OSError), open(source, encoding="utf-8", errors="replace") as file:
            yield file.read()

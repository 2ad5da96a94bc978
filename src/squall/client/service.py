"""A daemon that systemd runs (`squall daemon install`): clients leave its start to systemd.

While it restarts there is no daemon for a moment. A client that started one of its own then would take its
place, and the service could not start again.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

UNIT = "squall.service"
#: There while systemd runs the machine (sd_booted(3)).
BOOTED = "/run/systemd/system"
#: The machine's own units.
MACHINE = "/etc/systemd/system"
#: What systemd looks for when the machine or the user's session starts.
_WANTED = "multi-user.target.wants"
_WANTED_BY_USER = "default.target.wants"
_STATE = "State="


def note(state: str) -> list[str]:
    """A unit's lines that say whose state it serves: systemd passes over X- sections (systemd.unit(5))."""
    return ["[X-Squall]", f"{_STATE}{state}"]


def directory(environ: Mapping[str, str], *, user: bool) -> str:
    """Where units are, of the machine or of the user."""
    if not user:
        return MACHINE
    home = environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(home, "systemd", "user")


def manager(state: str, environ: Mapping[str, str]) -> str:
    """The command that manages the enabled service with this state, or nothing."""
    if not os.path.isdir(BOOTED):
        return ""
    for user, wanted, command in ((False, _WANTED, "systemctl"), (True, _WANTED_BY_USER, "systemctl --user")):
        path = os.path.join(directory(environ, user=user), wanted, UNIT)
        if f"{_STATE}{state}" in _lines(path):
            return command
    return ""


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []

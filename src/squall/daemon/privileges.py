"""Who server and agent run as: a user of their own, when root starts them and this host lets root do that."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from contextlib import suppress

from squall.daemon import host, view
from squall.daemon.view import Identity

USER = "squall"
#: Where no user of that name exists: an id that distributions give to nobody.
RESERVED_UID = 999_000

#: What a trial under the other identity does: it can load Squall, and it can write its state.
_TRIAL = "import os, sys, squall.wire.messages; os.close(os.open(sys.argv[1], os.O_RDWR | os.O_TMPFILE))"
_TRIAL_S = 30.0


def candidate() -> Identity | None:
    """Whom to try; None for an ordinary user, who stays who he is."""
    if os.geteuid() != 0:
        return None
    with suppress(KeyError):
        found = pwd.getpwnam(USER)
        return Identity(found.pw_uid, found.pw_gid)
    return Identity(RESERVED_UID, RESERVED_UID)


def obstacle(identity: Identity, state: str, environ: dict[str, str]) -> str:
    """Why server and agent cannot run so, in one line; empty if they can. Found out by doing it."""
    folder = os.path.join(state, "server")
    program = view.command(identity, shown(state, environ), (sys.executable, "-c", _TRIAL, folder))
    try:
        done = subprocess.run(
            program, env=environ, cwd="/", capture_output=True, text=True, timeout=_TRIAL_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return ""
    lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    return lines[-1].removeprefix("squall: ")


def shown(state: str, environ: dict[str, str]) -> list[str]:
    """What must be reachable: Squall, its Python, its state, and local package indexes and certificates."""
    python = [sys.prefix, sys.base_prefix, os.path.dirname(os.path.realpath(sys.executable))]
    return [state, *python, *host.shown_directories(environ)]

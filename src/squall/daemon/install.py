"""`squall daemon install`: a systemd unit for the daemon, and the user that server and agent run as."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from squall.client import embedded, service
from squall.client.service import UNIT
from squall.daemon import privileges, state
from squall.exception import ConflictError, InvalidError, NotFoundError, PermissionDeniedError, ServiceError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The first line of what we wrote, and may write again.
OURS = (
    "# Written by `squall daemon install`, which writes it anew: put changes into `systemctl edit squall`.\n"
)
#: The supervisor ends server, agent and launcher one after the other; twice what it grants them in all.
_STOP_S = 60


@dataclass(frozen=True)
class Wish:
    """`user`: a unit of this user's own manager. With `root`, for the machine whose files lie below it."""

    state: str
    listen: str = ""
    gpus: str = ""
    user: bool = False
    root: str = ""


@dataclass(frozen=True)
class Plan:
    """`useradd` is empty where the user is there, or none is needed; `start` is for whoever reads it."""

    path: str
    text: str
    useradd: tuple[str, ...]
    start: str


def plan(wish: Wish, environ: Mapping[str, str]) -> Plan:
    """What is to be written and run. Raises InvalidError, ConflictError."""
    path = wish.root + os.path.join(service.directory(environ, user=wish.user), UNIT)
    if os.path.exists(path) and not _is_ours(path):
        raise ConflictError(f"{path} is there and not from `squall daemon install`: move it away first.")
    manager = "systemctl --user" if wish.user else "systemctl"
    start = f"{manager} daemon-reload && {manager} enable --now {UNIT}"
    return Plan(path, _text(wish), () if wish.user else _useradd(wish), start)


def check_host(wish: Wish) -> None:
    """Raises NotFoundError, PermissionDeniedError, InvalidError where this machine or user cannot have it."""
    if not os.path.isdir(service.BOOTED):
        raise NotFoundError(
            "systemd does not run this machine, so there is nothing to install into: start the daemon with "
            "`squall daemon start`, or have your own init run `squall daemon start --foreground`."
        )
    if not wish.user and os.geteuid() != 0:
        raise PermissionDeniedError("Only root can install for the machine: use sudo, or --user.")
    state.check(wish.state)


def carry_out(chosen: Plan) -> None:
    """The user first: the unit may be started at any time. Raises ServiceError, InvalidError."""
    if chosen.useradd:
        _run(chosen.useradd)
    temporary = f"{chosen.path}.new"
    try:
        os.makedirs(os.path.dirname(chosen.path), mode=0o755, exist_ok=True)
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(chosen.text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, chosen.path)
    except OSError as error:
        raise InvalidError(f"Cannot write {chosen.path}: {error.strerror}.") from None


def _is_ours(path: str) -> bool:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.readline() == OURS


def _useradd(wish: Wish) -> tuple[str, ...]:
    """Nobody logs in as this user, and its home is the state directory."""
    if _has_user(wish.root):
        return ()
    prefix = ("--prefix", wish.root) if wish.root else ()
    shell = shutil.which("nologin", path="/usr/sbin:/sbin:/usr/bin") or "/bin/false"
    home = ("--home-dir", wish.state, "--no-create-home", "--shell", shell)
    return ("useradd", *prefix, "--system", "--user-group", *home, privileges.USER)


def _has_user(root: str) -> bool:
    try:
        if not root:
            return bool(pwd.getpwnam(privileges.USER))
        with open(f"{root}/etc/passwd", encoding="utf-8", errors="replace") as file:
            return any(line.startswith(f"{privileges.USER}:") for line in file)
    except (KeyError, FileNotFoundError):
        return False


def _run(command: tuple[str, ...]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ServiceError(
            f"{command[0]} is not on the PATH: make a system user {privileges.USER}, then install again."
        ) from None
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise ServiceError(f"The user {privileges.USER} was not made: {reason.rstrip('.')}.")


def _text(wish: Wish) -> str:
    command = [sys.executable, "-m", "squall", "daemon", "start", "--foreground", "--state", wish.state]
    for option, value in (("--listen", wish.listen), ("--gpus", wish.gpus)):
        command += [option, value] if value else []
    # Where Squall is run from a source tree, the same as the embedded daemon gets.
    settings = [f"Environment={_quoted(f'{k}={v}')}" for k, v in embedded.environment({}).items()]
    lines = [
        "[Unit]",
        "Description=Squall: server and node of this machine",
        f"RequiresMountsFor={_quoted(wish.state)}",
        *(() if wish.user else ("Wants=network-online.target", "After=network-online.target")),
        "",
        "[Service]",
        "Type=exec",
        f"ExecStart={' '.join(_quoted(part, command=True) for part in command)}",
        *settings,
        "WorkingDirectory=/",
        "Restart=on-failure",
        "RestartSec=2",
        "# The supervisor ends what it started; when it is killed, containers go on for the next one.",
        "KillMode=process",
        f"TimeoutStopSec={_STOP_S}",
        "Delegate=yes",
        "TasksMax=infinity",
        "OOMPolicy=continue",
        "",
        "[Install]",
        f"WantedBy={'default' if wish.user else 'multi-user'}.target",
        "",
        *service.note(wish.state),
    ]
    return OURS + "\n".join(lines) + "\n"


def _quoted(text: str, *, command: bool = False) -> str:
    """As systemd.syntax(7) and systemd.service(5) read it. Raises InvalidError for what no unit can hold."""
    if any(ord(c) < 32 for c in text):
        raise InvalidError(f"{text!r} holds a control character, which a systemd unit cannot.")
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    if command:
        text = text.replace("$", "$$")
    plain = not set(text) & set(" \t'\"\\;#")
    return text if plain else f'"{text}"'

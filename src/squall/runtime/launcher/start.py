"""Starting a launcher: what the agent does before it has threads."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from squall.runtime.driver import DriverError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def start_launcher(
    state: Path,
    socket: Path,
    *,
    owner_uid: int,
    readable: Sequence[str] = (),
    writable: Sequence[str] = (),
    options: Sequence[str] = (),
    log: int = subprocess.DEVNULL,
) -> subprocess.Popen[str]:
    """Start a launcher and wait until it serves. Raises `DriverError` with its reason.

    `readable` and `writable` are the directories that containers may be shown; `options` are further ones of
    `python -m squall.runtime.launcher`; `log` is a descriptor for what it says on stderr.
    """
    command = [
        sys.executable,
        "-m",
        "squall.runtime.launcher",
        "--state",
        str(state),
        "--socket",
        str(socket),
    ]
    command += ["--owner-uid", str(owner_uid)]
    command += [part for path in readable for part in ("--readable", str(path))]
    command += [part for path in writable for part in ("--writable", str(path))]
    process = subprocess.Popen(
        [*command, *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        cwd="/",
        start_new_session=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    process.stdout.close()
    if line != "ready":
        process.wait()
        raise DriverError(line.removeprefix("error: ") or "the launcher died at its start; see its log")
    return process

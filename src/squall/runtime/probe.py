"""Which driver this host allows, found out by doing: a trial container says more than any version number."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from squall.runtime.driver import DriverError
from squall.runtime.launcher import messages
from squall.runtime.launcher.config import DEFAULT_UID_FIRST
from squall.runtime.launcher.start import start_launcher
from squall.runtime.spec import ContainerSpec, Mount

TRIAL_TIMEOUT_S = 30.0
#: Directories with programs and libraries; on most systems all but the first are links into it.
SYSTEM_DIRECTORIES = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")

#: The first kernel whose overlays take idmapped layers, by which a container's files are its own.
OLDEST_KERNEL = (5, 19)

DriverName = Literal["namespaces", "process"]


@dataclass(frozen=True)
class Choice:
    """The driver to use, and, where it is not the best one, what the better one lacks (one line)."""

    name: DriverName
    reason: str | None = None


def choose(forced: str | None, state_dir: Path) -> Choice:
    """The best driver that works here, or the forced one. Raises `DriverError` if that one cannot work."""
    if forced == "process":
        return Choice("process", "it was chosen")
    if forced not in (None, "namespaces"):
        raise DriverError(f"there is no driver {forced!r}: choose 'namespaces' or 'process'")
    reason = probe_namespaces(state_dir)
    if reason is None:
        return Choice("namespaces")
    if forced:
        raise DriverError(f"the namespaces driver does not work here: {reason}")
    return Choice("process", reason)


def probe_namespaces(state_dir: Path) -> str | None:
    """None if a container with the host's own /usr runs below `state_dir`; else why not, in one line."""
    if os.geteuid() != 0:
        return "containers need root on this machine; start the node as root"
    try:
        directory = Path(tempfile.mkdtemp(prefix="probe-", dir=state_dir))
    except OSError as error:
        return f"the state directory {state_dir} is not writable: {error.strerror}"
    try:
        reason = _trial(directory.resolve())
    except DriverError as error:
        reason = str(error)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    filesystems = Path("/proc/filesystems").read_text("ascii")
    return None if reason is None else explained(reason, os.uname().release, filesystems)


def explained(reason: str, release: str, filesystems: str) -> str:
    """A failed trial's reason, or the cause behind it where the kernel itself tells. Pure.

    `release` is as of `uname -r`, `filesystems` the text of /proc/filesystems.
    """
    version = tuple(int(number) for number in re.findall(r"\d+", release)[:2])
    if version < OLDEST_KERNEL:
        return f"containers need Linux 5.19 or newer, and this is {release}"
    if "overlay" not in filesystems.split():
        return "the kernel has no overlay file system; as root on the host: modprobe overlay"
    return reason


def host_root(directory: Path) -> tuple[Mount, ...]:
    """Make `directory` the base layer of a root with the host's own programs; the mounts it needs."""
    mounts = []
    for name in SYSTEM_DIRECTORIES:
        source = Path("/", name)
        if source.is_symlink():
            (directory / name).symlink_to(source.readlink())
        elif source.is_dir():
            mounts.append(Mount(str(source), str(source)))
    for name in ("etc", "root", "tmp"):
        (directory / name).mkdir()
    return tuple(mounts)


def _trial(directory: Path) -> str | None:
    layer = directory / "layer"
    layer.mkdir()
    mounts = host_root(layer)
    spec = ContainerSpec(
        id="probe",
        workspace="probe",
        uid_base=DEFAULT_UID_FIRST,
        argv=("true",),
        env={"PATH": "/usr/bin:/bin"},
        layers=(str(layer),),
        mounts=mounts,
        network="none",
    )
    launcher = start_launcher(
        directory / "launcher",
        directory / "socket",
        owner_uid=0,
        readable=[m.source for m in mounts],
        writable=[str(directory)],
        options=["--no-network"],
    )
    try:
        return _run(directory / "socket", spec)
    finally:
        _end(launcher)


def _run(path: Path, spec: ContainerSpec) -> str | None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(TRIAL_TIMEOUT_S)
        try:
            with messages.reachable(path) as name:
                connection.connect(name)
            messages.send(connection, {"id": 1, "op": "start", "spec": spec.to_json()})
            started, descriptors = messages.receive(connection)
            messages.close_all(descriptors)
            if "error" in started:
                return str(started["error"])
            ended, _ = messages.receive(connection)
        except (OSError, ValueError) as error:
            return f"the launcher failed in a trial: {error}"
    code = ended["status"]["code"]
    return None if code == 0 else f"a trial container ended oddly: {ended['status']}"


def _end(launcher: subprocess.Popen[str]) -> None:
    launcher.terminate()
    try:
        launcher.wait(TRIAL_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        launcher.kill()
        launcher.wait()

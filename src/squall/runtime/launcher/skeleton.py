"""The inside of a container before its program: root, /proc, /sys, /dev, mounts, in namespaces made for it.

Runs in the container's init, in the workspace's user namespace, before any tenant code. What an image holds
is not trusted: every path in it is resolved beneath its root (openat2), so a symbolic link in an image cannot
make anything land outside. Order matters: the caller's mounts come first and the system's own lie above them.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import Any

from squall.runtime.linux import mounts, processes

#: Where a zone's own small root keeps what skeletons are made of.
ROOT_POINT, ETC_POINT, EMPTY, NULL, DEVICES = "/root", "/etc", "/empty", "/dev/null", "/dev"

#: The OCI's masked paths (runc's and Docker's defaults) and those that are read-only.
MASKED_PROC = (
    "acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list",
    "timer_stats",
)  # fmt: skip
READ_ONLY_PROC = ("bus", "fs", "irq", "sys", "sysrq-trigger")
MASKED_SYS = ("firmware", "devices/virtual/powercap")

_QUIET = mounts.NOSUID | mounts.NODEV | mounts.NOEXEC


class SkeletonError(Exception):
    """The container cannot be composed; the message is one line for a user."""


@dataclass(frozen=True)
class Plan:
    """What the launcher asks of a skeleton.

    `targets`: where mounts go, and whether they are directories. `devices`: names in /dev of further nodes.
    """

    hostname: str
    targets: tuple[tuple[str, bool], ...] = ()
    devices: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    network: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "hostname": self.hostname,
            "targets": self.targets,
            "devices": self.devices,
            "files": self.files,
            "network": self.network,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Plan:
        targets = tuple((path, directory) for path, directory in data["targets"])
        return cls(data["hostname"], targets, tuple(data["devices"]), data["files"], data["network"])


def build(plan: Plan, root: int, sources: list[int]) -> None:
    """Compose the container's file system from the detached `root` and `sources`, and enter it.

    The sources are those of the plan's targets, then those of its devices.
    """
    mounts.attach_at(root, ROOT_POINT)
    processes.set_fs_ids(0)  # what is made in the image belongs to the container's root
    os.umask(0)
    _sticky(_directory(root, "tmp"))
    nodes = dict(zip(plan.devices, sources[len(plan.targets) :], strict=True))
    for (target, is_directory), source in zip(plan.targets, sources, strict=False):
        _attach_at(root, target, source, is_directory=is_directory)
    _etc(root, plan.files)
    _proc(_directory(root, "proc"))
    _sys(_directory(root, "sys"))
    _dev(_directory(root, "dev"), nodes)
    os.fchdir(root)
    mounts.pivot_root_here()


def _sticky(directory: int) -> None:
    """Everybody may write here, whatever the image says of its /tmp."""
    mode = 0o1777
    if stat.S_IMODE(os.fstat(directory).st_mode) != mode:
        opened = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=directory)
        os.fchmod(opened, mode)


def _proc(at: int) -> None:
    proc = mounts.new_filesystem("proc", _QUIET)
    mounts.attach(proc, at)
    for name in MASKED_PROC:
        _mask(proc, name)
    for name in READ_ONLY_PROC:
        _make_read_only(proc, name)


def _sys(at: int) -> None:
    sysfs = mounts.new_filesystem("sysfs", _QUIET | mounts.RDONLY)
    mounts.attach(sysfs, at)
    for name in MASKED_SYS:
        _mask(sysfs, name)


def _dev(at: int, nodes: dict[str, int]) -> None:
    devices = _devices_and(nodes, at) if nodes else _zones_devices()
    mounts.set_attributes(devices, mounts.RDONLY | mounts.NOSUID | mounts.NOEXEC)
    if not nodes:
        mounts.attach(devices, at)
    terminals = mounts.new_filesystem(
        "devpts", mounts.NOSUID | mounts.NOEXEC, newinstance=None, ptmxmode="0666", mode="0620", gid="5"
    )
    mounts.attach(terminals, devices, "pts")
    mounts.attach(mounts.new_filesystem("tmpfs", _QUIET, mode="1777"), devices, "shm")


def _zones_devices() -> int:
    root = os.open("/", os.O_PATH)
    devices = mounts.clone_tree(root, DEVICES[1:])
    os.close(root)
    return devices


def _devices_and(nodes: dict[str, int], at: int) -> int:
    """A directory of this container's own with the zone's devices and further `nodes`, attached already.

    Nodes cannot be made here: they are mounted over empty files.
    """
    devices = mounts.new_filesystem("tmpfs", mounts.NOSUID | mounts.NOEXEC, size="64k", mode="0755")
    mounts.attach(devices, at)
    zones = os.open(DEVICES, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for name in os.listdir(zones):
        mode = os.stat(name, dir_fd=zones, follow_symlinks=False).st_mode
        if stat.S_ISCHR(mode):
            _node(devices, name, mounts.clone_tree(zones, name))
        elif stat.S_ISLNK(mode):
            os.symlink(os.readlink(name, dir_fd=zones), name, dir_fd=devices)
        else:
            os.mkdir(name, 0o755, dir_fd=devices)
    for name, node in nodes.items():
        _node(devices, name, node)
    os.close(zones)
    return devices


def _node(devices: int, name: str, node: int) -> None:
    os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600, dir_fd=devices))
    mounts.attach(node, devices, name)
    os.close(node)


def _etc(root: int, files: dict[str, str]) -> None:
    """Mount the files over those of the image; a symbolic link there gives way to a file."""
    etc = mounts.new_filesystem("tmpfs", _QUIET, size="1m", mode="0755")
    mounts.attach_at(etc, ETC_POINT)
    directory = _directory(root, "etc")
    for name, text in files.items():
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=etc)
        os.write(file, text.encode())
        if _is_link(directory, name):
            os.unlink(name, dir_fd=directory)
        source = mounts.clone_tree(etc, name)
        _attach_at(root, f"etc/{name}", source, is_directory=False)


def _is_link(directory: int, name: str) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _mask(mount: int, name: str) -> None:
    """Lay nothing over a file or a directory, where the kernel has it."""
    try:
        is_directory = stat.S_ISDIR(os.stat(name, dir_fd=mount, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return
    root = os.open("/", os.O_PATH)
    cover = mounts.clone_tree(root, (EMPTY if is_directory else NULL)[1:])
    os.close(root)
    if is_directory:
        mounts.set_attributes(cover, mounts.RDONLY)
    mounts.attach(cover, mount, name)
    os.close(cover)


def _make_read_only(mount: int, name: str) -> None:
    try:
        copy = mounts.clone_tree(mount, name)
    except FileNotFoundError:
        return
    mounts.set_attributes(copy, mounts.RDONLY)
    mounts.attach(copy, mount, name)
    os.close(copy)


def _attach_at(root: int, target: str, source: int, *, is_directory: bool) -> None:
    path = target.strip("/")
    try:
        at = _directory(root, path) if is_directory else _file(root, path)
    except OSError as error:
        raise SkeletonError(
            f"cannot mount at {target!r}: {os.strerror(error.errno or 0)} in the image"
        ) from None
    try:
        mounts.attach(source, at)
    except NotADirectoryError:
        raise SkeletonError(f"cannot mount at {target!r}: the image has a file of that name") from None
    os.close(at)


def _directory(root: int, path: str) -> int:
    """Open a directory of the image, made with its parents where it is missing."""
    try:
        return _open(root, path, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        parent, name = _parent(root, path)
        os.mkdir(name, 0o755, dir_fd=parent)
        os.close(parent)
        return _open(root, path, os.O_PATH | os.O_DIRECTORY)


def _file(root: int, path: str) -> int:
    """Open what lies at a path that is no directory, made as an empty file where it is missing."""
    try:
        found = _open(root, path, os.O_PATH)
    except FileNotFoundError:
        parent, name = _parent(root, path)
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW
        os.close(os.open(name, flags, 0o644, dir_fd=parent))
        os.close(parent)
        return _open(root, path, os.O_PATH)
    if stat.S_ISDIR(os.fstat(found).st_mode):
        raise SkeletonError(f"cannot mount at '/{path}': the image has a directory of that name")
    return found


def _parent(root: int, path: str) -> tuple[int, str]:
    parent, _, name = path.rpartition("/")
    return _directory(root, parent or "."), name


def _open(root: int, path: str, flags: int) -> int:
    return mounts.open_resolved(root, path, flags, mounts.RESOLVE_IN_ROOT | mounts.RESOLVE_NO_MAGICLINKS)

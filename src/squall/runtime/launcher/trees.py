"""What the launcher mounts for a container: the overlay of its layers, the caller's mounts, a zone's root.

Layers are plain directories owned by uid 0, shown idmapped into the workspace's range. Everything is made
detached. Where the kernel does not take an overlay's layers by descriptor (before 6.15 for detached ones),
they are attached for a moment at private mount points of the launcher's own mount namespace.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from squall.runtime.linux import mounts, processes

if TYPE_CHECKING:
    from pathlib import Path

    from squall.runtime.launcher.sources import Sources
    from squall.runtime.spec import ContainerSpec, Mount

#: Of a container's root: set-uid programs gain nothing (no_new_privs), devices come from /dev alone.
ROOT_ATTRIBUTES = mounts.NOSUID | mounts.NODEV

#: The name that forces the second way, in SQUALL_FORCE_FALLBACK.
FALLBACK = "overlay-paths"

_DEVICES = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)
_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)


class TreeError(Exception):
    """A tree cannot be made; the message is one line for a user."""


@dataclass(frozen=True)
class Upper:
    """Where writes go: `mount` holds the directories `upper` and `work` (names beneath it).

    `owner` is whose files they will be, seen through `mount`.
    """

    mount: int
    upper: str
    work: str
    owner: int


def zone_root() -> int:
    """The small file system of a zone: mount points, device nodes and an empty directory. Detached."""
    root = mounts.new_filesystem("tmpfs", mounts.NOSUID, size="256k", mode="755")
    for name in ("root", "etc", "empty", "proc", "sys", "dev", "dev/pts", "dev/shm"):
        os.mkdir(name, 0o755, dir_fd=root)
    devices = os.open("dev", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    for name, major, minor in _DEVICES:
        os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(major, minor), dir_fd=devices)
        os.chmod(f"/proc/self/fd/{devices}/{name}", 0o666)  # noqa: S103 - whatever the umask
    for name, target in _LINKS:
        os.symlink(target, name, dir_fd=devices)
    os.close(devices)
    return root


class Trees:
    """Makes roots of containers. `points` is a directory of the launcher's own for private mount points."""

    def __init__(self, sources: Sources, points: Path, empty: Path, fallbacks: frozenset[str]) -> None:
        self._sources = sources
        self._points = points
        self._empty = empty
        self._by_descriptor = FALLBACK not in fallbacks

    def root(self, spec: ContainerSpec, userns: int, scratch: Path) -> int:
        """The container's root, detached: its layers below, `scratch` or the spec's upper on top."""
        opened: list[int] = []
        try:
            layers = [self._layer(path, userns, opened) for path in spec.layers]
            if not layers:
                layers = [_cloned(os.open(self._empty, os.O_PATH | os.O_CLOEXEC), opened)]
            upper = self._upper(spec, userns, scratch, opened)
            if upper.owner == 0:
                return self._overlay(layers, upper)
            with processes.acting_as(upper.owner):
                return self._overlay(layers, upper)
        finally:
            for fd in opened:
                os.close(fd)

    def mount(self, wanted: Mount, userns: int) -> tuple[int, bool]:
        """A detached bind mount of a source, and whether it is a directory."""
        source = self._sources.open(wanted.source, writable=not wanted.read_only)
        try:
            info = os.fstat(source)
            is_directory = stat.S_ISDIR(info.st_mode)
            copy = mounts.clone_tree(source, recursive=is_directory)
        finally:
            os.close(source)
        attributes = mounts.NOSUID | mounts.NODEV | (mounts.RDONLY if wanted.read_only else 0)
        if info.st_uid == 0:  # what is root's is shown as the container's root's
            with suppress(OSError):  # a file system without idmapped mounts: root is a stranger inside, too
                mounts.set_attributes(copy, attributes, userns=userns, recursive=is_directory)
                return copy, is_directory
        # All others are strangers, for whom the bits of "others" count: an id that the map lacks could not
        # even connect to a socket.
        mounts.set_attributes(copy, attributes, recursive=is_directory)
        return copy, is_directory

    def _layer(self, path: str, userns: int, opened: list[int]) -> int:
        source = self._sources.open(path)
        opened.append(source)
        copy = _cloned(source, opened)
        _idmap(copy, userns, path)
        return copy

    def _upper(self, spec: ContainerSpec, userns: int, scratch: Path, opened: list[int]) -> Upper:
        """A scratch upper is owned by the container's root itself, a build's by uid 0 through an idmap."""
        if spec.upper is None:
            base = os.open(scratch, os.O_PATH | os.O_CLOEXEC)
            opened.append(base)
            return Upper(_cloned(base, opened), "upper", "work", owner=0)
        parent, name = os.path.split(spec.upper.rstrip("/"))
        source = self._sources.open(parent, writable=True)
        opened.append(source)
        copy = _cloned(source, opened)
        _make_upper(source, name)
        os.mkdir(work_name(spec.id), 0o700, dir_fd=source)
        _idmap(copy, userns, spec.upper)
        return Upper(copy, name, work_name(spec.id), owner=spec.uid_base)

    def _overlay(self, layers: list[int], upper: Upper) -> int:
        if self._by_descriptor:
            with suppress(OSError):
                return _overlay_by_descriptor(layers, upper)
        try:
            made = self._overlay_by_path(layers, upper)
        except OSError as error:
            raise TreeError(
                f"the kernel refuses the overlay of this container ({os.strerror(error.errno or 0)}): "
                "it must be 5.19 or newer, and the state directory on a file system that can hold "
                "an overlay's upper (ext4, xfs, btrfs)"
            ) from None
        self._by_descriptor = False  # it works by path only: no need to ask again
        return made

    def _overlay_by_path(self, layers: list[int], upper: Upper) -> int:
        """The same with paths: `lowerdir=2:1:0` below a directory of ours, so that options stay short."""
        attached: list[str] = []
        before = os.open(".", os.O_PATH | os.O_CLOEXEC)
        os.chdir(self._points)
        try:
            for name, mount in [*((str(n), layer) for n, layer in enumerate(layers)), ("up", upper.mount)]:
                os.makedirs(name, exist_ok=True)
                mounts.attach_at(mount, name)
                attached.append(name)
            os.makedirs("root", exist_ok=True)
            lower = ":".join(str(n) for n in reversed(range(len(layers))))
            options = f"lowerdir={lower},upperdir=up/{upper.upper},workdir=up/{upper.work},index=off,volatile"
            mounts.mount_legacy("overlay", "root", ROOT_ATTRIBUTES, options)
            attached.append("root")
            points = os.open("root", os.O_PATH | os.O_CLOEXEC)
            root = _cloned(points, [])
            os.close(points)
            mounts.set_attributes(root, ROOT_ATTRIBUTES)
            return root
        finally:
            for name in reversed(attached):
                mounts.detach(name)
            os.fchdir(before)
            os.close(before)


def takes_descriptors() -> bool:
    """Whether this kernel takes an overlay's layers by descriptors of detached mounts. Needs root."""
    try:
        base = mounts.new_filesystem("tmpfs", mounts.NOSUID)
    except OSError:
        return False
    opened = [base]
    try:
        for name in ("lower", "upper", "work"):
            os.mkdir(name, dir_fd=base)
        lower = mounts.clone_tree(base, "lower")
        opened.append(lower)
        opened.append(_overlay_by_descriptor([lower], Upper(base, "upper", "work", owner=0)))
    except OSError:
        return False
    finally:
        for fd in opened:
            os.close(fd)
    return True


def _make_upper(parent: int, name: str) -> None:
    """The directory that becomes the layer: the root of what the container sees, so it belongs to uid 0."""
    try:
        os.mkdir(name, 0o755, dir_fd=parent)
    except FileExistsError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            raise TreeError(f"the upper {name!r} is no directory") from None
    os.chown(name, 0, 0, dir_fd=parent, follow_symlinks=False)


def work_name(container_id: str) -> str:
    """The overlay's work directory of a build, beside its upper."""
    return f".work-{container_id}"


def _overlay_by_descriptor(layers: list[int], upper: Upper) -> int:
    directories = [
        os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=upper.mount)
        for name in (upper.upper, upper.work)
    ]
    try:
        with mounts.FileSystem("overlay") as overlay:
            for layer in reversed(layers):
                overlay.set("lowerdir+", layer)
            overlay.set("upperdir", directories[0])
            overlay.set("workdir", directories[1])
            overlay.set("index", "off")
            overlay.set("volatile")
            return overlay.mount(ROOT_ATTRIBUTES)
    finally:
        for fd in directories:
            os.close(fd)


def _cloned(source: int, opened: list[int]) -> int:
    copy = mounts.clone_tree(source)
    opened.append(copy)
    return copy


def _idmap(mount: int, userns: int, path: str) -> None:
    try:
        mounts.set_attributes(mount, 0, userns=userns)
    except OSError as error:
        raise TreeError(
            f"{path} cannot be shown to a container: its file system has no idmapped mounts "
            f"({os.strerror(error.errno or 0)}); keep the state directory on ext4, xfs or btrfs"
        ) from None

"""Local files on their way into a container: a tree of files by content."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from squall.exception import DataLossError, InvalidError
from squall.wire.values import FileEntry, Manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from squall.sdk.ports import Port

#: Files of one `add_local_dir`.
MAX_FILES = 100_000
#: Contents up to this size are kept between hashing and sending; larger files are read again.
_KEEP = 64 << 10
#: Folders without source of the user's: a repository's own, caches, environments, dependencies of JavaScript.
_NO_SOURCE = frozenset({"__pycache__", "node_modules"})


@dataclass(frozen=True)
class LocalFile:
    """A file by its content when it was read; `data` holds it unless it is large."""

    source: str
    sha256: str
    size: int
    mode: int
    data: bytes | None

    def read(self) -> bytes:
        """The content that was hashed. Raises DataLossError if the file is another one by now."""
        if self.data is not None:
            return self.data
        data = read(self.source)
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise DataLossError(f"{self.source} changed while it was sent: run it again")
        return data


@dataclass
class Tree:
    """Files by their posix path relative to the tree's root."""

    files: dict[str, LocalFile] = field(default_factory=dict)

    def add(self, path: str, source: str, *, keep: bool = False) -> LocalFile:
        """Read a file once, and put it at `path`. With `keep`, its content stays here however large."""
        data = read(source)
        executable = os.stat(source).st_mode & stat.S_IXUSR
        mode = 0o755 if executable else 0o644
        kept = data if keep or len(data) <= _KEEP else None
        self.files[path] = LocalFile(source, hashlib.sha256(data).hexdigest(), len(data), mode, kept)
        return self.files[path]

    def manifest(self) -> Manifest:
        entries = sorted(self.files.items())
        return Manifest([FileEntry(path, f.sha256, f.size, f.mode) for path, f in entries])

    @property
    def id(self) -> str:
        from squall.wire.hashing import manifest_id

        return manifest_id(self.manifest())


def read(path: str) -> bytes:
    """Raises InvalidError, in one line, if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise InvalidError(f"cannot read {path}: {error.strerror}") from None


def file_tree(local: str, target: str) -> Tree:
    """One file, at an absolute path of the container."""
    if not os.path.isfile(local):
        raise InvalidError(f"add_local_file: there is no file {local}")
    tree = Tree()
    tree.add(target.lstrip("/"), local)
    return tree


def directory_tree(local: str, ignore: Callable[[Path], bool]) -> Tree:
    """All regular files below a folder. Links to files are followed, links to folders are not."""
    if not os.path.isdir(local):
        raise InvalidError(f"add_local_dir: there is no folder {local}")
    tree = Tree()
    for relative, source in walk(local):
        if ignore(Path(relative)):
            continue
        tree.add(relative, source)
        if len(tree.files) > MAX_FILES:
            raise InvalidError(
                f"add_local_dir: {local} has over {MAX_FILES} files: leave some out with ignore=[...]"
            )
    return tree


def walk(root: str, *, source_only: bool = False) -> Iterator[tuple[str, str]]:
    """(posix path below the root, path here) of regular files, sorted."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not source_only or _may_have_source(folder, name))
        for name in sorted(files):
            source = os.path.join(folder, name)
            if os.path.isfile(source):
                yield Path(os.path.relpath(source, root)).as_posix(), source


def _may_have_source(folder: str, name: str) -> bool:
    if name in _NO_SOURCE or name.startswith("."):
        return False
    return not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))


async def put(port: Port[Any], tree: Tree) -> str:
    """Bring a tree to the server, sending only what it lacks; the id of its manifest."""
    from squall.wire.control import BlobsHave, ManifestPut

    by_hash = {file.sha256: file for file in tree.files.values()}
    missing = await port.request("blobs.missing", BlobsHave(sorted(by_hash)))
    for sha256 in missing.hashes:
        await port.upload(sha256, by_hash[sha256].read())
    await port.request("manifest.put", ManifestPut(tree.id, tree.manifest()))
    return tree.id

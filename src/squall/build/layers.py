"""The layers on this machine's disk: each made once, shown whole, and never changed.

    layers/<layer id>.<random>/fs   the files, owned by uid 0
    layers/<layer id>.json          names the directory that counts, and the one it was made on top of
    locks/

A directory that no record names is unfinished, or was replaced by a forced build; `sweep` removes those.
"""

from __future__ import annotations

import secrets
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from squall.build import records
from squall.build.base import BuildError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterator
    from pathlib import Path

    from squall.build.base import HostRunner

#: What the overlay's files are called inside a layer's directory.
FS = "fs"


@dataclass(frozen=True)
class Layer:
    """`name` is of the directory: the layer's id and which make of it this is."""

    id: str
    name: str
    folder: Path

    @property
    def fs(self) -> Path:
        return self.folder / FS


class LayerStore:
    """Layers below `state`. `host` removes what root has made."""

    def __init__(self, state: Path, host: HostRunner) -> None:
        self._folder = state / "layers"
        self._host = host
        self._folder.mkdir(parents=True, exist_ok=True)
        self.locks = records.Locks(state / "locks")

    def find(self, layer_id: str, parent: str = "") -> Layer | None:
        """The finished layer, if it was made on top of `parent` (a name)."""
        record = records.read(self._record(layer_id))
        if record is None or record.get("parent") != parent:
            return None
        return self.named(str(record.get("name")))

    def named(self, name: str) -> Layer | None:
        """The layer in this directory, if it is there."""
        layer = self._layer(name)
        return layer if layer.fs.is_dir() else None

    @asynccontextmanager
    async def making(self, layer_id: str, parent: str = "") -> AsyncIterator[Layer]:
        """An empty directory to make the layer in; it counts when the block ends well, else it is removed."""
        layer = self._layer(f"{layer_id}.{secrets.token_hex(4)}")
        layer.folder.mkdir()
        try:
            yield layer
            if not layer.fs.is_dir():
                raise BuildError("the step left no layer behind; see the node's log")
            await records.sync(layer.folder)
            now = int(time.time())
            records.write(self._record(layer_id), {"name": layer.name, "parent": parent, "created": now})
        except BaseException:
            await self._remove(layer.folder)
            raise

    async def sweep(self, in_use: Collection[str], kept: Collection[str]) -> list[str]:
        """Remove directories that neither count nor are being made. `in_use` are paths, `kept` are names.

        Gives the names of those that are gone.
        """
        removed = []
        for folder in list(self._folder.iterdir()):
            counts = not folder.is_dir() or self._counts(folder, in_use, kept)
            if not counts and await self._remove(folder):
                removed.append(folder.name)
        return removed

    def _counts(self, folder: Path, in_use: Collection[str], kept: Collection[str]) -> bool:
        layer_id = folder.name.partition(".")[0]
        record = records.read(self._record(layer_id)) or {}
        if folder.name in kept or folder.name == record.get("name") or str(folder / FS) in in_use:
            return True
        return not self.locks.is_free(layer_id)

    async def _remove(self, folder: Path) -> bool:
        """Whether it is gone; what stays counts for nothing, and the next sweep tries again."""
        try:
            await self._host.remove(folder)
        except BuildError:
            return False
        return True

    def _layer(self, name: str) -> Layer:
        return Layer(name.partition(".")[0], name, self._folder / name)

    def _record(self, layer_id: str) -> Path:
        return self._folder / f"{layer_id}.json"


def names(record: dict[str, object]) -> Iterator[str]:
    """The layers in an image's record."""
    listed = record.get("layers")
    yield from (str(name) for name in (listed if isinstance(listed, list) else []))

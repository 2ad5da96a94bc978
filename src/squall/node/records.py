"""What is kept on disk of a running container, so that the agent's next life can adopt it."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from squall.wire import codec
from squall.wire.messages import StartContainer

if TYPE_CHECKING:
    from collections.abc import Container, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Record:
    """`folder/order` is the server's order, without secrets; `folder/io` is what the container sees of us."""

    folder: Path
    start: StartContainer

    @property
    def sockets(self) -> Path:
        return self.folder / "io"

    @property
    def home(self) -> Path:
        """Where a container without mounts works."""
        return self.folder / "home"

    @property
    def journal(self) -> Path:
        return self.folder / "inputs"

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def layers(self) -> list[str]:
        """Of its image: they must stay while it runs."""
        try:
            found = json.loads((self.folder / "layers").read_bytes())
        except (OSError, ValueError):
            return []
        return [str(layer) for layer in found]

    @property
    def gpus(self) -> list[int]:
        """The minor numbers of the devices that it has."""
        try:
            found = json.loads((self.folder / "gpus").read_bytes())
        except (OSError, ValueError):
            return []
        return [int(minor) for minor in found]

    def save(self, layers: Sequence[str], gpus: Sequence[int] = ()) -> None:
        """Make the folder. Raises OSError."""
        for part in (self.sockets, self.home):
            part.mkdir(parents=True, exist_ok=True)
        self.sockets.chmod(0o755)
        (self.folder / "layers").write_text(json.dumps(list(layers)))
        if gpus:
            (self.folder / "gpus").write_text(json.dumps(list(gpus)))
        order = self.folder / "order"
        temporary = self.folder / "order.new"
        temporary.write_bytes(codec.encode([replace(self.start, secrets={})]))
        os.replace(temporary, order)


def of(containers: Path, start: StartContainer) -> Record:
    return Record(containers / start.container, start)


def clear(containers: Path, kept: Container[str]) -> None:
    """Remove all but these, also what an agent that was killed had not finished, or not finished removing."""
    with suppress(FileNotFoundError):
        for folder in containers.iterdir():
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)


def load_all(containers: Path) -> dict[str, Record]:
    """By container id. What cannot be read is no record."""
    found: dict[str, Record] = {}
    with suppress(FileNotFoundError):
        for folder in containers.iterdir():
            with suppress(OSError, codec.ProtocolError, ValueError):
                (start,) = codec.decode((folder / "order").read_bytes())
                if isinstance(start, StartContainer) and start.container == folder.name:
                    found[start.container] = Record(folder, start)
    return found

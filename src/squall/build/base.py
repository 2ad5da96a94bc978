"""The seam between recipes and what makes images of them.

An image is, in this first form, a list of layers: plain directories owned by uid 0, the base first, each
named by the hash of what made it (`wire.hashing.step_id`). The lazy file system will fill the same seam.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from squall.wire.values import Manifest, Recipe


class BuildError(Exception):
    """An image could not be built. The message is one line; `tail` the failing step's last lines."""

    def __init__(self, message: str, tail: str = "") -> None:
        super().__init__(message)
        self.tail = tail


@dataclass(frozen=True)
class BuiltImage:
    """What a container needs of an image: its layers (base first), environment, working directory, Python.

    `python` is the path of the interpreter inside the image (with the process driver: on the host).
    """

    id: str
    layers: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    workdir: str = "/root"
    python: str = "/usr/bin/python3"


@dataclass(frozen=True)
class StepResult:
    """How a command of a step ended."""

    exit_code: int
    tail: str


class Sandbox(ABC):
    """Runs a command in an image under construction; the node implements it with its runtime driver."""

    @abstractmethod
    async def run(
        self,
        layers: tuple[str, ...],
        upper: Path,
        argv: tuple[str, ...],
        *,
        env: Mapping[str, str],
        cwd: str,
        binds: Mapping[str, str],
        log: Callable[[bytes], None],
    ) -> StepResult:
        """Run `argv` as root over `layers`, writes landing in `upper`.

        `binds` are mounted read-only, in their order: path on the host to path in the image.
        """


class HostRunner(ABC):
    """What only root may do on the host: make base systems, whose files are root's, and remove such trees.

    Each is a thing by name and no command line, so that whoever does it need not trust the one who asks. The
    node implements it with its launcher.
    """

    @abstractmethod
    async def debian_base(self, target: Path, suite: str, log: Callable[[bytes], None]) -> StepResult:
        """Make a small Debian of this machine's own release, which is `suite`, at `target`.

        Nothing is there before, nor after a failure that the result tells. Raises BuildError when it cannot
        even be tried.
        """

    @abstractmethod
    async def host_base(self, target: Path, log: Callable[[bytes], None], *, own_python: bool) -> StepResult:
        """The same with a copy of the host's programs; `own_python`: also the interpreter that runs us."""

    @abstractmethod
    async def remove(self, tree: Path) -> None:
        """Delete a tree, whoever owns its files. One that is not there is fine. Raises BuildError."""


class Files(ABC):
    """Where a build finds the files of a manifest (add_local_* with copy=True)."""

    @abstractmethod
    async def tree(self, manifest_id: str, manifest: Manifest) -> Path:
        """A read-only directory of the host with these files."""


class Builder(ABC):
    """Makes images present on this machine. `directories` (namespaces) and `venv` (process) implement it."""

    @abstractmethod
    async def ensure(
        self, recipe: Recipe, manifests: Mapping[str, Manifest], log: Callable[[bytes, int, int], None]
    ) -> BuiltImage:
        """The image of this recipe; what is missing is built, equal steps once. Raises BuildError."""

    @abstractmethod
    async def images(self) -> list[str]:
        """Recipe ids that are here whole."""

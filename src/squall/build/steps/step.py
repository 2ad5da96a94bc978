"""What an image step is, and the bench that it works on. A step holds a tenant's arguments, checked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from squall.build.base import BuildError, StepResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    from squall.build.pipconfig import PipSettings

#: Bounds of what one step may hold; a recipe is stored and sent many times.
MAX_ITEMS = 2000
MAX_TEXT = 64 << 10


@dataclass(frozen=True)
class ImageConfig:
    """What an image tells its containers besides its files. An empty `workdir`: the driver's default."""

    env: Mapping[str, str] = field(default_factory=dict)
    workdir: str = ""


class Bench(ABC):
    """Where a step's commands run: an image under construction, or (process driver) a virtual environment."""

    #: The interpreter and uv, as commands on this bench name them.
    python: str
    uv: str
    #: How uv finds packages, with paths as commands on this bench see them.
    pip: PipSettings
    #: What uv needs to be told to install there.
    uv_options: tuple[str, ...] = ()

    @abstractmethod
    async def run(self, argv: tuple[str, ...]) -> StepResult:
        """Run a command of the step."""

    @abstractmethod
    async def show(self, manifest: str) -> str:
        """Make the files of a manifest visible to the commands of the step; gives their directory."""


class ImageStep(ABC):
    """One kind of step. Subclasses are registered by name in `squall.build.steps`."""

    #: Why the process driver cannot do it and what to do instead; empty where it can.
    refusal: ClassVar[str] = ""
    #: What the process driver adds when it fails there; empty where nothing is different.
    unisolated: ClassVar[str] = ""
    #: Whether it writes files. Others change the configuration alone.
    makes_layer: ClassVar[bool] = True

    @classmethod
    @abstractmethod
    def parse(cls, args: Arguments) -> ImageStep:
        """The step of these arguments. Raises BuildError for arguments that make no sense."""

    @property
    @abstractmethod
    def title(self) -> str:
        """A few words for logs and errors."""

    def configure(self, config: ImageConfig) -> ImageConfig:
        return config

    async def run(self, bench: Bench) -> StepResult:  # noqa: ARG002 - for those that make a layer
        return StepResult(0, "")


class Arguments:
    """Reads a step's arguments, which a tenant sent, by the types that they must have."""

    def __init__(self, kind: str, args: object) -> None:
        if not isinstance(args, dict) or not all(isinstance(name, str) for name in args):
            raise BuildError(f"step {kind!r}: the arguments are no object with names")
        self._kind = kind
        self._args: dict[str, Any] = dict(args)

    def text(self, name: str, default: str = "") -> str:
        value = self._args.pop(name, None)
        return default if value is None else self._text(name, value)

    def required(self, name: str) -> str:
        value = self.text(name)
        if not value:
            raise self.error(f"{name} is missing")
        return value

    def flag(self, name: str) -> bool:
        value = self._args.pop(name, None)
        if value is not None and not isinstance(value, bool):
            raise self.error(f"{name} must be true or false")
        return bool(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """At least one text, none of them empty."""
        value = self._args.pop(name, None)
        if not isinstance(value, list) or not 0 < len(value) <= MAX_ITEMS:
            raise self.error(f"{name} must be a list of 1 to {MAX_ITEMS} texts")
        items = tuple(self._text(name, item) for item in value)
        if not all(item.strip() for item in items):
            raise self.error(f"{name} has an empty text")
        return items

    def mapping(self, name: str) -> dict[str, str]:
        value = self._args.pop(name, None)
        if not isinstance(value, dict) or len(value) > MAX_ITEMS:
            raise self.error(f"{name} must be an object of at most {MAX_ITEMS} texts")
        return {self._text(name, key): self._text(name, item) for key, item in value.items()}

    def path(self, name: str) -> str:
        """An absolute path without `..`."""
        value = self.required(name)
        if not value.startswith("/") or ".." in value.split("/") or "\n" in value:
            raise self.error(f"{name} must be an absolute path without '..', not {value[:200]!r}")
        return value

    def end(self) -> None:
        """Refuse what nobody asked for: an argument that is ignored would be a wrong image."""
        if self._args:
            names = ", ".join(sorted(self._args))[:200]
            raise self.error(f"unknown arguments: {names}; the client is newer than this node")

    def error(self, what: str) -> BuildError:
        return BuildError(f"step {self._kind!r}: {what}")

    def _text(self, name: str, value: object) -> str:
        if not isinstance(value, str) or "\0" in value or len(value) > MAX_TEXT:
            raise self.error(f"{name} must be text without NUL, of at most {MAX_TEXT >> 10} KiB")
        return value

"""What a base system is: an identity for the hash, and a way to make it as root on the host."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from squall.wire.hashing import step_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from squall.build.base import HostRunner, StepResult
    from squall.build.layers import Layer
    from squall.wire.values import Step


class BaseSystem(ABC):
    #: A few words for logs and errors.
    title: str
    #: The path of the interpreter in the image.
    python: str

    @property
    @abstractmethod
    def step(self) -> Step:
        """All that decides what is in it."""

    @property
    def layer_id(self) -> str:
        return step_id("", self.step)

    @abstractmethod
    async def make(self, layer: Layer, host: HostRunner, log: Callable[[bytes], None]) -> StepResult:
        """Make the file system `layer.fs`; files that only the making needs may lie beside it."""

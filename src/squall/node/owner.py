"""What a conversation with a runner needs of its container."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from squall.node import ends
    from squall.wire.values import Payload


class Owner(ABC):
    """The container."""

    @abstractmethod
    def is_ready(self) -> None:
        """The user's function is loaded."""

    @abstractmethod
    def has_failed(self, message: str, error: Payload) -> None:
        """The user's function cannot be loaded."""

    @abstractmethod
    def must_end(self, end: ends.End) -> None:
        """The container is to be killed."""

    @abstractmethod
    def is_idle(self) -> None:
        """The runner has nothing to do any more."""

"""An input in this container, until its answer has left."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from squall.runner.protocol import Frame


class Held(NamedTuple):
    """Its frame, its payload out of any memory file, and when a traced one came (CLOCK_MONOTONIC seconds)."""

    frame: Frame
    payload: bytes | memoryview
    received: float = 0.0
    #: Of a direct call: the descriptors of its socket and of its page.
    line: tuple[int, int] | None = None
    #: Of a chunk: the descriptor of its page.
    page: int = -1

    @property
    def number(self) -> int:
        return self.frame.input

    @property
    def ids(self) -> tuple[str, str]:
        """Of the input and of its call."""
        return self.frame.header.get("in", ""), self.frame.header.get("call", "")

    @property
    def method(self) -> str:
        """Empty for a function."""
        return str(self.frame.header.get("m", ""))

    @property
    def sizes(self) -> list[int]:
        """Of the inputs of a chunk."""
        return self.frame.header["sizes"]  # type: ignore[no-any-return]

    @property
    def listed(self) -> list[object]:
        """As HELLO lists it."""
        return [self.number, self.frame.header.get("in", ""), self.frame.header.get("a", 0)]

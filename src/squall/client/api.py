"""What the SDK and the CLI ask of a client. Blocking and asyncio drivers share one sans-I/O core.

Inside a container the same classes talk through the agent's socket, without a token.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from squall.wire.values import InputItem, OutputItem, Payload

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from squall.client.direct import Lines
    from squall.runner.protocol.spool import MemoryFile
    from squall.wire.guests import GuestData, GuestEnd
    from squall.wire.messages import BuildLog, Logs, Notice, Progress

T = TypeVar("T")


@dataclass(frozen=True)
class YieldItem:
    """One value of a generator input."""

    index: int
    number: int
    payload: Payload


#: What a call's stream gives: outcomes (one an input), and a generator's values before its outcome.
Event = OutputItem | YieldItem


@dataclass
class Watch:
    """Callbacks for what the server pushes; called on whichever thread reads, so they must be quick."""

    logs: Callable[[Logs], None] | None = None
    build_log: Callable[[BuildLog], None] | None = None
    notice: Callable[[Notice], None] | None = None
    reconnected: Callable[[], None] | None = None
    progress: Callable[[Progress], None] | None = None


class Call(ABC):
    """One call in flight, from the caller's side. Outputs are acknowledged as they are taken."""

    id: str

    @property
    def spread(self) -> int:
        """How many containers share its inputs, which may then travel in chunks (wire.messages.Outputs)."""
        return 0

    @abstractmethod
    def send(self, items: Sequence[InputItem], *, last: bool) -> None:
        """Add inputs (indexes ascending). Never blocks on the server's scheduling."""

    @abstractmethod
    def next(self, timeout: float | None = None) -> Event:
        """The next event. Raises TimeoutError, ServiceRefusal (call refused), exception.ConnectionError."""

    @abstractmethod
    async def next_async(self, timeout: float | None = None) -> Event:
        """As `next`, on the running loop of an AsyncClient's call."""

    @abstractmethod
    def accepted(self, upto: int, timeout: float | None = None) -> None:
        """Wait until the server has synced the inputs below `upto` to disk (durable calls)."""

    @abstractmethod
    async def accepted_async(self, upto: int, timeout: float | None = None) -> None:
        """As `accepted`."""

    @abstractmethod
    def credit(self, index: int, upto: int) -> None:
        """Ready for a generator's values below this number."""

    @abstractmethod
    def cancel(self, *, terminate: bool = False) -> None:
        """Ask the server to stop what is left of the call."""

    @abstractmethod
    def close(self) -> None:
        """Forget the call on this side."""


class Guest(ABC):
    """A program that this client has joined to a container. Threads may share it: one reads, others write."""

    id: str

    @abstractmethod
    def next(self, timeout: float | None = None) -> GuestData | GuestEnd:
        """What it wrote, or its end. Raises TimeoutError, exception.ConnectionError."""

    @abstractmethod
    def send(self, data: bytes) -> None:
        """Type, or write to its stdin; waits while it takes nothing. What comes after its end is dropped."""

    @abstractmethod
    def end_input(self) -> None:
        """No more input comes."""

    @abstractmethod
    def resize(self, rows: int, columns: int) -> None:
        """Its terminal has another size, in characters."""

    @abstractmethod
    def close(self) -> None:
        """Hang up, if it has not ended."""


class _Base(ABC):
    """What both drivers have in common: nothing here waits."""

    workspace: str
    environment: str
    watch: Watch
    #: Direct lines into containers, where there can be any.
    lines: Lines | None = None

    @abstractmethod
    def open_call(
        self, function_id: str, kind: str, *, durable: bool = False, parent: str = "", trace: bool = False
    ) -> Call:
        """A new call with an id of this side's choosing; nothing is sent before `Call.send`."""

    @abstractmethod
    def attach_call(self, call_id: str, start: int = 0, end: int | None = None, *, parent: str = "") -> Call:
        """Listen to the outputs of an existing call, from index `start` up to and without `end`.

        `parent` is the input that waits for them, inside a container.
        """


class Client(_Base):
    """Blocking: the calling thread reads its own socket; several threads take turns (leader, follower)."""

    @abstractmethod
    def request(self, method: str, body: Any, *, timeout: float | None = 60.0) -> Any:
        """A control method (`wire.control.METHODS`). Raises ServiceRefusal, exception.ConnectionError."""

    @abstractmethod
    def upload(self, blob: str, data: bytes | memoryview) -> None:
        """Put a blob where the server keeps them, in chunks; returns when it is there."""

    @abstractmethod
    def offer(self, file: MemoryFile) -> str:
        """Lend the server a large argument, until its input has ended: a payload's `blob`. Empty where server
        and client are not on one host, or the server has too much of it already: upload it.
        """

    @abstractmethod
    def download(self, blob: str) -> bytes:
        """The bytes of a blob, checked against its id."""

    @abstractmethod
    def join(
        self,
        container: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        terminal: tuple[int, int] | None = None,
    ) -> Guest:
        """Run a program in a running container, with `env` added to its own.

        With `terminal` (rows, columns) it has one, else pipes. It ends when this connection breaks.
        """

    @abstractmethod
    def close(self) -> None:
        """End the session (ephemeral apps of it stop)."""


class AsyncClient(_Base):
    """The same on asyncio; one a running loop."""

    @abstractmethod
    async def request(self, method: str, body: Any, *, timeout: float | None = 60.0) -> Any:
        """See Client.request."""

    @abstractmethod
    async def upload(self, blob: str, data: bytes | memoryview) -> None:
        """See Client.upload."""

    @abstractmethod
    async def offer(self, file: MemoryFile) -> str:
        """See Client.offer."""

    @abstractmethod
    async def download(self, blob: str) -> bytes:
        """See Client.download."""

    @abstractmethod
    async def close(self) -> None:
        """See Client.close."""


class ServiceRefusal(Exception):
    """The server's Failure or CallFailed: a code of `wire.messages.Failure` and one line."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

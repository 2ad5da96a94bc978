"""One client's session: who it is, how to reach it, and what it holds."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from squall.server.clock import Timer
    from squall.server.connection import Connection
    from squall.server.model import Call
    from squall.wire.messages import CallFailed

#: Answers to requests that are kept, in case the connection broke before they arrived.
_ANSWERS = 64
#: Refused calls that are remembered: more of their inputs may be under way.
_REFUSED = 256


@dataclass(eq=False)
class Session:
    """It outlives its connections. `stem` stays the same over restarts of the server, `id` does not.

    `container` is set for a client inside a container; `admin`: the embedded socket vouches for it.
    `parcels`: it takes results as such.
    `restored`: it began under an earlier life of this server. `inputs` and `bytes` are charged to it.
    """

    id: str
    stem: str
    workspace: str
    environment: str
    container: str = ""
    admin: bool = False
    parcels: bool = False
    restored: bool = False
    connection: Connection | None = None
    calls: set[Call] = field(default_factory=set)
    #: Durable calls of which it has not sent all inputs yet.
    feeding: set[Call] = field(default_factory=set)
    inputs: int = 0
    bytes: int = 0
    ended: bool = False
    farewell: Timer | None = None
    refused: OrderedDict[str, CallFailed] = field(default_factory=OrderedDict)
    _answers: OrderedDict[int, object | None] = field(default_factory=OrderedDict)

    def send(self, *messages: object) -> None:
        """Silent while the client is away: what it must have is sent again when it is back."""
        if self.connection is not None:
            self.connection.send(*messages)

    def buffered(self) -> int:
        return self.connection.buffered() if self.connection is not None else 0

    def refuse(self, failed: CallFailed) -> None:
        """A call has failed as a whole."""
        self.refused[failed.call] = failed
        if len(self.refused) > _REFUSED:
            self.refused.popitem(last=False)
        self.send(failed)

    def begin_request(self, number: int) -> bool:
        """False when the request came before: its answer is sent again if it is there, else it follows."""
        if number in self._answers:
            answer = self._answers[number]
            if answer is not None:
                self.send(answer)
            return False
        self._answers[number] = None
        done = [n for n, answer in self._answers.items() if answer is not None]
        for old in done[: max(0, len(self._answers) - _ANSWERS)]:
            del self._answers[old]
        return True

    def answer(self, number: int, message: object) -> None:
        if number in self._answers:
            self._answers[number] = message
        self.send(message)

"""Messages of guests: programs that join a running container (`squall container exec`), and their bytes.

They are the same between client and server and between server and node, under an id that the client chooses
(`gu-` and 32 hex digits); the server checks them and passes them on. A guest lives no longer than the
connections that it goes through: nothing is sent again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

#: Bytes of one piece; bytes under way in each direction that the receiver has not given credit for again.
PIECE = 32 << 10
WINDOW = 256 << 10


@dataclass(slots=True)
class Join:
    """Client to node. `env` is added to the container's own; rows and columns are of a `terminal`."""

    guest: str
    container: str
    argv: list[str]
    env: dict[str, str] = field(default_factory=dict)
    terminal: bool = False
    rows: int = 0
    columns: int = 0


@dataclass(slots=True)
class GuestData:
    """`fd` 0 from the client (empty: its end), 1 and 2 from the node; a terminal's all come as 1."""

    guest: str
    fd: int
    data: bytes


@dataclass(slots=True)
class GuestCredit:
    """So many bytes were taken: that many more may come. Output's two streams share one window."""

    guest: str
    size: int


@dataclass(slots=True)
class GuestResize:
    """Client to node: the terminal's size in characters."""

    guest: str
    rows: int
    columns: int


@dataclass(slots=True)
class GuestEnd:
    """From the client: hang up. To it: how the program ended, or (`error`, one line) why it is not there."""

    guest: str
    code: int | None = None
    signal: int | None = None
    error: str = ""


#: Their numbers on the wire, none of `wire.messages`.
KINDS: dict[int, type] = {32: Join, 33: GuestData, 34: GuestCredit, 35: GuestResize, 36: GuestEnd}

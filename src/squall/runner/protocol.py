"""Frames between the agent and a runner, over the container's Unix stream socket.

    u32 length | u8 kind | u64 input | u32 header length | header (JSON object, or nothing) | payload

Big-endian; the length counts everything after itself. A payload over INLINE travels as a sealed memfd, passed
with SCM_RIGHTS together with the first byte of its frame; the header then has "fd": true and "size". The agent
trusts nothing here: it checks seals and sizes, reads with pread, never maps.

The first frame of a connection to the container's socket says who it is: HELLO (the runner) or the byte
string `CLIENT` (a nested client: what follows, both ways, are `u32 length | wire frame`).
"""

from __future__ import annotations

import json
import struct
from typing import Any, NamedTuple

#: Payloads up to this many bytes travel inside the frame.
INLINE = 256 << 10
#: The largest frame: an inline payload and its header, with room.
FRAME_LIMIT = 1 << 20

# agent -> runner
CONFIG = 1  # header: see `runner.main`; payload: the serialized callable, if any
INPUT = 2  # header: {"m": method, "g": generator, "c": credit, "call": id, "in": id}, payload: pickle of (args, kwargs)
CANCEL = 3  # interrupt this input if it runs (InputCancellation in user code), forget it if it waits
CREDIT = 4  # header: {"upto": n}
STOP = 5  # finish: run exit hooks, leave
# runner -> agent
HELLO = 16  # header: {"python": "3.11.2", "pid": n}
READY = 17  # the user's function is imported
STARTED = 18  # user code begins this input
OUTPUT = 19  # header: {} for a result, {"s": status, "type", "message", "tb", "n": yields}; payload: pickle
YIELD = 20  # header: {"n": number}; payload: pickle
FAILED = 21  # could not import or set up; header: {"type", "message", "tb"}; payload: the pickled exception

#: The preface of a nested client's connection, instead of a frame: no frame can begin so.
CLIENT = b"\xff\xff\xff\xffsquall-client\n"

_HEAD = struct.Struct(">IBQI")
_FIXED = _HEAD.size - 4


class Frame(NamedTuple):
    kind: int
    input: int
    header: dict[str, Any]
    payload: bytes


class BadFrame(Exception):
    """The peer broke the protocol."""


def encode(kind: int, input_id: int = 0, header: dict[str, Any] | None = None, payload: bytes = b"") -> bytes:
    """One frame, whole."""
    head = json.dumps(header, separators=(",", ":")).encode() if header else b""
    return _HEAD.pack(_FIXED + len(head) + len(payload), kind, input_id, len(head)) + head + payload


def decode(buffer: bytes | bytearray | memoryview, position: int = 0) -> tuple[Frame, int] | None:
    """The frame at `position` and the position after it; None while it is incomplete. Raises BadFrame."""
    if len(buffer) - position < 4:
        return None
    (length,) = struct.unpack_from(">I", buffer, position)
    if not _FIXED <= length <= FRAME_LIMIT:
        raise BadFrame(f"a frame of {length} bytes")
    end = position + 4 + length
    if len(buffer) < end:
        return None
    _, kind, input_id, head = _HEAD.unpack_from(buffer, position)
    start = position + _HEAD.size
    if head > length - _FIXED:
        raise BadFrame("a header longer than its frame")
    return Frame(kind, input_id, _header(bytes(buffer[start : start + head])), bytes(buffer[start + head : end])), end


def _header(data: bytes) -> dict[str, Any]:
    if not data:
        return {}
    try:
        header = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadFrame(f"a header that is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise BadFrame("a header that is no JSON object")
    return header

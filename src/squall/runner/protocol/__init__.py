"""Frames between the agent and a runner, over the container's Unix stream socket.

    u32 length | u8 kind | u64 input | u32 header length | header (JSON object, or nothing) | payload

Big-endian; the length counts everything after itself. A payload over INLINE travels as a sealed memory file
(`memfd`), passed with SCM_RIGHTS together with the first byte of its frame; the header then has "fd": true
and "size". The agent trusts nothing here: it checks seals and sizes, reads with pread, never maps.

The first frame of a connection to the container's socket says who it is: HELLO (the runner) or the byte
string `CLIENT` (a nested client: what follows, both ways, are `u32 length | wire frame`).

Cancellation has a way of its own, for the runner does not read this socket while user code runs: CONFIG
brings the end of a second socket ("alarm": true, its descriptor before the payload's). The agent writes the
numbers of cancelled inputs into it (u64 each); their arrival raises a signal in the runner's main thread.
"""

from __future__ import annotations

import json
import struct
from typing import Any, NamedTuple

#: Where a container finds the socket, unless $SQUALL_SOCKET says otherwise.
SOCKET = "/run/squall/agent.sock"
#: Payloads up to this many bytes travel inside the frame.
INLINE = 256 << 10
#: The largest frame: an inline payload and its header, with room.
FRAME_LIMIT = 1 << 20

# agent -> runner
#: header: {"module", "qualname", "serialized", "paths", "generator", "name", "app", "function_id", "image",
#: "cancellation": "module:class" of what a cancelled input raises, "limit": bytes of the largest payload,
#: "max_inputs": calls at once, "batching": {method (of a function: ""): [most inputs, seconds to wait]},

#: "class": values of its parameters by name if it is a class, bytes as {"base64": text}};
#: payload: the serialized callable, if any. Answered by READY or FAILED, also after a reconnect.
CONFIG = 1
#: header: {"in": id, "a": attempt, "call": id, "m": method of a class, "c": credit of a generator,
#: "t": whether to tell the times, "line": true of a direct call (`direct`), whose frame brings two
#: descriptors, those of its socket and of its page, "sizes": [bytes, ...] of a chunk, whose frame brings the
#: descriptor of its page after that of its payload};
#: payload: the pickle of (args, kwargs); of a chunk, those of its inputs, one behind the other. The first one
#: has the id "in", each other one the next index.
INPUT = 2
CREDIT = 4  # header: {"upto": n}
STOP = 5  # finish: run exit hooks, leave
HANG_UP = 6  # a direct call is to end; like any frame that comes while one runs
# runner -> agent
#: header: {"python": "3.11.2", "held": [[number, id, attempt], ...], the one that runs first, "chunks" and
#: "lines": true of a runner that takes them}
HELLO = 16
#: The user's function is imported, or the object made and entered; header: {"t": {"main", "connected",
#: "imported"}}.
READY = 17
#: header: {} for a result, {"s": status, "type", "message", "tb", "n": yields}; payload: pickle. With times:
#: "t": {"received", "begin", "end", "sent"}. All times are CLOCK_MONOTONIC seconds. For the first inputs of a
#: chunk: {"sizes": [bytes, ...], "ran": seconds of the last, "parts": [[offset, header], ...] of those that
#: have no result}; payload: pickles, one behind the other.
OUTPUT = 19
YIELD = 20  # header: {"n": number}; payload: pickle
#: header: {"ins": [numbers]}: a batch has gathered and begins. Only where CONFIG has "batching".
BEGUN = 22
FAILED = 21  # could not import or set up; header: {"type", "message", "tb"}; payload: the pickled exception

#: The preface of a nested client's connection, instead of a frame: no frame can begin so.
CLIENT = b"\xff\xff\xff\xffsquall-client\n"
#: One entry of the alarm socket.
ALARM = struct.Struct(">Q")

_HEAD = struct.Struct(">IBQI")
_FIXED = _HEAD.size - 4
_to_json = json.JSONEncoder(separators=(",", ":")).encode


class Frame(NamedTuple):
    kind: int
    input: int
    header: dict[str, Any]
    payload: bytes


class BadFrame(Exception):
    """The peer broke the protocol."""


def encode(kind: int, input_id: int = 0, header: dict[str, Any] | None = None, payload: bytes = b"") -> bytes:
    """One frame, whole."""
    head = _to_json(header).encode() if header else b""
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
    return Frame(
        kind, input_id, _header(bytes(buffer[start : start + head])), bytes(buffer[start + head : end])
    ), end


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


class Unframer:
    """Cuts frames out of a byte stream."""

    def __init__(self) -> None:
        self._data = b""
        self._position = 0

    def feed(self, data: bytes) -> None:
        rest = self._data[self._position :]
        self._data = rest + data if rest else data
        self._position = 0

    def next(self) -> Frame | None:
        """The next whole frame. Raises BadFrame."""
        found = decode(self._data, self._position)
        if found is None:
            return None
        frame, self._position = found
        return frame

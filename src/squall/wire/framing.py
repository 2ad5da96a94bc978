"""How frames are cut out of a byte stream. Sans-I/O: bytes in, frames out, and bytes to send."""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod

from squall.wire.codec import FRAME_LIMIT, ProtocolError

_LENGTH = struct.Struct(">I")


class Framing(ABC):
    """One connection's framing, from the client's side."""

    #: Whether the opening is done and frames may be sent.
    open: bool
    #: Why the other side said farewell; None as long as it did not. Frames that came before are good.
    farewell: str | None = None

    @abstractmethod
    def opening(self) -> bytes:
        """What the client sends first."""

    @abstractmethod
    def feed(self, data: bytes) -> list[bytes]:
        """The frames that these bytes complete. Raises ProtocolError."""

    @abstractmethod
    def frame(self, payload: bytes) -> bytes:
        """One frame, ready to send."""

    @abstractmethod
    def replies(self) -> bytes:
        """What the protocol itself wants sent (answers to pings), since the last call."""

    @abstractmethod
    def ping(self) -> bytes:
        """Bytes that make the other side answer; empty where the transport needs none."""

    @abstractmethod
    def closing(self) -> bytes:
        """What says farewell."""


class LengthFraming(Framing):
    """`preface`, then `u32 length | frame` both ways, big-endian: the socket inside a container."""

    def __init__(self, preface: bytes = b"") -> None:
        self.open = True
        self._preface = preface
        self._buffer = bytearray()

    def opening(self) -> bytes:
        return self._preface

    def feed(self, data: bytes) -> list[bytes]:
        self._buffer += data
        frames: list[bytes] = []
        at = 0
        while len(self._buffer) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, at)
            if length > FRAME_LIMIT:
                raise ProtocolError(f"a frame of {length} bytes")
            end = at + _LENGTH.size + length
            if len(self._buffer) < end:
                break
            frames.append(bytes(memoryview(self._buffer)[at + _LENGTH.size : end]))
            at = end
        del self._buffer[:at]
        return frames

    def frame(self, payload: bytes) -> bytes:
        return _LENGTH.pack(len(payload)) + payload

    def replies(self) -> bytes:
        return b""

    def ping(self) -> bytes:
        return b""

    def closing(self) -> bytes:
        return b""

"""The client's side of WebSocket (RFC 6455), sans-I/O: opening handshake, frames, pings, farewell.

Only what Squall speaks: binary messages, no extensions, no subprotocols.
"""

from __future__ import annotations

import base64
import hashlib
import os
import struct

from squall.wire.codec import FRAME_LIMIT, ProtocolError
from squall.wire.framing import Framing

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

#: RFC 6455 section 1.3.
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#: The largest answer to the upgrade, in bytes.
_HEAD_LIMIT = 16 << 10
_CONTROL_LIMIT = 125


class Refused(Exception):
    """The server answered the upgrade with something else; the message is its status line."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ClientWebSocket(Framing):
    """One connection. `mask` says that frames carry random masks: needed where a proxy may look inside.

    Over TLS and Unix sockets nobody in between does, and a mask of zeros, which changes nothing, is legal.
    """

    def __init__(self, host: str, path: str = "/rpc", *, mask: bool = True) -> None:
        self.open = False
        self._host = host
        self._path = path
        self._mask = mask
        self._key = base64.b64encode(os.urandom(16))
        self._buffer = bytearray()
        self._pieces: list[bytes] = []
        self._pieces_size = 0
        self._replies: list[bytes] = []

    def opening(self) -> bytes:
        lines = (
            f"GET {self._path} HTTP/1.1",
            f"Host: {self._host}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {self._key.decode()}",
            "\r\n",
        )
        return "\r\n".join(lines).encode()

    def feed(self, data: bytes) -> list[bytes]:
        """As Framing.feed; also raises Refused while the handshake is not done."""
        self._buffer += data
        if not self.open and not self._handshake():
            return []
        messages: list[bytes] = []
        at = 0
        try:
            while self.farewell is None and (found := self._frame_at(at)) is not None:
                first, start, end = found
                at = end
                message = self._received(first, bytes(memoryview(self._buffer)[start:end]))
                if message is not None:
                    messages.append(message)
        finally:
            del self._buffer[:at]
        return messages

    def frame(self, payload: bytes) -> bytes:
        return self._frame(BINARY, payload)

    def replies(self) -> bytes:
        replies, self._replies = self._replies, []
        return b"".join(replies)

    def ping(self) -> bytes:
        return self._frame(PING, b"")

    def closing(self) -> bytes:
        return self._frame(CLOSE, struct.pack(">H", 1000))

    def _handshake(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _HEAD_LIMIT:
                raise ProtocolError("the answer to the upgrade has no end")
            return False
        status, *lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        self._check_status(status)
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
        }
        expected = base64.b64encode(hashlib.sha1(self._key + _GUID, usedforsecurity=False).digest()).decode()
        if (
            headers.get("sec-websocket-accept") != expected
            or headers.get("upgrade", "").lower() != "websocket"
        ):
            raise ProtocolError("what answers there is no Squall server")
        self.open = True
        return True

    def _check_status(self, line: str) -> None:
        version, _, rest = line.partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdecimal():
            raise ProtocolError("what answers there does not speak HTTP")
        if int(rest[:3]) != 101:
            raise Refused(int(rest[:3]), rest)

    def _frame_at(self, at: int) -> tuple[int, int, int] | None:
        """(first byte, start, end) of the frame there, once it is whole."""
        buffer = self._buffer
        if len(buffer) - at < 2:
            return None
        first, length, start = buffer[at], buffer[at + 1], at + 2
        if length & 0x80:
            raise ProtocolError("a server's frame must not be masked")
        if length > _CONTROL_LIMIT:
            width = 2 if length == 126 else 8
            if len(buffer) < start + width:
                return None
            length = int.from_bytes(buffer[start : start + width], "big")
            start += width
        if self._pieces_size + length > FRAME_LIMIT:
            raise ProtocolError(f"a message over {FRAME_LIMIT} bytes")
        return (first, start, start + length) if len(buffer) >= start + length else None

    def _received(self, first: int, payload: bytes) -> bytes | None:
        opcode, last = first & 15, bool(first & 0x80)
        if first & 0x70:
            raise ProtocolError("reserved bits of a frame are set")
        if opcode >= CLOSE:
            self._control(opcode, payload, last=last)
            return None
        if opcode == (CONTINUATION if self._pieces else BINARY):
            return self._piece(payload, last=last)
        raise ProtocolError(f"an unexpected frame of kind {opcode}")

    def _piece(self, payload: bytes, *, last: bool) -> bytes | None:
        if last and not self._pieces:
            return payload
        self._pieces.append(payload)
        self._pieces_size += len(payload)
        if not last:
            return None
        message = b"".join(self._pieces)
        self._pieces.clear()
        self._pieces_size = 0
        return message

    def _control(self, opcode: int, payload: bytes, *, last: bool) -> None:
        if not last or len(payload) > _CONTROL_LIMIT:
            raise ProtocolError("a control frame in pieces")
        if opcode == PING:
            self._replies.append(self._frame(PONG, payload))
        elif opcode == CLOSE:
            self.farewell = payload[2:].decode(errors="replace") or "closed by the server"
        elif opcode != PONG:
            raise ProtocolError(f"an unexpected frame of kind {opcode}")

    def _frame(self, opcode: int, payload: bytes) -> bytes:
        length = len(payload)
        if length <= _CONTROL_LIMIT:
            head = bytes((0x80 | opcode, 0x80 | length))
        elif length < 1 << 16:
            head = struct.pack(">BBH", 0x80 | opcode, 0xFE, length)
        else:
            head = struct.pack(">BBQ", 0x80 | opcode, 0xFF, length)
        if not self._mask:
            return b"".join((head, b"\0\0\0\0", payload))
        key = os.urandom(4)
        return b"".join((head, key, masked(payload, key)))


def masked(payload: bytes, key: bytes) -> bytes:
    """The payload XOR the repeated key of four bytes; twice gives it back."""
    length = len(payload)
    pattern = (key * (length // 4 + 1))[:length]
    # Whole numbers do in C what a loop over bytes would take a hundred times as long for.
    return (int.from_bytes(payload, "big") ^ int.from_bytes(pattern, "big")).to_bytes(length, "big")

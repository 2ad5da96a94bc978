"""Messages to bytes and back.

A frame is a sequence of `u32 length | u8 kind | msgpack body`, big-endian, the length counting kind and body.
`msgspec` does the work where it is installed; inside containers `wire.msgpack` (pure Python) does the same.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, TypeVar

from squall.wire import guests, messages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")

#: The largest frame that a peer may send, in bytes: a chunk or a batch of inline payloads, with room.
FRAME_LIMIT = 64 << 20

_HEAD = struct.Struct(">IB")
_KINDS = messages.KINDS | guests.KINDS
_NUMBERS = {cls: number for number, cls in _KINDS.items()}


class ProtocolError(Exception):
    """The peer sent something that is no message of this protocol."""


def _backend() -> tuple[Callable[[Any], bytes], Callable[[type], Callable[[bytes], Any]]]:
    try:
        import msgspec
    except ImportError:
        from squall.wire import msgpack

        return msgpack.encode, msgpack.decoder
    return msgspec.msgpack.Encoder().encode, lambda cls: msgspec.msgpack.Decoder(cls).decode


_encode, _decoder = _backend()
_decoders: dict[type, Callable[[bytes], Any]] = {}


def pack(value: object) -> bytes:
    """The msgpack of a message, a request's body or any value made of them."""
    return _encode(value)


def unpack(data: bytes | memoryview, cls: type[T]) -> T:
    """A value of `cls` out of its msgpack. Raises ProtocolError for anything else."""
    decode = _decoders.get(cls)
    if decode is None:
        decode = _decoders[cls] = _decoder(cls)
    try:
        return decode(data)  # type: ignore[arg-type, no-any-return]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ProtocolError(f"not a {cls.__name__}: {error}") from None


def encode(messages: Iterable[object]) -> bytes:
    """One frame of these messages."""
    parts: list[bytes] = []
    for message in messages:
        body = _encode(message)
        parts.append(_HEAD.pack(len(body) + 1, _NUMBERS[type(message)]))
        parts.append(body)
    return b"".join(parts)


def decode(frame: bytes | memoryview) -> list[Any]:
    """The messages of a frame. Raises ProtocolError."""
    messages: list[Any] = []
    view = memoryview(frame)
    position, end = 0, len(view)
    while position < end:
        if end - position < _HEAD.size:
            raise ProtocolError("a frame ends inside a message's head")
        length, number = _HEAD.unpack_from(view, position)
        start, position = position + _HEAD.size, position + 4 + length
        cls = _KINDS.get(number)
        if cls is None or length < 1 or position > end:
            raise ProtocolError(f"no message of kind {number} and length {length}")
        messages.append(unpack(view[start:position], cls))
    return messages

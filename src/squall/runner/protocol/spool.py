"""Pickles, small ones in memory and large ones in sealed memory files, copied as little as can be.

Buffers that pickle 5 gives out of band (arrays), and large `bytes` that are the value or an argument itself,
lie behind the pickle, so that they are written once:

    pickle | buffer, ... (each from a multiple of 64) | (u64 start, u64 size, u8 kind), ... |
    u64 pickle size, u32 count, "sq5b"

Big-endian. A pickle alone ends with a full stop, so the last byte says which of both it is.
"""

from __future__ import annotations

import os
import pickle
import struct
import sys
from typing import TYPE_CHECKING, Any

from squall.runner.protocol import INLINE, memfd

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

_PROTOCOL = 5
#: Buffers from this size on lie outside the pickle.
_LARGE = 64 << 10
_ALIGN = 64
_ENTRY = struct.Struct(">QQB")
_TAIL = struct.Struct(">QI4s")
_MAGIC = b"sq5b"
#: Kinds of buffers: `bytes` become bytes again, others what numpy and the like make of their memory.
_BYTES, _READONLY, _WRITABLE = 0, 1, 2
#: From this size on, memory in huge pages is worth asking for: filling it takes half the time.
_HUGE = 4 << 20
_MADV_HUGEPAGE = 14


#: Types whose pickles name nothing and have no buffers.
_PLAIN = frozenset({type(None), bool, int, float, str})


class TooLargeError(Exception):
    """A pickle over the limit; `size` in bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(f"a pickle of {size} bytes")
        self.size = size


class MemoryFile:
    """A sealed memory file and its descriptor, which goes with this object."""

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self.size = size

    def __len__(self) -> int:
        return self.size

    def view(self) -> memoryview:
        """Its content, mapped as long as the view lives. What is written there, nobody else sees."""
        import mmap

        flags = mmap.MAP_PRIVATE
        return memoryview(mmap.mmap(self.fd, self.size, flags, mmap.PROT_READ | mmap.PROT_WRITE))

    def __del__(self) -> None:
        os.close(self.fd)


#: What a pickle is in.
Pickled: TypeAlias = "bytes | MemoryFile"


def dump(
    value: Any, limit: int, *, arguments: bool = False, main: Callable[[Any], bytes] | None = None
) -> Pickled:
    """A pickle. Raises TooLargeError beyond `limit` bytes, and what pickling raises.

    `arguments`: the value is (args, kwargs). With `main`, what mentions `__main__` is pickled by it instead.
    """
    if _PLAIN.issuperset(map(type, value[0])) and not value[1] if arguments else type(value) in _PLAIN:
        return filed(pickle.dumps(value, _PROTOCOL), limit)
    buffers: list[pickle.PickleBuffer] = []

    def inside(buffer: pickle.PickleBuffer) -> bool:
        """Whether it stays in the pickle. Copied by the pickler, if it does."""
        with buffer.raw() as raw:
            if raw.nbytes < _LARGE:
                return True
        buffers.append(buffer)
        return False

    data = pickle.dumps(_exposed(value, arguments=arguments), _PROTOCOL, buffer_callback=inside)
    # A text that holds the word costs a slower pickle, no more.
    if main is not None and b"__main__" in data:
        return filed(main(value), limit)
    return _composed(data, buffers, limit) if buffers else filed(data, limit)


def filed(data: bytes, limit: int) -> Pickled:
    """A plain pickle in whichever form its size asks for. Raises TooLargeError."""
    size = len(data)
    if size > limit:
        raise TooLargeError(size)
    if size <= INLINE or not memfd.possible():
        return data
    return MemoryFile(memfd.of([data]), len(data))


def load(data: bytes | memoryview, *, copy: bool = False) -> Any:
    """The value of a pickle. With `copy` it holds on to nothing of `data`. Raises what unpickling raises."""
    if data[-1:] == b".":
        return pickle.loads(data)
    view = memoryview(data)
    size, entries = _table(view)
    buffers = [_buffer(view[start : start + length], kind, copy=copy) for start, length, kind in entries]
    return pickle.loads(view[:size], buffers=buffers)


def _exposed(value: Any, *, arguments: bool) -> Any:
    """With large bytes in plain sight as buffers."""
    if not arguments:
        return _as_buffer(value)
    args, kwargs = value
    if not any(type(v) is bytes and len(v) >= _LARGE for v in (*args, *kwargs.values())):
        return value
    return tuple(map(_as_buffer, args)), {name: _as_buffer(v) for name, v in kwargs.items()}


def _as_buffer(value: Any) -> Any:
    return pickle.PickleBuffer(value) if type(value) is bytes and len(value) >= _LARGE else value


def _composed(data: bytes, buffers: list[pickle.PickleBuffer], limit: int) -> Pickled:
    pieces: list[bytes | memoryview] = [data]
    entries: list[bytes] = []
    at = len(data)
    for buffer in buffers:
        raw = buffer.raw()
        pieces += [bytes(-at % _ALIGN), raw]
        at += -at % _ALIGN
        entries.append(_ENTRY.pack(at, raw.nbytes, _kind(buffer, raw)))
        at += raw.nbytes
    pieces.append(b"".join(entries) + _TAIL.pack(len(data), len(entries), _MAGIC))
    size = at + len(pieces[-1])
    if size > limit:
        raise TooLargeError(size)
    if size <= INLINE or not memfd.possible():
        return b"".join(pieces)
    return MemoryFile(memfd.of(pieces), size)


def _kind(buffer: pickle.PickleBuffer, raw: memoryview) -> int:
    with memoryview(buffer) as view:
        if type(view.obj) is bytes:
            return _BYTES
    return _READONLY if raw.readonly else _WRITABLE


def _table(view: memoryview) -> tuple[int, list[tuple[int, int, int]]]:
    """The pickle's size and its buffers. Raises ValueError for what nobody wrote."""
    if len(view) < _TAIL.size:
        raise ValueError("a payload that is no pickle")
    size, count, magic = _TAIL.unpack_from(view, len(view) - _TAIL.size)
    start = len(view) - _TAIL.size - count * _ENTRY.size
    if magic != _MAGIC or not 0 < size <= start:
        raise ValueError("a payload with a wrong end")
    entries = [_ENTRY.unpack_from(view, start + n * _ENTRY.size) for n in range(count)]
    if any(at + length > start for at, length, _ in entries):
        raise ValueError("a payload with a buffer beyond its end")
    return size, entries


def _buffer(view: memoryview, kind: int, *, copy: bool) -> Any:
    if kind == _BYTES:
        return _bytes(view)
    if copy or (kind == _WRITABLE and view.readonly):
        view = _copied(view)
    return view.toreadonly() if kind == _READONLY else view


def _copied(view: memoryview) -> memoryview:
    if len(view) < _HUGE:
        return memoryview(bytearray(view))
    import mmap

    memory = mmap.mmap(-1, len(view))
    if hasattr(memory, "madvise") and hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    target = memoryview(memory)
    target[:] = view
    return target


def _bytes(view: memoryview) -> bytes:
    """The same as bytes(view); large ones in huge pages, where the system has them."""
    if len(view) < _HUGE or view.readonly or not (memfd.possible() and sys.implementation.name == "cpython"):
        return bytes(view)
    import ctypes
    import mmap

    make = ctypes.pythonapi.PyBytes_FromStringAndSize
    make.restype, make.argtypes = ctypes.py_object, (ctypes.c_char_p, ctypes.c_ssize_t)
    made: bytes = make(None, len(view))  # nobody else has seen it yet, so it may still change
    address = id(made) + bytes.__basicsize__ - 1
    page = mmap.PAGESIZE
    first = -(-address // page) * page
    length = (address + len(view) - first) // page * page
    ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(length), _MADV_HUGEPAGE)
    ctypes.memmove(address, ctypes.addressof(ctypes.c_char.from_buffer(view)), len(view))
    return made

"""MessagePack in the standard library alone, for containers whose Python has no `msgspec`.

The same bytes as msgspec's for what messages are made of (dataclasses as maps of their fields, str, bytes,
int, float, bool, None, lists, tuples, dicts), and the same checks on the way in.
Layout: https://github.com/msgpack/msgpack/blob/master/spec.md
"""

from __future__ import annotations

import struct
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Buffer = bytes | bytearray | memoryview


_DOUBLE = struct.Struct(">Bd")
#: Opcodes of numbers: how to read what follows.
_NUMBERS = {
    0xCA: struct.Struct(">f"),
    0xCB: struct.Struct(">d"),
    0xCC: struct.Struct(">B"),
    0xCD: struct.Struct(">H"),
    0xCE: struct.Struct(">I"),
    0xCF: struct.Struct(">Q"),
    0xD0: struct.Struct(">b"),
    0xD1: struct.Struct(">h"),
    0xD2: struct.Struct(">i"),
    0xD3: struct.Struct(">q"),
}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
#: Opcodes of sized things: how many bytes their length takes.
_BINARY = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_TEXT = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_ARRAYS = {0xDC: 2, 0xDD: 4}
_MAPS = {0xDE: 2, 0xDF: 4}


# ------------------------------------------------------------------------------------------------- encoding


def encode(value: object) -> bytes:
    """The MessagePack of a value. Raises TypeError for what has none, OverflowError beyond 64 bits."""
    parts: list[bytes] = []
    _write(value, parts)
    return b"".join(parts)


def _write(value: Any, parts: list[bytes]) -> None:
    writer = _WRITERS.get(type(value))
    if writer is not None:
        writer(value, parts)
    elif is_dataclass(value) and not isinstance(value, type):
        _write_map([(name, getattr(value, name)) for name in _names(type(value))], parts)
    else:
        raise TypeError(f"encoding objects of type {type(value).__name__} is unsupported")


@cache
def _names(cls: type) -> tuple[str, ...]:
    return tuple(f.name for f in fields(cls))


def _write_none(_: None, parts: list[bytes]) -> None:
    parts.append(b"\xc0")


def _write_bool(value: bool, parts: list[bytes]) -> None:
    parts.append(b"\xc3" if value else b"\xc2")


def _write_float(value: float, parts: list[bytes]) -> None:
    parts.append(_DOUBLE.pack(0xCB, value))


def _write_int(value: int, parts: list[bytes]) -> None:
    if -32 <= value < 128:
        parts.append(bytes((value & 0xFF,)))
        return
    for width, opcode in ((1, 0), (2, 1), (4, 2), (8, 3)):
        bits = 8 * width
        if 0 <= value < 1 << bits:
            parts.append(bytes((0xCC + opcode,)) + value.to_bytes(width, "big"))
            return
        if -(1 << bits - 1) <= value < 0:
            parts.append(bytes((0xD0 + opcode,)) + value.to_bytes(width, "big", signed=True))
            return
    raise OverflowError("can't serialize ints < -2**63 or > 2**64 - 1")


def _write_str(value: str, parts: list[bytes]) -> None:
    data = value.encode()
    parts.append(_head(len(data), _TEXT, fixed=0xA0, limit=32))
    parts.append(data)


def _write_bytes(value: Buffer, parts: list[bytes]) -> None:
    data = bytes(value)
    parts.append(_head(len(data), _BINARY))
    parts.append(data)


def _write_array(value: Sequence[object], parts: list[bytes]) -> None:
    parts.append(_head(len(value), _ARRAYS, fixed=0x90, limit=16))
    for item in value:
        _write(item, parts)


def _write_dict(value: dict[object, object], parts: list[bytes]) -> None:
    _write_map(list(value.items()), parts)


def _write_map(items: Sequence[tuple[object, object]], parts: list[bytes]) -> None:
    parts.append(_head(len(items), _MAPS, fixed=0x80, limit=16))
    for key, item in items:
        _write(key, parts)
        _write(item, parts)


def _head(length: int, opcodes: dict[int, int], fixed: int = 0, limit: int = 0) -> bytes:
    if length < limit:
        return bytes((fixed | length,))
    for opcode, width in opcodes.items():
        if length < 1 << 8 * width:
            return bytes((opcode,)) + length.to_bytes(width, "big")
    raise OverflowError("can't serialize objects longer than 2**32 - 1")


_WRITERS: dict[type, Callable[[Any, list[bytes]], None]] = {
    NoneType: _write_none,
    bool: _write_bool,
    int: _write_int,
    float: _write_float,
    str: _write_str,
    bytes: _write_bytes,
    bytearray: _write_bytes,
    memoryview: _write_bytes,
    list: _write_array,
    tuple: _write_array,
    dict: _write_dict,
}


# ------------------------------------------------------------------------------------------------- decoding


def decoder(cls: type) -> Callable[[Buffer], Any]:
    """A function from MessagePack to a value of this type. It raises ValueError for anything else."""
    check = _check(cls)

    def decode(data: Buffer) -> Any:
        view = memoryview(data)
        value, end = _read(view, 0)
        if end != len(view):
            raise ValueError(f"trailing bytes after position {end}")
        return check(value)

    return decode


def _read(view: memoryview, at: int) -> tuple[Any, int]:
    """The value at a position, and the position after it."""
    if at >= len(view):
        raise ValueError("truncated")
    code = view[at]
    at += 1
    if code < 0x80:
        return code, at
    if code >= 0xE0:
        return code - 256, at
    if code < 0x90:
        return _read_map(view, at, code & 15)
    if code < 0xA0:
        return _read_array(view, at, code & 15)
    if code < 0xC0:
        return _read_text(view, at, code & 31)
    return _read_opcode(view, at, code)


def _read_opcode(view: memoryview, at: int, code: int) -> tuple[Any, int]:
    if code in _CONSTANTS:
        return _CONSTANTS[code], at
    number = _NUMBERS.get(code)
    if number is not None:
        return number.unpack(_slice(view, at, number.size))[0], at + number.size
    for widths, read in _SIZED:
        width = widths.get(code)
        if width is not None:
            length = int.from_bytes(_slice(view, at, width), "big")
            return read(view, at + width, length)
    raise ValueError(f"no value begins with byte {code:#x}")


def _slice(view: memoryview, at: int, length: int) -> memoryview:
    end = at + length
    if end > len(view):
        raise ValueError("truncated")
    return view[at:end]


def _read_bytes(view: memoryview, at: int, length: int) -> tuple[bytes, int]:
    return bytes(_slice(view, at, length)), at + length


def _read_text(view: memoryview, at: int, length: int) -> tuple[str, int]:
    return str(_slice(view, at, length), "utf-8"), at + length


def _read_array(view: memoryview, at: int, length: int) -> tuple[list[Any], int]:
    values = []
    for _ in range(length):
        value, at = _read(view, at)
        values.append(value)
    return values, at


def _read_map(view: memoryview, at: int, length: int) -> tuple[dict[Any, Any], int]:
    values = {}
    for _ in range(length):
        key, at = _read(view, at)
        if isinstance(key, (list, dict)):
            raise ValueError("a map's key is no scalar")  # noqa: TRY004 - as for all bad input
        values[key], at = _read(view, at)
    return values, at


_SIZED = ((_BINARY, _read_bytes), (_TEXT, _read_text), (_ARRAYS, _read_array), (_MAPS, _read_map))


# -------------------------------------------------------------------------------------------------- checking


@cache
def _check(kind: Any) -> Callable[[Any], Any]:
    """What a parsed value must pass to be of this type; it also makes dataclasses and tuples of it."""
    if kind is Any:
        return lambda value: value
    if kind is float:
        return _check_float
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        return _union(get_args(kind))
    if origin is not None:
        return _generic(origin, get_args(kind))
    if is_dataclass(kind):
        return _dataclass(kind)
    return _exactly(NoneType if kind is None else kind)


def _exactly(kind: type) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if type(value) is not kind:
            raise ValueError(f"expected {kind.__name__}, got {type(value).__name__}")
        return value

    return check


def _check_float(value: Any) -> float:
    if type(value) is float or type(value) is int:
        return float(value)
    raise ValueError(f"expected float, got {type(value).__name__}")


def _union(kinds: tuple[Any, ...]) -> Callable[[Any], Any]:
    options = [_check(kind) for kind in kinds]

    def check(value: Any) -> Any:
        problem = ValueError("expected one of nothing")
        for option in options:
            try:
                return option(value)
            except ValueError as error:  # noqa: PERF203 - the next option may take it
                problem = error
        raise problem

    return check


def _generic(origin: Any, kinds: tuple[Any, ...]) -> Callable[[Any], Any]:
    if origin is list:
        return _list(_check(kinds[0]))
    if origin is dict:
        return _dict(_check(kinds[0]), _check(kinds[1]))
    if origin is tuple and Ellipsis not in kinds:
        return _tuple([_check(kind) for kind in kinds])
    raise TypeError(f"messages cannot hold a {origin}")


def _list(item: Callable[[Any], Any]) -> Callable[[Any], Any]:
    is_list = _exactly(list)
    return lambda value: [item(v) for v in is_list(value)]


def _dict(key: Callable[[Any], Any], item: Callable[[Any], Any]) -> Callable[[Any], Any]:
    is_dict = _exactly(dict)
    return lambda value: {key(k): item(v) for k, v in is_dict(value).items()}


def _tuple(items: list[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if type(value) is not list or len(value) != len(items):
            raise ValueError(f"expected an array of {len(items)}")
        return tuple(item(v) for item, v in zip(items, value, strict=True))

    return check


def _dataclass(cls: Any) -> Callable[[Any], Any]:
    """Fields by name: unknown ones are ignored, missing ones take their default."""
    # A class may hold itself, so its fields' checks are found when the first value comes.
    checks: dict[str, Callable[[Any], Any]] = {}
    required = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]

    def check(value: Any) -> Any:
        if type(value) is not dict:
            raise ValueError(f"expected a map of {cls.__name__}, got {type(value).__name__}")
        if not checks:
            checks.update({name: _check(kind) for name, kind in get_type_hints(cls).items()})
        for name in value:
            if type(name) is not str:
                raise ValueError(f"a field's name is a {type(name).__name__}")
        for name in required:
            if name not in value:
                raise ValueError(f"{cls.__name__} lacks the field {name}")
        return cls(**{name: checks[name](item) for name, item in value.items() if name in checks})

    return check

"""Tracebacks of containers, built again here: local frames come first, then those of the container."""

from __future__ import annotations

import contextlib
import linecache
import os
import sys
import types
from typing import TYPE_CHECKING, Any

from squall.exception import Error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
#: What stands between a user's call and what it raises: of the standard library, what we use on the way.
_ON_THE_WAY = (_OURS, contextlib.__file__, os.path.join(os.path.dirname(contextlib.__file__), "asyncio", ""))
#: An attribute of what tells of a container's traceback.
REMOTE = "__squall_remote__"
#: As `runner.results.FRAMES`.
FRAMES = "__squall_frames__"
#: Exceptions of one chain that are looked at.
_MOST = 1000


def splice(error: BaseException) -> bool:
    """Give an exception that came from a container, its causes and its parts the tracebacks that they had.

    False when nothing is known of its own.
    """
    known = [_restore(each) for each in chain(error)]
    return known[0]


def without_ours(error: BaseException) -> TracebackType | None:
    """Its traceback without the way through Squall: what the user looks for is in the container, or in the
    message. With SQUALL_TRACEBACK=1, all of it.
    """
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_code.co_filename.startswith(_ON_THE_WAY):
        traceback = traceback.tb_next
    if os.environ.get("SQUALL_TRACEBACK") == "1" or (traceback is None and _may_be_a_bug(error)):
        return error.__traceback__
    return traceback


def _may_be_a_bug(error: BaseException) -> bool:
    """Whether it may have begun in Squall: no error of ours, no Ctrl-C, and none of a container's."""
    if isinstance(error, Error) or not isinstance(error, Exception):
        return False
    return not any(hasattr(each, REMOTE) for each in chain(error))


def chain(error: BaseException) -> Iterator[BaseException]:
    """The exception, its causes and contexts, and what is in a group; each once."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting and len(seen) < _MOST:
        each = waiting.pop(0)
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        parts = getattr(each, "exceptions", ())
        inside = [p for p in parts if isinstance(p, BaseException)] if isinstance(parts, tuple) else []
        waiting += [each.__cause__, each.__context__, *inside]


def _restore(error: BaseException) -> bool:
    frames = error.__dict__.pop(FRAMES, None)
    if not isinstance(frames, list) or not frames:
        return False
    everything = os.environ.get("SQUALL_TRACEBACK") == "1"
    traceback: TracebackType | None = None
    for frame in reversed(frames):
        match frame:
            case [str(file), str(below), int(line), str(name), str(text), bool(ours)]:
                if line > 0 and (everything or not ours):
                    traceback = _added(traceback, _local(file, below, line, text), line, name)
            case _:
                continue
    error.__traceback__ = traceback
    return traceback is not None


def _local(file: str, below: str, line: int, text: str) -> str:
    """The same file here, where it has the same line; else the container's, whose line is remembered."""
    if below:
        for folder in sys.path:
            here = os.path.join(os.path.abspath(folder or "."), below)
            if linecache.getline(here, line).strip() == text and text:
                return here
    if text and not os.path.exists(file):
        entry: Any = linecache.cache.get(file)
        lines = list(entry[2]) if entry is not None and len(entry) == 4 and entry[1] is None else []
        lines += ["\n"] * (line - len(lines))
        lines[line - 1] = text + "\n"
        linecache.cache[file] = (0, None, lines, file)
    return file


def _added(rest: TracebackType | None, file: str, line: int, name: str) -> TracebackType:
    """A frame in front of others. It has no variables, and runs nothing of the user's."""
    scope: dict[str, Any] = {"__name__": "squall_remote", "frame_of": sys._getframe}
    code = compile("frame = frame_of()", file, "exec").replace(co_name=name, co_firstlineno=line)
    if sys.version_info >= (3, 11):
        code = code.replace(co_linetable=_without_columns(len(code.co_code) // 2))
    exec(code, scope)  # noqa: S102 - the line above
    return types.TracebackType(rest, scope.pop("frame"), 0, line)


def _without_columns(units: int) -> bytes:
    """A location table (CPython's Objects/locations.md): all on the first line, so that no caret is drawn."""
    entries = [min(8, units - at) for at in range(0, units, 8)]
    return b"".join(bytes([0x80 | 13 << 3 | (length - 1), 0]) for length in entries)

"""Results and exceptions of user code to the bytes and headers that go home."""

from __future__ import annotations

import importlib
import os
import pickle
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from squall.runner.protocol import spool

if TYPE_CHECKING:
    from types import TracebackType

    from squall.runner.protocol.spool import Pickled

_PROTOCOL = 5
_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
#: The attribute by which frames travel with an exception; the caller's side takes it off again.
FRAMES = "__squall_frames__"
#: Frames of one exception, and characters of a line, that travel.
_FRAME_LIMIT, _LINE_LIMIT = 200, 500
#: Where the user's source is in this container.
sources: list[str] = []
#: Values of secrets in this process' environment: what has one in it does not leave as an object.
hidden: list[bytes] = []
#: What is told of a message or a traceback, in characters.
_TEXT_LIMIT = 64 << 10
#: Shorter values are no secrets (as in server/redaction.py).
_SHORTEST = 4


class Answer(NamedTuple):
    """Header and payload of an OUTPUT or FAILED frame."""

    header: dict[str, Any]
    payload: Pickled = b""


def dump(value: object, limit: int) -> Pickled:
    """The pickle of a value; cloudpickle does what plain pickle cannot, where it is there.

    Raises TooLargeError beyond `limit` bytes.
    """
    try:
        return spool.dump(value, limit)
    except (pickle.PicklingError, AttributeError, TypeError):
        cloudpickle = _cloudpickle()
        if cloudpickle is None:
            raise
        return spool.filed(cloudpickle.dumps(value, _PROTOCOL), limit)


def of_exception(error: BaseException) -> Answer:
    """An exception of user code: as an object where it survives pickling, and told in words.

    One that has a secret in it is only told: who takes the secrets out of words cannot read objects.
    """
    _advise(error)
    data = _dump_exception(error)
    header = {"s": "exception", **told(error)}
    return Answer(header, b"" if any(value in data for value in hidden) else data)


def hide(names: list[str]) -> None:
    """These variables of the environment are secrets."""
    values = (os.environ.get(name, "").encode(errors="surrogateescape") for name in names)
    hidden[:] = [value for value in values if len(value) >= _SHORTEST]


def failed(kind: str, message: str) -> Answer:
    """What the platform must say itself; `kind` is a name in squall.exception."""
    return Answer({"s": "failed", "type": kind, "message": message[:_TEXT_LIMIT]})


def told(error: BaseException) -> dict[str, Any]:
    """Type, message and traceback, without the frames that are ours."""
    _advise(error)
    error.__traceback__ = _users_frames(error.__traceback__)
    return {
        "type": type(error).__name__,
        "message": _text(error)[:_TEXT_LIMIT],
        "tb": _traceback(error)[-_TEXT_LIMIT:],
    }


def not_in_image(name: str) -> str:
    """What to do about a module that cannot be imported in this container; one line, after a subject."""
    image, top = os.environ.get("SQUALL_IMAGE_ID", ""), name.partition(".")[0]
    place = getattr(getattr(sys.modules.get(top), "__spec__", None), "origin", None)
    if name != top and place:
        return f"{place} does not bring along: was its file sent, or is it of another version of {top}?"
    return (
        f"the image {image} does not have: "
        f'add .pip_install("{top}") or .add_local_python_source("{top}") to it'
    )


def _advise(error: BaseException) -> None:
    """A missing module has a note that says what to do: it travels with the object and with the words."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        note = f"squall: it imports {error.name}, which {not_in_image(error.name)}"
        notes = getattr(error, "__notes__", None) or []
        if note not in notes:
            error.__dict__["__notes__"] = [*notes, note]


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "<its __str__ failed>"


def _traceback(error: BaseException) -> str:
    import traceback

    try:
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        if sys.version_info < (3, 11):  # which does not print notes by itself
            text += "".join(f"{note}\n" for note in getattr(error, "__notes__", ()))
        return text
    except Exception:
        return f"{type(error).__name__}: {_text(error)}\n"


def _users_frames(traceback: TracebackType | None) -> TracebackType | None:
    while traceback is not None and _is_ours(traceback.tb_frame.f_code.co_filename):
        traceback = traceback.tb_next
    return traceback


def _is_ours(filename: str) -> bool:
    return filename.startswith((_HERE, "<frozen importlib")) or filename.endswith(
        ("/importlib/__init__.py", "/asyncio/runners.py", "/asyncio/base_events.py")
    )


def _dump_exception(error: BaseException) -> bytes:
    """Empty where it cannot be pickled, or not be unpickled again."""
    return _round_trip(error, keep_causes=True) or _round_trip(error, keep_causes=False)


def _frames(traceback: TracebackType | None) -> list[list[Any]]:
    """Of a traceback, for the caller's side to build it again: file, the same below the user's source or "",
    line, function, text of the line, and whether it is a frame of ours.
    """
    import linecache

    found: list[list[Any]] = []
    while traceback is not None:
        code, line = traceback.tb_frame.f_code, traceback.tb_lineno
        file = code.co_filename
        below = next((file[len(root) + 1 :] for root in sources if file.startswith(root + os.sep)), "")
        text = linecache.getline(file, line).strip()[:_LINE_LIMIT]
        found.append([file, below, line, code.co_name, text, _is_ours(file)])
        traceback = traceback.tb_next
    half = _FRAME_LIMIT // 2
    return found if len(found) <= _FRAME_LIMIT else [*found[:half], *found[-half:]]


def _round_trip(error: BaseException, *, keep_causes: bool) -> bytes:
    try:
        data = _pickled(error, keep_causes=keep_causes)
        return data if type(pickle.loads(data)) is type(error) else b""
    except BaseException:
        return b""


def _pickled(error: BaseException, *, keep_causes: bool) -> bytes:
    import io

    cloudpickle = _cloudpickle()
    base: Any = pickle.Pickler if cloudpickle is None else cloudpickle.Pickler

    class ExceptionPickler(base):  # type: ignore[misc]
        def reducer_override(self, obj: object) -> Any:
            if keep_causes and isinstance(obj, BaseException):
                return _with_causes(obj)
            return NotImplemented if cloudpickle is None else super().reducer_override(obj)

    buffer = io.BytesIO()
    ExceptionPickler(buffer, _PROTOCOL).dump(error)
    return buffer.getvalue()


def _with_causes(error: BaseException) -> Any:
    """As the exception reduces itself, with cause, context, notes and frames in its state:
    BaseException.__setstate__ sets every key as an attribute.
    """
    reduced = error.__reduce_ex__(_PROTOCOL)
    links = {
        "__cause__": error.__cause__,
        "__context__": error.__context__,
        "__suppress_context__": error.__suppress_context__,
        "__notes__": getattr(error, "__notes__", None),
        FRAMES: _frames(error.__traceback__),
    }
    links = {name: value for name, value in links.items() if value}
    if not isinstance(reduced, tuple) or not links:
        return reduced
    state = reduced[2] if len(reduced) > 2 else None
    if state is not None and not isinstance(state, dict):
        return reduced
    return (*reduced[:2], {**(state or {}), **links}, *reduced[3:])


def _cloudpickle() -> Any:
    try:
        return importlib.import_module("cloudpickle")
    except ImportError:
        return None

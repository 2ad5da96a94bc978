"""Errors of the user's code, told with the user's frames and without ours."""

from __future__ import annotations

import importlib.util
import os
import traceback
from typing import TYPE_CHECKING

import click

import squall
from squall import exception
from squall.sdk.outcomes import RemoteTraceback

if TYPE_CHECKING:
    from collections.abc import Iterator

_OURS = os.path.dirname(os.path.abspath(squall.__file__)) + os.sep
_MACHINERY = ("<frozen ", os.path.dirname(os.path.abspath(click.__file__)) + os.sep)
_MACHINERY_FILES = tuple(
    os.path.join(*parts)
    for parts in (
        ("importlib", "__init__.py"),
        ("asyncio", "runners.py"),
        ("asyncio", "base_events.py"),
        ("concurrent", "futures", "_base.py"),
        ("contextlib.py",),
    )
)


def trimmed(error: BaseException) -> str:
    """The traceback as Python shows it, without frames of Squall's, of imports and event loops.

    With SQUALL_TRACEBACK=1 (`squall --full-traceback`), all of it.
    """
    cause = error.__cause__
    told = traceback.TracebackException.from_exception(error)
    if os.environ.get("SQUALL_TRACEBACK") != "1":
        for part in _chain(told):
            kept = [frame for frame in part.stack if not _is_machinery(frame.filename)]
            part.stack = traceback.StackSummary.from_list(kept)
        if not told.stack and isinstance(cause, RemoteTraceback):
            return cause.text.rstrip() + "\n"  # nothing of the user's is in between
    return "".join(told.format())


def failed(error: BaseException) -> click.exceptions.Exit:
    """Tell what a user's program raised: one line for Squall's own errors, else the traceback."""
    if _is_plain(error):
        click.echo(f"squall: {type(error).__name__}: {_line(error)}{_place(error)}", err=True)
    else:
        click.echo(trimmed(error), err=True, nl=False)
    return click.exceptions.Exit(1)


def importing_failed(name: str, error: BaseException) -> click.exceptions.Exit:
    """Tell why a user's module cannot be imported: its own traceback, then one line."""
    if _is_plain(error):  # the name of its class is of no use: there is nothing to catch it
        click.echo(f"squall: {_line(error)}{_place(error)}", err=True)
        return click.exceptions.Exit(1)
    click.echo(trimmed(error), err=True, nl=False)
    what = f"{type(error).__name__}: {error}".strip(": ").splitlines()[0]
    hint = _hint(error, name)
    click.echo(f"squall: {name} cannot be imported: {what}{hint}", err=True)
    return click.exceptions.Exit(1)


def _is_plain(error: BaseException) -> bool:
    """It says what to do, and there is nothing behind it that its reader must know."""
    alone = error.__cause__ is None and (error.__context__ is None or error.__suppress_context__)
    return isinstance(error, exception.Error) and alone and os.environ.get("SQUALL_TRACEBACK") != "1"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or "it says nothing"


def _place(error: BaseException) -> str:
    """The user's line that it came from; empty if there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    users = [frame for frame in frames if not _is_machinery(frame.filename)]
    if not users:
        return ""
    file, here = users[-1].filename, os.path.join(os.getcwd(), "")
    return f" ({file.removeprefix(here)}:{users[-1].lineno})"


def _hint(error: BaseException, module: str) -> str:
    """What to do about a module of the user's that is not found, or not below the package that was meant."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f" ({_missing(error.name, os.path.dirname(os.path.abspath(module)))})"
    if isinstance(error, ImportError) and "relative import" in str(error):
        return " (a relative import needs an __init__.py beside the file, or `squall run -m PACKAGE.MODULE`)"
    return ""


def _missing(name: str, folder: str) -> str:
    top, dot, _ = name.partition(".")
    place = _place_of(top) if dot else ""
    if place:
        return f"{top} is found in {place}, and has no such module: a slip of the pen, or another {top}?"
    while folder != os.path.dirname(folder):
        if os.path.isfile(os.path.join(folder, f"{top}.py")) or os.path.isdir(os.path.join(folder, top)):
            return f"there is {os.path.join(folder, top)}: run it from {folder}, or install it here"
        folder = os.path.dirname(folder)
    return (
        f"if only the image has {top}, import it inside the function or below "
        "`with image.imports():`; else install it here"
    )


def _place_of(top: str) -> str:
    """Where a package is; empty if it is nowhere."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return ""
    return os.path.dirname(spec.origin) if spec is not None and spec.origin else ""


def _chain(told: traceback.TracebackException) -> Iterator[traceback.TracebackException]:
    waiting: list[traceback.TracebackException | None] = [told]
    while waiting:
        part = waiting.pop()
        if part is None:
            continue
        yield part
        waiting += [part.__cause__, part.__context__, *(getattr(part, "exceptions", None) or [])]


def _is_machinery(filename: str) -> bool:
    return filename.startswith((_OURS, *_MACHINERY)) or filename.endswith(_MACHINERY_FILES)

"""Files of environment variables, `NAME=value` a line. Pure but for finding them."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from squall.exception import InvalidError

if TYPE_CHECKING:
    from collections.abc import Mapping

_LINE = re.compile(
    r"""[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*
    (?: '(?P<single>[^']*)' | "(?P<double>(?:[^"\\]|\\.)*)" | (?P<plain>[^\n]*?) )
    [ \t]*(?:(?<=[ \t'"=])\#[^\n]*)?(?:\r?\n|\Z)""",
    re.VERBOSE | re.DOTALL,
)
_NOTHING = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\r?\n|\Z)")
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


def find(start: str | os.PathLike[str] | None, filename: str) -> str:
    """The nearest file of that name: in the folder, or that of the file, or above. Raises InvalidError."""
    given = os.path.abspath(os.fspath(start) if start is not None else os.getcwd())
    folder = given if os.path.isdir(given) else os.path.dirname(given)
    first = folder
    while True:
        path = os.path.join(folder, filename)
        if os.path.isfile(path):
            return path
        above = os.path.dirname(folder)
        if above == folder:
            raise InvalidError(f"there is no file {filename} in {first} or above it")
        folder = above


def parse(text: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Its variables. `${NAME}` is one from above, else of the environment. Raises InvalidError."""
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        nothing = _NOTHING.match(text, at)
        line = nothing or _LINE.match(text, at)
        if line is None:
            number = text.count("\n", 0, at) + 1
            raise InvalidError(f"line {number} of the file is not NAME=value")
        if nothing is None:
            found[line["name"]] = _value(line, {**environ, **found})
        at = max(line.end(), at + 1)
    return found


def _value(line: re.Match[str], known: Mapping[str, str]) -> str:
    if line["single"] is not None:
        return line["single"]
    if line["double"] is not None:
        text = re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), line["double"], flags=re.DOTALL)
    else:
        text = re.sub(r"(?:^|[ \t]+)#.*", "", line["plain"]).strip()
    return _REFERENCE.sub(lambda m: known.get(m[1], m[2] or ""), text)

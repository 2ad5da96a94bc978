"""Which local files stay behind: patterns as in a .dockerignore file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from squall.exception import InvalidError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    #: What `ignore=` takes.
    Ignore = Sequence[str] | Callable[[Path], bool]


class FilePatternMatcher:
    """True for relative paths that match: `*`, `?`, `[a-z]`, `**` for any depth, `!` to take back.

    A folder that matches takes all below it along; the last pattern that matches decides.
    """

    def __init__(self, *pattern: str) -> None:
        rules = [rule for rule in (p.strip() for p in pattern) if rule and not rule.startswith("#")]
        self._rules = [(not rule.startswith("!"), _regex(rule.lstrip("!"))) for rule in rules]
        self._inverted = False

    @classmethod
    def from_file(cls, file_path: str | Path) -> FilePatternMatcher:
        """The patterns of a file, one a line. Raises InvalidError if it cannot be read."""
        try:
            with open(file_path, encoding="utf-8") as file:
                return cls(*file.read().splitlines())
        except OSError as error:
            raise InvalidError(f"cannot read the patterns in {file_path}: {error.strerror}") from None

    def __call__(self, path: Path) -> bool:
        text = path.as_posix()
        matched = False
        for takes, regex in self._rules:
            if regex.fullmatch(text):
                matched = takes
        return matched is not self._inverted

    def __invert__(self) -> FilePatternMatcher:
        opposite = FilePatternMatcher()
        opposite._rules, opposite._inverted = self._rules, not self._inverted
        return opposite


def matcher(ignore: Ignore) -> Callable[[Path], bool]:
    """One function of what `ignore=` was given. Raises InvalidError."""
    if callable(ignore):
        return ignore
    if isinstance(ignore, (list, tuple)) and all(isinstance(p, str) for p in ignore):
        return FilePatternMatcher(*ignore)
    raise InvalidError(f"ignore={ignore!r} is not possible: give a list of patterns, or a function of a path")


def _regex(pattern: str) -> re.Pattern[str]:
    parts: list[str] = []
    rest = pattern.strip("/")
    while rest:
        if rest.startswith("**/"):
            parts.append("(?:.*/)?")
            rest = rest[3:]
        elif rest.startswith("**"):
            parts.append(".*")
            rest = rest[2:]
        elif rest[0] in "*?":
            parts.append("[^/]*" if rest[0] == "*" else "[^/]")
            rest = rest[1:]
        elif match := re.match(r"\[([!^]?)([^\]]+)\]", rest):
            inside = match[2].replace("\\", r"\\").replace("[", r"\[")
            parts.append(f"[{'^' if match[1] else ''}{inside}]")
            rest = rest[match.end() :]
        else:
            parts.append(re.escape(rest[0]))
            rest = rest[1:]
    return re.compile("".join(parts) + "(?:/.*)?", re.DOTALL)


#: The default of `Image.add_local_python_source`: all but Python files.
NON_PYTHON_FILES = ~FilePatternMatcher("**/*.py")

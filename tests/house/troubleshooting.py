"""docs/troubleshooting.md as tests read it: each heading is an error's type and message, "..." for anything.

A test that meets one calls `met(what it saw, "the heading")`; tests/e2e/test_troubleshooting.py finds these.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from tests.house.source import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PAGE = ROOT / "docs" / "troubleshooting.md"
HEADING = re.compile(r"^### `(\w+: .*)`$", re.MULTILINE)


def documented() -> list[str]:
    return HEADING.findall(PAGE.read_text("utf-8"))


def matches(told: str, heading: str) -> bool:
    """Whether an error, with its type in front, is that of the heading."""
    pattern = ".*".join(map(re.escape, heading.split("...")))
    return re.fullmatch(pattern, " ".join(told.split())) is not None


def met(told: str, heading: str) -> None:
    """This message, which has no type in front, is the one that the page tells of, word for word."""
    assert heading in documented(), f"docs/troubleshooting.md has no {heading}"
    kind, _, message = heading.partition(": ")
    assert matches(told.removeprefix(f"{kind}: "), message), (told, message)


def meetings(file: Path) -> list[str]:
    """The headings that the tests of a file meet, read from its syntax tree."""
    calls = [node for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.Call)]
    return [
        call.args[1].value
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "met" and len(call.args) == 2
        if isinstance(call.args[1], ast.Constant) and isinstance(call.args[1].value, str)
    ]

"""The guides are true: their files are written, their commands run, and what they print is compared.

A ```python block that begins with `# name.py` is a file. In a ```console block, `$ ` begins a command; the
lines below it are what it prints to stdout. `...` stands for anything.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.kit import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.kit import Daemon

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [*sorted((DOCS / "guide").glob("*.md")), *DOCS.glob("migrating-*.md")]
#: Pages whose programs write where only an image of their own lets them.
ISOLATED = {"images"}
PROGRAMS = {"squall": ["-m", "squall"], "python": []}

_BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """Language and text of each block that the tests know how to use."""
    return ((found[1], found[2]) for found in _BLOCK.finditer(page))


def commands(console: str) -> Iterator[tuple[str, str]]:
    """Each command of a block, and what it prints."""
    for part in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        yield command, printed


def matches(printed: str, wanted: str) -> bool:
    pattern = ".*".join(re.escape(piece) for piece in wanted.strip().split("..."))
    return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_guide(here: Daemon, tmp_path: Path, page: Path, request: pytest.FixtureRequest) -> None:
    if page.stem in ISOLATED:
        request.getfixturevalue("isolated")
    ran = 0
    for language, text in blocks(page.read_text("utf-8")):
        name = re.match(r"# (\w+\.py)\n", text)
        if language == "python" and name:
            (tmp_path / name[1]).write_text(text, "utf-8")
        for command, wanted in commands(text) if language == "console" else ():
            program, *arguments = shlex.split(command)
            done = subprocess.run(
                [sys.executable, *PROGRAMS[program], *arguments],
                cwd=tmp_path, env=here.environ(), capture_output=True, text=True, timeout=PATIENCE_S,
                check=False, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
            assert matches(done.stdout, wanted), f"{command} printed\n{done.stdout}{done.stderr}"
            ran += 1
    assert ran, "a guide without a command shows nothing"


@pytest.mark.parametrize(
    ("printed", "wanted", "same"),
    [
        ("a\nb\n", "a\nb\n", True), ("a\nb", "a\n...", True), ("a\nb", "...b", True), ("x.y", "x.y", True),
        ("a\nb", "a", False), ("axb", "a.b", False), ("", "...", True), ("a", "", False),
    ],
)  # fmt: skip
def test_the_comparison(printed: str, wanted: str, *, same: bool) -> None:
    assert matches(printed, wanted) is same

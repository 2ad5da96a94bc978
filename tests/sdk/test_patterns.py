"""Patterns of files that stay behind."""

from __future__ import annotations

from pathlib import Path

import pytest

import squall
from squall.exception import InvalidError
from squall.sdk.patterns import NON_PYTHON_FILES


@pytest.mark.parametrize(
    ("patterns", "path", "matches"),
    [
        (["*.log"], "a.log", True),
        (["*.log"], "sub/a.log", False),
        (["**/*.log"], "a.log", True),
        (["**/*.log"], "x/y/a.log", True),
        (["build"], "build/x/y", True),
        (["build/"], "build/x", True),
        (["/build"], "build/x", True),
        (["build"], "rebuild/x", False),
        (["a?c"], "abc", True),
        (["a?c"], "a/c", False),
        (["[a-c].txt"], "b.txt", True),
        (["[!a-c].txt"], "b.txt", False),
        (["**"], "anything/at/all", True),
        (["*", "!keep.txt"], "keep.txt", False),
        (["*", "!keep.txt"], "other.txt", True),
        (["!keep.txt", "*"], "keep.txt", True),
        (["# a comment", ""], "# a comment", False),
        (["a.b"], "axb", False),
        (["x/**/y"], "x/y", True),
        (["x/**/y"], "x/1/2/y", True),
    ],
)
def test_patterns(patterns: list[str], path: str, matches: bool) -> None:
    matcher = squall.FilePatternMatcher(*patterns)
    assert matcher(Path(path)) is matches
    assert (~matcher)(Path(path)) is not matches


def test_python_files_only() -> None:
    assert not NON_PYTHON_FILES(Path("a/b.py"))
    assert NON_PYTHON_FILES(Path("a/b.pyc"))


def test_from_file(tmp_path: Path) -> None:
    (tmp_path / "ignore").write_text("*.log\n# no\n!a.log\n")
    matcher = squall.FilePatternMatcher.from_file(tmp_path / "ignore")
    assert matcher(Path("b.log"))
    assert not matcher(Path("a.log"))
    with pytest.raises(InvalidError, match="cannot read"):
        squall.FilePatternMatcher.from_file(tmp_path / "nothing")

"""Which modules a file imports, read from its syntax tree. Pure."""

from __future__ import annotations

import ast
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_BY_NAME = frozenset({"import_module", "__import__"})


def imported(source: bytes, package: str) -> set[str]:
    """Absolute dotted names; `package` is the package that relative imports start from.

    A name of `from a import b` is given as `a.b`, whether b is a module or not. Code that this Python
    cannot parse imports nothing.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the user's escapes are not our business
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    return {name for node in ast.walk(tree) for name in _names(node, package)}


def _names(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = _base(node, package)
        if base is not None:
            yield from (".".join(p for p in (base, alias.name) if p and p != "*") for alias in node.names)
    elif isinstance(node, ast.Call):
        yield from _by_name(node)


def _base(node: ast.ImportFrom, package: str) -> str | None:
    if not node.level:
        return node.module or ""
    parts = package.split(".") if package else []
    above = len(parts) - (node.level - 1)
    if above < 1:
        return None
    return ".".join([*parts[:above], *([node.module] if node.module else [])])


def _by_name(node: ast.Call) -> Iterator[str]:
    """`importlib.import_module("x")` and `__import__("x")` with a name that stands there."""
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if called in _BY_NAME and node.args:
        first = node.args[0]
        if (
            isinstance(first, ast.Constant)
            and isinstance(first.value, str)
            and not first.value.startswith(".")
        ):
            yield first.value

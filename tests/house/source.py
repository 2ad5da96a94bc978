"""The source of Squall as the rules of the house see it: files, modules, syntax trees."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"
PACKAGE = SRC / "squall"


@dataclass(frozen=True)
class Module:
    """One file of the package; `name` is dotted, `squall.wire.frames`."""

    path: Path
    name: str

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"

    def tree(self, minor: int | None = None) -> ast.Module:
        """The syntax tree; with `minor`, only of what Python 3.`minor` understands."""
        version = None if minor is None else (3, minor)
        return ast.parse(self.path.read_text("utf-8"), str(self.path), feature_version=version)

    def __str__(self) -> str:
        return self.name


def module_of(path: Path, src: Path = SRC) -> Module:
    parts = path.relative_to(src).with_suffix("").parts
    return Module(path, ".".join(parts[:-1] if parts[-1] == "__init__" else parts))


@lru_cache(maxsize=1)
def modules() -> tuple[Module, ...]:
    return tuple(module_of(path) for path in sorted(PACKAGE.rglob("*.py")))


def modules_below(package: str) -> list[Module]:
    return [m for m in modules() if m.name == package or m.name.startswith(package + ".")]

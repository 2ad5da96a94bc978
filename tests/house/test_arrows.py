"""Which room may open which door: the arrows of docs/architecture.md, read from every import statement."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.house.source import PACKAGE, Module, module_of, modules

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: From a room to the rooms, or single modules of rooms, that it may import.
ARROWS: dict[str, frozenset[str]] = {
    "cli": frozenset({"sdk", "client", "wire"}),
    "sdk": frozenset({"client", "wire", "runner.protocol"}),
    "client": frozenset({"wire", "runner.protocol"}),
    "daemon": frozenset({"client", "wire", "runtime.driver", "runtime.probe"}),
    "server": frozenset({"scheduling", "store", "build", "wire"}),
    "node": frozenset({"runtime", "build", "wire", "runner.protocol"}),
    "build": frozenset({"wire"}),
    "store": frozenset({"wire"}),
    "runtime": frozenset(),
    "scheduling": frozenset(),
    "wire": frozenset(),
    "runner": frozenset(),
}

#: Doors that open inside a function only: `squall daemon --foreground` and `squall node` become the
#: supervisor, and no other command may pay for it.
LAZY_ARROWS: dict[str, frozenset[str]] = {"cli": frozenset({"daemon"})}

#: These may not even import the modules beside the rooms (`squall.exception`, `squall.config`).
ALONE = frozenset({"runner", "scheduling", "wire"})

#: Top-level modules that may import rooms. All others may import only one another.
DOORS: dict[str, frozenset[str]] = {"__init__": frozenset({"sdk"}), "__main__": frozenset({"cli"})}


#: Functions that import a module by its name.
BY_NAME = frozenset({"import_module", "__import__"})


@dataclass(frozen=True)
class Import:
    target: str
    line: int
    lazy: bool


def imports(module: Module) -> Iterator[Import]:
    """All imports of squall's own modules, wherever they stand."""
    yield from (i for i in _walk(module.tree(), module, lazy=False) if i.target.split(".")[0] == "squall")


def _walk(node: ast.AST, module: Module, *, lazy: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        for target in _targets(child, module):
            yield Import(target, getattr(child, "lineno", 0), lazy)
        in_function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        yield from _walk(child, module, lazy=lazy or in_function)


def _targets(node: ast.AST, module: Module) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = _base(node, module)
        return [f"{base}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in BY_NAME:
        return [a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    return []


def _base(node: ast.ImportFrom, module: Module) -> str:
    if not node.level:
        return node.module or ""
    package = module.name.split(".") if module.is_package else module.name.split(".")[:-1]
    above = package[: len(package) - node.level + 1]
    return ".".join([*above, *([node.module] if node.module else [])])


def room_of(module: Module) -> str:
    """The room of a module, or the name of a top-level module; `__init__` for squall itself."""
    parts = module.name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def forbidden(module: Module, found: Import) -> bool:
    room = room_of(module)
    parts = found.target.split(".")[1:]
    door = parts[0] if parts else "__init__"
    if door not in ARROWS:
        return _beside_forbidden(room, door)
    if room not in ARROWS:
        return door not in DOORS.get(room, frozenset())
    if door == room or _opens(ARROWS[room], parts):
        return False
    return not (found.lazy and _opens(LAZY_ARROWS.get(room, frozenset()), parts))


def _opens(doors: frozenset[str], parts: list[str]) -> bool:
    return parts[0] in doors or ".".join(parts[:2]) in doors


def _beside_forbidden(room: str, door: str) -> bool:
    """An import of a top-level module, or of a name of squall itself."""
    if (PACKAGE / f"{door}.py").exists() and door != "__init__":
        return room in ALONE
    # The public names load the SDK; only the version is a plain value.
    return room in ALONE or (door != "__version__" and room != "cli")


def violations(module: Module) -> list[str]:
    where = module.path.relative_to(module.path.parents[module.name.count(".") + module.is_package])
    return [f"{where}:{i.line} imports {i.target}" for i in imports(module) if forbidden(module, i)]


@pytest.mark.parametrize("module", modules(), ids=str)
def test_imports_follow_the_arrows(module: Module) -> None:
    assert violations(module) == []


def test_every_room_has_arrows() -> None:
    rooms = {p.name for p in PACKAGE.iterdir() if p.is_dir() and any(p.rglob("*.py"))}
    assert rooms <= ARROWS.keys(), "a new room: say in ARROWS what it may import"


def test_arrows_have_no_cycle() -> None:
    seen: list[str] = []
    waiting = dict(ARROWS)
    while waiting:
        free = [r for r, to in waiting.items() if all(t.split(".")[0] in seen for t in to)]
        assert free, f"a cycle among {sorted(waiting)}"
        seen += free
        waiting = {r: to for r, to in waiting.items() if r not in free}


@pytest.mark.parametrize(
    ("file", "code", "caught"),
    [
        ("client/a.py", "import squall.wire.frames", False),
        ("client/a.py", "import squall.server", True),
        ("wire/a.py", "from squall import store", True),
        ("wire/a.py", "from squall.exception import Error", True),
        ("store/a.py", "from squall import __version__", False),
        ("store/a.py", "from squall import App", True),
        ("build/a.py", "def f():\n    from squall.node import agent", True),
        ("build/__init__.py", "from ..node import agent", True),
        ("build/__init__.py", "from .recipe import Recipe", False),
        ("build/a/b.py", "from ...server.app import x", True),
        ("runner/a.py", "import typing\nif typing.TYPE_CHECKING:\n    import squall.sdk", True),
        ("runtime/a.py", "import importlib\nimportlib.import_module('squall.node.agent')", True),
        ("node/a.py", "from squall.runner.protocol import Frame", False),
        ("node/a.py", "from squall.runner import protocol", False),
        ("node/a.py", "from squall.runner.main import run", True),
        ("cli/a.py", "def daemon():\n    from squall.daemon import main", False),
        ("cli/a.py", "from squall.daemon import main", True),
        ("config.py", "import squall.client", True),
    ],
)
def test_the_rule_catches(tmp_path: Path, file: str, code: str, caught: bool) -> None:
    path = tmp_path / "squall" / file
    path.parent.mkdir(parents=True)
    path.write_text(code)
    assert bool(violations(module_of(path, tmp_path))) is caught

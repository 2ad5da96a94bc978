"""From the modules of an app to the tree of files that its containers import."""

from __future__ import annotations

import os
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from squall.exception import ModuleNotMountable
from squall.sdk.patterns import NON_PYTHON_FILES, matcher
from squall.sdk.source.imports import imported
from squall.sdk.source.locate import Unit, locate
from squall.sdk.trees import Tree, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from squall.sdk.recipes import PythonSource
    from squall.sdk.source.home import Home

MAX_FILES = 10_000
MAX_BYTES = 64 << 20
#: Scripts may be called anything; what is imported is `<name>.py`.
_SUFFIX = ".py"


@dataclass(frozen=True)
class Root:
    """A module that functions are in. `file` is where it was loaded from."""

    module: str
    file: str


def roots_of(home: Home) -> list[Root]:
    """A function's own module; of an interactive session, which has no file, those that it has imported."""
    if home.file:
        return [Root(home.module, home.file)]
    names = {_module_name(value) for value in list(vars(sys.modules[home.module]).values())}
    units = {name: locate(name) for name in names if name}
    return [Root(name, unit.path) for name, unit in sorted(units.items()) if unit is not None]


def _module_name(value: object) -> str:
    """Of a module itself, or where a function or class comes from; whatever objects may do when asked."""
    try:
        name = getattr(value, "__name__" if isinstance(value, ModuleType) else "__module__", None)
    except Exception:
        return ""
    return name if isinstance(name, str) else ""


class _Collector:
    """Adds units to a tree, each once."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self._size = 0
        self._units: set[str] = set()

    def add(self, unit: Unit, ignore: Callable[[Path], bool] = NON_PYTHON_FILES) -> list[tuple[str, bytes]]:
        """The Python files of a unit, as (package of the file, content); nothing if it is there already."""
        if unit.name in self._units:
            return []
        self._units.add(unit.name)
        base = unit.name.replace(".", "/")
        if not unit.is_package:
            package = unit.name.rpartition(".")[0]
            return [(package, self._file(unit, base + _SUFFIX, unit.path))]
        added: list[tuple[str, bytes]] = []
        for relative, source in walk(unit.path, source_only=True):
            if ignore(Path(relative)) or os.path.basename(relative).startswith("."):
                continue
            data = self._file(unit, f"{base}/{relative}", source)
            if relative.endswith(_SUFFIX):
                folder = os.path.dirname(relative)
                added.append((".".join([unit.name, *filter(None, folder.split("/"))]), data))
        return added

    def _file(self, unit: Unit, path: str, source: str) -> bytes:
        file = self.tree.add(path, source, keep=True)
        self._size += file.size
        if len(self.tree.files) > MAX_FILES or self._size > MAX_BYTES:
            raise ModuleNotMountable(_too_large(unit, self.tree))
        return file.read()


def app_source(roots: Iterable[Root], extra: Iterable[PythonSource] = ()) -> Tree:
    """The modules, what they import of the user's own, and so on. Raises ModuleNotMountable."""
    tree = Tree()
    collector = _Collector(tree)
    waiting: list[tuple[str, bytes]] = []
    for root in roots:
        waiting += collector.add(_unit_of(root))
    seen: set[str] = set()
    while waiting:
        package, data = waiting.pop()
        for name in sorted(imported(data, package) - seen):
            seen.add(name)
            unit = locate(name)
            if unit is not None:
                waiting += collector.add(unit)
    tree.files.update(python_source(extra).files)
    return tree


def python_source(sources: Iterable[PythonSource]) -> Tree:
    """Modules that were named, and no others. Raises ModuleNotMountable."""
    tree = Tree()
    collector = _Collector(tree)
    for source in sources:
        for name in source.modules:
            unit = locate(name, installed=True)
            if unit is None:
                raise ModuleNotMountable(
                    f"add_local_python_source: no module {name} is found here as Python source: "
                    "is its folder on sys.path?"
                )
            collector.add(unit, matcher(source.ignore))
    return tree


def _unit_of(root: Root) -> Unit:
    """A module with functions is sent wherever it comes from."""
    unit = locate(root.module, installed=True)
    if unit is not None and (unit.is_package or _same(unit.path, root.file)):
        return unit
    if root.file and "." not in root.module:
        return Unit(root.module, root.file, is_package=False)
    raise ModuleNotMountable(
        f"the source of module {root.module} is not found: declare its functions with serialized=True, "
        "or give the image the module and use include_source=False"
    )


def _same(path: str, other: str) -> bool:
    return not other or os.path.realpath(path) == os.path.realpath(other)


def _too_large(unit: Unit, tree: Tree) -> str:
    """Says which folders take the most of it."""
    sizes: Counter[str] = Counter()
    for path, file in tree.files.items():
        sizes["/".join(path.split("/")[:2])] += file.size
    large = ", ".join(f"{path} ({size / 2**20:.1f} MiB)" for path, size in sizes.most_common(3))
    return (
        f"the source of {unit.name} in {unit.path} is over {MAX_FILES} files or {MAX_BYTES >> 20} MiB; "
        f"the largest are {large}: move what the function does not need out of the package, or declare it "
        'with include_source=False and choose with Image.add_local_python_source("...", ignore=[...])'
    )

"""Where a module's files are, found as Python finds them: through the finders on `sys.meta_path`.

So editable installs (.pth files and finders), src layouts and namespace packages come out right. Nothing is
imported.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.machinery import ModuleSpec

#: Ours is in every container.
_OURS = frozenset({"squall", "__main__", "__future__"})


@dataclass(frozen=True)
class Unit:
    """What is sent as a whole: a module's file, or the folder of a package."""

    name: str
    path: str
    is_package: bool


def locate(name: str, *, installed: bool = False) -> Unit | None:
    """The unit that a dotted name belongs to; None if it is no source, or not the user's own.

    With `installed`, packages from site-packages count too.
    """
    top = name.partition(".")[0]
    if top in _OURS or (top in sys.stdlib_module_names and not installed):
        return None
    path: Iterable[str] | None = None
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        prefix = ".".join(parts[:end])
        spec = _spec(prefix, path)
        if spec is None:
            return None
        unit = _unit(prefix, spec)
        if unit is not None:
            return unit if installed or is_local(unit.path) else None
        if spec.submodule_search_locations is None:
            return None
        # A namespace package has no files of its own: look for what is in it.
        path = list(spec.submodule_search_locations)
    return None


def is_local(path: str) -> bool:
    """Whether a file or folder is the user's own, and neither Python's nor an installed package's."""
    real = os.path.realpath(path if os.path.isdir(path) else os.path.dirname(path))
    if {"site-packages", "dist-packages"} & set(real.split(os.sep)):
        return False
    return not any(real == folder or real.startswith(folder + os.sep) for folder in _python_folders())


@lru_cache(maxsize=1)
def _python_folders() -> tuple[str, ...]:
    import sysconfig

    paths = (sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib"))
    return tuple({os.path.realpath(path) for path in paths if path})


def _spec(name: str, path: Iterable[str] | None) -> ModuleSpec | None:
    """Of the module as loaded, else as it would be found."""
    loaded: Any = getattr(sys.modules.get(name), "__spec__", None)
    if loaded is not None and loaded.name == name:
        return loaded  # type: ignore[no-any-return]
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        try:
            spec: ModuleSpec | None = find(name, path, None) if find else None
        except (ImportError, AttributeError, KeyError, ValueError):
            continue  # a finder of somebody else's that wants the parent imported
        if spec is not None:
            return spec
    return None


def _unit(name: str, spec: ModuleSpec) -> Unit | None:
    origin = spec.origin or ""
    if not origin.endswith(".py") or not os.path.isfile(origin):
        return None
    if spec.submodule_search_locations is None:
        return Unit(name, origin, is_package=False)
    return Unit(name, os.path.dirname(origin), is_package=True)

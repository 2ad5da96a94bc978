"""The copy of the squall package, and of cloudpickle, that containers see: made once a version."""

from __future__ import annotations

import hashlib
import importlib.util
import marshal
import os
import shutil
from pathlib import Path

#: This package, wherever it is installed.
_PACKAGE = Path(__file__).parents[1]
_SKIP = shutil.ignore_patterns("__pycache__", "*.pyc")
#: Flags of a pyc file (PEP 552): valid whatever the time of its source, which never changes here.
_UNCHECKED_HASH = (1).to_bytes(4, "little")
#: Rooms that no container has a use for.
_OURS = frozenset({"server", "store", "scheduling", "build", "node", "runtime"})


def ensure(folder: Path) -> Path:
    """A folder for `sys.path`. Named by content: a changed installation gets another one. Raises OSError."""
    sources = _sources()
    target = folder / _digest(sources)
    if target.is_dir():
        return target
    temporary = folder / f".new-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name, source in sources.items():
        shutil.copytree(source, temporary / name, ignore=_ignore if name == "squall" else _SKIP)
    for path in temporary.rglob("*.py"):
        _compile(path)
    _open_up(temporary)
    try:
        os.rename(temporary, target)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        if not target.is_dir():
            raise
    return target


def _compile(path: Path) -> None:
    """Bytecode for containers that have this Python; they cannot write it, or on a full disk half."""
    source = path.read_bytes()
    code = compile(source, path.name, "exec", dont_inherit=True)
    compiled = Path(importlib.util.cache_from_source(str(path)))
    compiled.parent.mkdir(exist_ok=True)
    head = importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH + importlib.util.source_hash(source)
    compiled.write_bytes(head + marshal.dumps(code))


def _sources() -> dict[str, Path]:
    found = {"squall": _PACKAGE}
    spec = importlib.util.find_spec("cloudpickle")
    if spec is not None and spec.origin is not None:
        found["cloudpickle"] = Path(spec.origin).parent
    return found


def _ignore(folder: str, names: list[str]) -> set[str]:
    ignored = set(_SKIP(folder, names))
    if Path(folder) == _PACKAGE:
        ignored |= _OURS & set(names)
    return ignored


def _digest(sources: dict[str, Path]) -> str:
    digest = hashlib.sha256()
    for name, source in sources.items():
        for path in sorted(source.rglob("*.py")):
            relative = path.relative_to(source)
            if name == "squall" and relative.parts[0] in _OURS:
                continue
            digest.update(f"{name}/{relative}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _open_up(root: Path) -> None:
    """Containers run under other uids."""
    for folder, _, files in os.walk(root):
        Path(folder).chmod(0o755)
        for name in files:
            Path(folder, name).chmod(0o644)

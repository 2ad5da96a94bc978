"""What an import loads: `import squall` stays light, and the runner works under any Python we promise."""

from __future__ import annotations

import ast
import json
import subprocess
import sys

import pytest

import squall
from tests.house.source import SRC, Module, modules_below

#: What `import squall` alone may load besides itself, by top-level name (`_x` is CPython's affair).
BARE = frozenset({"importlib", "warnings"})

#: What the declaration of apps, functions and images may load in all: the standard library, and of it only
#: what is cheap. asyncio, subprocess, ssl, sqlite3, multiprocessing and the like load on first use.
DECLARING = BARE | {
    "abc", "ast", "bisect", "collections", "contextlib", "contextvars", "copy", "copyreg", "dataclasses",
    "dis", "enum", "errno", "fnmatch", "functools", "genericpath", "glob", "hashlib", "heapq", "inspect",
    "io", "ipaddress", "itertools", "keyword", "linecache", "math", "ntpath", "opcode", "operator", "os",
    "pathlib", "posixpath", "re", "reprlib", "stat", "string", "struct", "textwrap", "threading", "time",
    "token", "tokenize", "traceback", "types", "typing", "urllib", "weakref",
}  # fmt: skip

#: Standard modules that not every Python from 3.10 to 3.14 has.
NOT_EVERYWHERE = frozenset({
    "aifc", "annotationlib", "asynchat", "asyncore", "audioop", "binhex", "cgi", "cgitb", "chunk",
    "compression", "crypt", "distutils", "imghdr", "imp", "lib2to3", "mailcap", "msilib", "nis", "nntplib",
    "ossaudiodev", "pipes", "smtpd", "sndhdr", "spwd", "sunau", "telnetlib", "tomllib", "uu", "xdrlib",
})  # fmt: skip

PROBE = """
import sys, json
sys.path.insert(0, sys.argv[1])
before = set(sys.modules)
exec(sys.argv[2])
json.dump(sorted(set(sys.modules) - before), sys.stdout)
"""


def loaded_by(code: str) -> set[str]:
    """The modules that a statement loads in a fresh interpreter without site-packages and environment."""
    command = [sys.executable, "-I", "-S", "-c", PROBE, str(SRC), code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def tops(names: set[str]) -> set[str]:
    """Top-level names, without ours and without the private ones."""
    return {n.split(".")[0] for n in names if not n.startswith(("_", "squall"))}


def test_bare_import_loads_next_to_nothing() -> None:
    loaded = loaded_by("import squall")
    assert {n for n in loaded if n.startswith("squall")} == {"squall"}
    assert tops(loaded) <= BARE


def test_public_names_need_the_cheap_standard_library_only() -> None:
    loaded = loaded_by("import squall\nfor name in squall.__all__: getattr(squall, name)")
    assert tops(loaded) <= DECLARING


@pytest.mark.parametrize("name", squall.__all__)
def test_public_name_exists(name: str) -> None:
    assert getattr(squall, name) is not None
    assert name in dir(squall)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = squall.nonsense


def test_runner_loads_the_standard_library_only() -> None:
    loaded = loaded_by("import squall.runner")
    assert {n for n in loaded if n.startswith("squall.") and not n.startswith("squall.runner")} == set()
    assert tops(loaded) <= sys.stdlib_module_names
    assert "asyncio" not in loaded


@pytest.mark.parametrize("module", modules_below("squall.runner"), ids=str)
def test_runner_names_only_what_every_python_has(module: Module) -> None:
    named = {name for node in ast.walk(module.tree(minor=10)) for name in _imported(node)}
    assert named - {"squall"} <= sys.stdlib_module_names - NOT_EVERYWHERE


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name.split(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module.split(".")[0]]
    return []

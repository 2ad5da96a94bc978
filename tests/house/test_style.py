"""Files and functions stay small, modules say what they are for, and nothing is left for later."""

from __future__ import annotations

import ast
import re

import pytest

from tests.house.source import Module, modules

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 70
LEFTOVER = re.compile(r"\b(TODO|FIXME|XXX)\b|raise NotImplementedError")

every_module = pytest.mark.parametrize("module", modules(), ids=str)


@every_module
def test_file_is_small(module: Module) -> None:
    lines = len(module.path.read_text("utf-8").splitlines())
    assert lines <= MAX_FILE_LINES


@every_module
def test_functions_are_small(module: Module) -> None:
    functions = (n for n in ast.walk(module.tree()) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)))
    lengths = {f.name: (f.end_lineno or f.lineno) - f.lineno + 1 for f in functions}
    assert {name: n for name, n in lengths.items() if n > MAX_FUNCTION_LINES} == {}


@every_module
def test_module_says_what_it_is_for(module: Module) -> None:
    assert ast.get_docstring(module.tree())


@every_module
def test_nothing_is_left_for_later(module: Module) -> None:
    lines = enumerate(module.path.read_text("utf-8").splitlines(), 1)
    assert [f"{n}: {line.strip()}" for n, line in lines if LEFTOVER.search(line)] == []

"""The table of the public surface, docs/api.md: what works, by which test, and what the rest says when used.

`docs/api-names.json` lists the names and parameters. A test that shows one to work says so by
`@pytest.mark.covers("App.run", ...)`; a star stands for any part of a name. Of all others `use`, a line of
Python, is run and must raise an error of Squall's, or `absent` says why there is nothing to use.
"""

from __future__ import annotations

import ast
import fnmatch
import inspect
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest import mock

import squall
from squall.sdk import unavailable
from tests.house.source import ROOT

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ROOT / "docs" / "api-names.json"
TABLE = ROOT / "docs" / "api.md"

HEAD = """# The public surface

What of the interface of Modal's client, version 1.6, works in Squall (`import squall as modal`): apps,
functions and calls. Written by `scripts/api-table`; a test of the house holds it to the truth: "works" names
a test that uses the thing, and every error was raised by using it.
"""


@dataclass
class Entry:
    """A name of the surface. `tests` that show it to work, or the error that it raises."""

    name: str
    section: str
    use: str = ""
    absent: str = ""
    tests: list[str] = field(default_factory=list)
    error: str = ""

    @property
    def accounted(self) -> bool:
        return bool(self.tests or self.error or self.absent)


def entries(names: Path = NAMES, tests: Path = ROOT / "tests") -> list[Entry]:
    """All of them, each with its state."""
    found = [Entry(**each) for each in json.loads(names.read_text())]
    covered = markers(tests)
    for entry in found:
        matching = {test for pattern, test in covered if fnmatch.fnmatchcase(entry.name, escaped(pattern))}
        entry.tests = sorted(matching)
        if not entry.tests and entry.use:
            entry.error = error_of(entry.use)
    return found


def markers(tests: Path) -> list[tuple[str, str]]:
    """(pattern of names, test) of all marks, read from the syntax trees: no test is imported."""
    found: list[tuple[str, str]] = []
    for path in sorted(tests.rglob("test_*.py")):
        source = path.read_text("utf-8")
        if "mark.covers" not in source:
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                where = f"{path.relative_to(tests.parent).as_posix()}::{node.name}"
                found += [(pattern, where) for pattern in _patterns(node)]
    return found


def _patterns(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    calls = [d for d in function.decorator_list if isinstance(d, ast.Call)]
    return [
        argument.value
        for call in calls
        if ast.unparse(call.func) == "pytest.mark.covers"
        for argument in call.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    ]


def escaped(pattern: str) -> str:
    """Only the star is special."""
    return pattern.replace("[", "[[]").replace("?", "[?]")


def error_of(use: str) -> str:
    """The error of Squall's that this line raises, as a user sees it; empty where it raises none."""
    outside: dict[str, Any] = {"squall": squall}
    with mock.patch.dict(os.environ):
        os.environ.pop("SQUALL_IS_REMOTE", None)
        try:
            eval(use, outside)
        except squall.Error as error:
            kinds = [k.__name__ for k in type(error).__mro__ if k.__module__ == "squall.exception"]
            return f"{kinds[0]}: {error}"
        except Exception:
            return ""
    return ""


#: Names of the past only say what took their place (tests/sdk/test_unavailable.py).
FORMER = frozenset({"Cls.lookup", *(f"Function.{name}" for name in unavailable.FORMER_OF_FUNCTIONS)})
#: Public in the code's sense, for other rooms of Squall; no names that programs are written with.
_OURS = frozenset({
    *("App.end", "App.start", "App.running", "App.function_ids", "App.image", "App.include_source"),
    *("App.secrets", "App.registered_classes", "App.registered_entrypoints", "App.registered_functions"),
    *("Cls.app", "Cls.blueprint", "Cls.declared", "FunctionCall.access", "FunctionCall.object_id"),
    *("Function.class_spec", "Function.declaration", "Function.declared", "Function.entry", "Function.home"),
    *("Function.get_raw_f", "Function.serialized", "Function.sharing", "Function.to_serialize"),
    *("Function.where", "Secret.ref"),
})  # fmt: skip


def missing(found: list[Entry]) -> list[str]:
    """Names and optional parameters of the public classes' code that are in no row."""
    from squall.sdk.objects import Obj

    names = [entry.name for entry in found]
    owners: tuple[type, ...] = (
        squall.App,
        squall.Cls,
        squall.Function,
        squall.FunctionCall,
        Obj,
        squall.Secret,
    )
    lacking: list[str] = []
    for owner in owners:
        for attribute, value in sorted(vars(owner).items()):
            name = f"{owner.__name__}.{attribute}"
            if attribute.startswith("_") or name in _OURS or name in FORMER:
                continue
            if not any(each == name or each.startswith((f"{name}.", f"{name}(")) for each in names):
                lacking.append(name)
            lacking += [each for p in _optional(value) if (each := f"{name}({p})") not in names]
    return lacking


def _optional(value: Any) -> list[str]:
    """The parameters with defaults of a method; `flow` is what a dual one is made of."""
    function = getattr(value, "flow", getattr(value, "_flow", getattr(value, "__func__", value)))
    if not inspect.isfunction(function):
        return []
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.default is not p.empty and p.name != "without_parentheses"]


def unaccounted(found: list[Entry]) -> list[str]:
    return [entry.name for entry in found if not entry.accounted]


def unknown(found: list[Entry], tests: Path = ROOT / "tests") -> list[str]:
    """Patterns of marks that match no name."""
    names = [entry.name for entry in found]
    return [
        f"{test}: {pattern}"
        for pattern, test in markers(tests)
        if not fnmatch.filter(names, escaped(pattern))
    ]


def table(found: list[Entry]) -> str:
    lines = [HEAD]
    section = ""
    for entry in found:
        if entry.section != section:
            section = entry.section
            lines += [f"\n## {section}\n", "| name | state |", "|---|---|"]
        lines.append(f"| `{entry.name}` | {_state(entry)} |")
    works = sum(bool(entry.tests) for entry in found)
    lines.insert(1, f"{works} of {len(found)} names work.")
    return "\n".join(lines) + "\n"


def _state(entry: Entry) -> str:
    if entry.tests:
        more = f" and {len(entry.tests) - 1} more" if len(entry.tests) > 1 else ""
        return f"works: {entry.tests[0]}{more}"
    return _cell(entry.error or entry.absent)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main() -> None:
    """Write the table, and say what is missing from it."""
    found = entries()
    TABLE.write_text(table(found))
    for name in unaccounted(found):
        print(f"unaccounted: {name}")


if __name__ == "__main__":
    main()

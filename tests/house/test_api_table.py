"""Every name of the public surface works, by a test that says so, or raises a clear error."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.house import api_table

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def found() -> list[api_table.Entry]:
    return api_table.entries()


def test_no_name_is_unaccounted_for(found: list[api_table.Entry]) -> None:
    assert api_table.unaccounted(found) == [], (
        "these neither raise an error of Squall's when used, nor does a test show that they work: "
        'mark one with @pytest.mark.covers("NAME"), then run scripts/api-table'
    )


def test_marks_name_what_there_is(found: list[api_table.Entry]) -> None:
    assert api_table.unknown(found) == [], "no such name in docs/api-names.json"


def test_the_table_is_up_to_date(found: list[api_table.Entry]) -> None:
    assert api_table.TABLE.read_text() == api_table.table(found), "run scripts/api-table"


def test_names_are_listed_once(found: list[api_table.Entry]) -> None:
    names = [entry.name for entry in found]
    assert sorted(set(names)) == sorted(names)


def test_a_name_that_nothing_shows_to_work_is_caught(tmp_path: Path) -> None:
    names = tmp_path / "names.json"
    names.write_text(
        json.dumps(
            [
                {"name": "A(x)", "section": "s"},
                {"name": "B", "section": "s", "use": "squall.__version__"},
                {"name": "C", "section": "s", "use": "squall.App('two words')"},
                {"name": "D", "section": "s", "absent": "-"},
            ]
        )
    )
    tests = tmp_path / "tests"
    tests.mkdir()
    mark = "@pytest.mark.covers"
    (tests / "test_a.py").write_text(f"import pytest\n{mark}('A(*)')\ndef test_it(): pass\n")
    found = api_table.entries(names, tests)
    assert api_table.unaccounted(found) == ["B"]
    assert found[0].tests == ["tests/test_a.py::test_it"]
    assert found[2].error.startswith("InvalidError: 'two words' is no name for an app")
    (tests / "test_a.py").write_text(f"import pytest\n{mark}('Z')\ndef test_it(): pass\n")
    assert api_table.unknown(found, tests) == ["tests/test_a.py::test_it: Z"]
    assert "| `C` | InvalidError: 'two words'" in api_table.table(found)


def test_what_the_code_offers_is_in_the_table(found: list[api_table.Entry]) -> None:
    assert api_table.missing(found) == [], "add them to docs/api-names.json, then run scripts/api-table"


def test_a_parameter_that_the_table_lacks_is_caught(found: list[api_table.Entry]) -> None:
    fewer = [entry for entry in found if entry.name not in {"Function.map(kwargs)", "FunctionCall.get"}]
    fewer = [entry for entry in fewer if not entry.name.startswith("FunctionCall.get(")]
    assert {"Function.map(kwargs)", "FunctionCall.get", "FunctionCall.get(index)"} <= set(
        api_table.missing(fewer)
    )

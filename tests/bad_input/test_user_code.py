"""Wrong parameters, wrong arguments, files that do not import: told before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.bad_input.conftest import Desk

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ("gpus='H100'", "@app.function has no parameter gpus=: did you mean gpu=? (bad.py:3)"),
        ("timeout='long'", "timeout='long' is not possible: give a whole number of seconds from 1 to 86400"),
        ("timeout=0", "timeout=0 is not possible: give a whole number of seconds from 1 to 86400"),
        ("cpu=-1", "cpu=-1 is not possible: give a number of cores from 0.001 to 1000"),
        ("cpu=(2, 1)", "cpu=(2, 1) is not possible: the limit is below the request"),
        ("memory=1.5", "memory=1.5 is not possible: give a whole number of MiB"),
        ("gpu='two big ones'", "gpu='two big ones' is not possible: give a type and a count"),
        ("gpu='H100:9'", "gpu='H100:9' is not possible: one container can have 1 to 8 of H100"),
        ("gpu=1", "gpu=1 is not possible: give a text, or a list of texts"),
        ("retries=99", "retries=99 is not possible: give a whole number from 0 to 10"),
        ("max_containers=1, min_containers=2", "max_containers=1 is not possible: min_containers=2 is more"),
        ("env={'A': 1}", "env={'A': 1} is not possible: give names and texts"),
        ("name='a b'", "'a b' is no name for a function: use letters, digits"),
        ("image='debian'", "image='debian' is not possible"),
        ("volumes={'/data': 1}", "volumes= is not in this version"),
    ],
)
def test_a_wrong_parameter(user: Desk, parameters: str, told: str) -> None:
    line = user.refused("run", user.app(f"@app.function({parameters})\ndef f(): pass\n"))
    assert told in line
    assert line.endswith("(bad.py:3)")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "--nope", "good.py"], "--nope is no Python file: name one, or a module with -m."),
        (["run", "good.py", "--nope", "1"], "No such option '--nope'. See `squall run good.py --help`."),
        (["run", "good.py", "--x", "five"], "Invalid value for '--x': 'five' is not a valid integer."),
        (["run", "good.py", "surplus"], "Got unexpected extra argument (surplus)"),
        (["run"], "Missing argument 'TARGET'. See `squall run --help`."),
        (["run", "good.py::nothing"], "good.py has no function nothing; it has main, increment."),
        (["run", "nowhere"], "nowhere is no Python file: name one, or a module with -m."),
        (["nope"], "No such command 'nope'."),
        (["app", "logs", "-n", "few", "good"], "Invalid value for '-n' / '--tail': 'few' is not a valid"),
        (["deploy", "good.py::other"], "good.py has no app other; it has app."),
        (["daemon", "start", "--listen", "here"], "'here' is not HOST:PORT, such as 0.0.0.0:8400."),
        (["daemon", "start", "--gpus", "H100:x"], "'H100:x' is not TYPE or TYPE:COUNT, such as H100:8."),
        (["node", "--token", "x"], "Missing option '--server'"),
    ],
)
def test_a_wrong_command_line(user: Desk, arguments: list[str], told: str) -> None:
    assert told in user.refused(*arguments, code=2)


def test_a_missing_argument(user: Desk) -> None:
    file = user.app("@app.local_entrypoint()\ndef main(count: int): pass\n")
    assert "Missing option '--count'" in user.refused("run", file, code=2)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("def f(:\n", "SyntaxError: invalid syntax (bad.py, line 3)"),
        ("import no_such_thing\n", "ModuleNotFoundError: No module named 'no_such_thing' (if only the image"),
        ("from os import no_such_thing\n", "ImportError: cannot import name 'no_such_thing' from 'os'"),
        ("def helper():\n    raise ValueError('bad day')\nhelper()\n", "ValueError: bad day"),
        ("raise SystemExit('no')\n", "SystemExit: no"),
    ],
)
def test_a_file_that_does_not_import(user: Desk, source: str, told: str) -> None:
    said = user.squall("run", user.app(source))
    assert said.code == 1
    *theirs, last = said.err.splitlines()
    assert last.startswith("squall: bad.py cannot be imported: ")
    assert told in last
    assert 'bad.py", line ' in "\n".join(theirs)
    assert all("bad.py" in line for line in theirs if line.startswith("  File")), said.err


@pytest.mark.parametrize(
    ("source", "code", "told"),
    [
        (None, 1, "There is no file absent.py."),
        (
            "x = 1\n",
            2,
            "absent.py has nothing to run: declare an @app.function() or @app.local_entrypoint().",
        ),
        (
            (
                "import squall\napp = squall.App('a')\n"
                "@app.local_entrypoint()\ndef a(): pass\n@app.local_entrypoint()\ndef b(): pass\n"
            ),
            2,
            "absent.py has several to run, name one: absent.py::a. There are a, b.",
        ),
    ],
)
def test_nothing_or_too_much_to_run(user: Desk, source: str | None, code: int, told: str) -> None:
    (user.folder / "absent.py").unlink(missing_ok=True)
    if source is not None:
        user.file("absent.py", source)
    assert told in user.refused("run", "absent.py", code=code)


def test_a_deploy_without_an_app_or_a_name(user: Desk) -> None:
    user.file("none.py", "import squall\n")
    assert 'none.py has no app: write app = squall.App("name").' in user.refused("deploy", "none.py", code=2)
    user.file("unnamed.py", "import squall\napp = squall.App()\n@app.function()\ndef f(): pass\n")
    assert 'an app needs a name to be deployed: App("..."), or name=' in user.refused("deploy", "unnamed.py")
    line = user.refused("deploy", "good.py", "--name", "not a name")
    assert "'not a name' is no name for an app: use up to 64 letters" in line

"""`squall run` and `squall deploy`, with a server in memory: arguments, output, errors, exit codes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

import squall.cli
from squall.client.api import ServiceRefusal
from squall.sdk import handles, modes, tracing
from squall.wire.messages import Logs, Notice
from squall.wire.values import LogItem
from tests.house.source import ROOT, SRC
from tests.sdk.fake_client import FakeClient, FakeServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from click.testing import Result

HEAD = "from __future__ import annotations\nimport squall\napp = squall.App('cli-example')\n"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    server = FakeServer()
    monkeypatch.setattr("squall.client.connect.connect", lambda **_: FakeClient(server))
    monkeypatch.setattr(modes, "_clients", {})
    monkeypatch.setattr(handles.OfContainer, "_functions", None)
    for name in ("SQUALL_IS_REMOTE", "SQUALL_TRACEBACK"):
        monkeypatch.delenv(name, raising=False)
    return server


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Writes a user's file; modules and paths that the command adds are taken out again."""
    modules = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)

    def write(source: str, name: str = "cli_example.py") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HEAD + textwrap.dedent(source))
        return name

    yield write
    for name in set(sys.modules) - modules:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(tmp_path)):
            del sys.modules[name]


def squall_(*args: str) -> Result:
    return CliRunner().invoke(squall.cli.main, args)


MAIN = """
    @app.function()
    def double(x: int) -> int:
        return 2 * x

    @app.local_entrypoint()
    def main(x: int = 3):
        print("result", double.remote(x))
    """


def test_the_only_entrypoint_runs(server: FakeServer, write: Callable[[str], str]) -> None:
    result = squall_("run", write(MAIN), "--x", "5")
    assert (result.exit_code, result.stdout) == (0, "result 10\n")
    (app,) = server.apps.values()
    assert app.name == "cli-example"
    assert app.stopped


def test_a_function_by_its_name(server: FakeServer, write: Callable[[str], str]) -> None:
    assert squall_("run", write(MAIN) + "::double", "--x", "4").stdout == "8\n"
    assert squall_("run", "cli_example.py::app.double", "--x", "4").stdout == "8\n"


MODEL = """
    @app.cls()
    class Model:
        size: str = squall.parameter()
        loud: bool = squall.parameter(default=False)
        key: bytes = squall.parameter(default=b"")

        @squall.method()
        def predict(self, x: int, times: int = 1):
            '''Says it.'''
            return [self.size, self.loud, x * times]

        @squall.method()
        def count(self, n: int):
            yield from range(n)

        @squall.method()
        def clash(self, size: int): pass

    @app.cls()
    class Single:
        @squall.method()
        def only(self, *names: str): return names
    """


def test_a_method_with_the_parameters_of_its_class(server: FakeServer, write: Callable[[str], str]) -> None:
    file = write(MODEL)
    result = squall_("run", f"{file}::Model.predict", "--size", "m", "--loud", "--x", "2", "--times", "3")
    assert (result.exit_code, result.stdout) == (0, "['m', True, 6]\n")
    assert (
        squall_("run", f"{file}::app.Model.predict", "--size", "m", "--x", "2").stdout == "['m', False, 2]\n"
    )
    assert squall_("run", f"{file}::Model.count", "--size", "m", "--n", "2").stdout == "0\n1\n"
    assert squall_("run", f"{file}::Single", "a", "b").stdout == "('a', 'b')\n"
    told = squall_("run", f"{file}::Model.predict", "--help").stdout
    assert all(word in told for word in ("Says it.", "--size TEXT", "--x INTEGER", "--loud"))
    assert "--key" not in told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["::Model.predict", "--x", "1"], "Missing option '--size'"),
        (["::Model.clash", "--size", "1"], "Model and clash both have a parameter size"),
        (["::Model"], "has no function Model; it has Model.predict, Model.count, Model.clash, Single.only"),
        ([], "has several to run"),
    ],
)
def test_methods_that_cannot_be_run(
    server: FakeServer, write: Callable[[str], str], arguments: list[str], said: str
) -> None:
    file = write(MODEL)
    result = squall_("run", file + "".join(arguments[:1]), *arguments[1:])
    assert result.exit_code == 2
    assert said in result.stderr
    assert server.apps == {}


def test_a_generator_prints_its_values(server: FakeServer, write: Callable[[str], str]) -> None:
    file = write("@app.function()\ndef gen(n: int):\n    yield from range(n)\n")
    assert squall_("run", file, "--n", "3").stdout == "0\n1\n2\n"


def test_a_module(server: FakeServer, write: Callable[..., str]) -> None:
    write("from . import more\n" + textwrap.dedent(MAIN), "cli_pkg/jobs.py")
    write("", "cli_pkg/__init__.py")
    write("", "cli_pkg/more.py")
    assert squall_("run", "-m", "cli_pkg.jobs::double", "--x", "1").stdout == "2\n"
    (app,) = server.apps.values()
    assert app.specs["double"].module == "cli_pkg.jobs"


def test_a_file_inside_a_package_is_a_module_of_it(server: FakeServer, write: Callable[..., str]) -> None:
    write("", "cli_pkg_b/__init__.py")
    write("", "cli_pkg_b/more.py")
    file = write("from . import more\n" + textwrap.dedent(MAIN), "cli_pkg_b/jobs.py")
    assert squall_("run", file).stdout == "result 6\n"
    (app,) = server.apps.values()
    assert app.specs["double"].module == "cli_pkg_b.jobs"


def test_asynchronous_entrypoints(server: FakeServer, write: Callable[[str], str]) -> None:
    file = write("@app.local_entrypoint()\nasync def main():\n    print('here')\n")
    assert squall_("run", file).stdout == "here\n"


ARGUMENTS = """
    import datetime, enum, pathlib
    from typing import List, Literal, Optional

    class Color(enum.Enum):
        RED = 1

    @app.local_entrypoint()
    def main(
        text: str, n: int = 1, f: float = 0.5, flag: bool = False, maybe: Optional[int] = None,
        pick: Literal["a", "b"] = "a", when: datetime.datetime | None = None, day: datetime.date = None,
        many: list[int] = [], path: pathlib.Path = pathlib.Path("."), color: Color = Color.RED,
        bare=7, two_words: str = "",
    ):
        '''Says what it got.'''
        year = when and when.year
        print([text, n, f, flag, maybe, pick, year, day, many, str(path), color.name, bare, two_words])
    """


def test_arguments_by_annotation(server: FakeServer, write: Callable[[str], str]) -> None:
    file = write(ARGUMENTS)
    assert squall_("run", file, "--text", "x").stdout == (
        "['x', 1, 0.5, False, None, 'a', None, None, [], '.', 'RED', 7, '']\n"
    )
    given = (
        "--text x --n 2 --f 2 --flag --maybe 3 --pick b --when 2026-01-02 --day 2026-01-02 --many 1 --many 2 "
        "--path /a --color RED --bare 8 --two-words w"
    )
    assert squall_("run", file, *given.split()).stdout == (
        "['x', 2, 2.0, True, 3, 'b', 2026, datetime.date(2026, 1, 2), [1, 2], '/a', 'RED', 8, 'w']\n"
    )
    assert squall_("run", file, "--text", "x", "--two_words", "v", "--no-flag").stdout.endswith("'v']\n")


def test_help_shows_the_arguments(server: FakeServer, write: Callable[[str], str]) -> None:
    result = squall_("run", write(ARGUMENTS), "--help")
    assert result.exit_code == 0
    for text in (
        "Says what it got.",
        "--text TEXT",
        "[required]",
        "--flag / --no-flag",
        "--pick [a|b]",
        "[default: 1]",
    ):
        assert text in re.sub(r"\s+", " ", result.stdout), text
    assert not server.apps


def test_variable_arguments(server: FakeServer, write: Callable[[str], str]) -> None:
    file = write("@app.local_entrypoint()\ndef main(n: int, *rest: str):\n    print(n, rest)\n")
    assert squall_("run", file, "--n", "1", "a", "b").stdout == "1 ('a', 'b')\n"


@pytest.mark.parametrize(
    ("source", "args", "message"),
    [
        (MAIN, ["--x", "five"], "'five' is not a valid integer"),
        (MAIN, ["--y", "5"], "No such option"),
        ("@app.local_entrypoint()\ndef main(x: dict): pass\n", [], "The parameter x: dict cannot be given"),
        ("@app.local_entrypoint()\ndef main(**x): pass\n", [], "The parameter **x cannot be given"),
        ("@app.local_entrypoint()\ndef main(x: int): pass\n", [], "Missing option '--x'"),
        ("", [], "has nothing to run"),
        ("@app.function()\ndef f(): pass\n@app.function()\ndef g(): pass\n", [], "There are f, g."),
    ],
)
def test_wrong_use_is_told_before_anything_runs(
    server: FakeServer, write: Callable[[str], str], source: str, args: list[str], message: str
) -> None:
    result = squall_("run", write(source), *args)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not server.requests


def test_an_unknown_name(server: FakeServer, write: Callable[[str], str]) -> None:
    result = squall_("run", write(MAIN) + "::nothing")
    assert (result.exit_code, "has no function nothing; it has main, double" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("target", "code", "message"),
    [
        ("nowhere.py", 1, "There is no file nowhere.py."),
        ("nowhere", 2, "nowhere is no Python file"),
        ("::f", 2, "Name a file"),
    ],
)
def test_a_file_that_is_not_there(
    server: FakeServer, write: Callable[[str], str], target: str, code: int, message: str
) -> None:
    result = squall_("run", target)
    assert (result.exit_code, message in result.stderr) == (code, True)


def test_one_colon_in_place_of_two(server: FakeServer, write: Callable[[str], str]) -> None:
    result = squall_("run", write(MAIN) + ":double")
    assert "cli_example.py:double has one colon, and it takes two: cli_example.py::double." in result.stderr


def test_a_file_with_the_name_of_a_loaded_module(server: FakeServer, write: Callable[..., str]) -> None:
    result = squall_("run", write(MAIN, "json.py"))
    assert result.exit_code == 1
    assert "json.py has the name of another module, json, that is loaded already: rename it" in result.stderr


def test_a_file_that_does_not_import(server: FakeServer, write: Callable[[str], str]) -> None:
    result = squall_("run", write("def helper():\n    return 1 / 0\nhelper()\n"))
    lines = result.stderr.splitlines()
    assert result.exit_code == 1
    assert lines[-1] == "squall: cli_example.py cannot be imported: ZeroDivisionError: division by zero"
    files = [line.split('"')[1] for line in lines if line.startswith("  File")]
    assert [os.path.basename(f) for f in files] == ["cli_example.py", "cli_example.py"]


def test_a_missing_package_here(server: FakeServer, write: Callable[[str], str]) -> None:
    result = squall_("run", write("import a_missing_package.sub\n"))
    assert result.stderr.splitlines()[-1].startswith(
        "squall: cli_example.py cannot be imported: ModuleNotFoundError: No module named "
        "'a_missing_package' (if only"
    )


def test_what_lies_in_the_current_folder_is_found(server: FakeServer, write: Callable[..., str]) -> None:
    write("", "cli_lib/__init__.py")
    write("FACTOR = 4", "cli_lib/factors.py")
    source = "from cli_lib.factors import FACTOR\n" + textwrap.dedent(MAIN)
    assert squall_("run", write(source, "cli_jobs/train.py")).stdout == "result 6\n"
    (app,) = server.apps.values()
    assert app.specs["double"].module == "train"


def test_a_missing_part_of_a_package_of_ones_own(server: FakeServer, write: Callable[..., str]) -> None:
    write("", "cli_lib_b/__init__.py")
    told = squall_("run", write("import cli_lib_b.gone\n")).stderr.splitlines()[-1]
    assert told.endswith(
        f"(cli_lib_b is found in {os.getcwd()}/cli_lib_b, and has no such module: a slip of the pen, or "
        "another cli_lib_b?)"
    )


def test_a_package_of_ones_own_that_lies_elsewhere(
    server: FakeServer, write: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write("", "cli_lib_c/__init__.py")
    write("import cli_lib_c\n", "cli_jobs_c/sub/train.py")
    monkeypatch.chdir(tmp_path / "cli_jobs_c")
    told = squall_("run", "sub/train.py").stderr.splitlines()[-1]
    assert told.endswith(f"(there is {tmp_path}/cli_lib_c: run it from {tmp_path}, or install it here)")


def test_a_relative_import_without_a_package(server: FakeServer, write: Callable[..., str]) -> None:
    told = squall_("run", write("from . import more\n")).stderr.splitlines()[-1]
    assert told.endswith(
        "(a relative import needs an __init__.py beside the file, or `squall run -m PACKAGE.MODULE`)"
    )


def test_a_wrong_parameter_shows_its_line(server: FakeServer, write: Callable[[str], str]) -> None:
    result = squall_("run", write("@app.function(gpus='H100')\ndef f(): pass\n"))
    assert result.stderr == (
        "squall: @app.function has no parameter gpus=: did you mean gpu=? (cli_example.py:4)\n"
    )


FAILING = """
    @app.function()
    def fail():
        raise LookupError("no such thing")

    @app.local_entrypoint()
    def main():
        fail.remote()
    """


def test_an_exception_shows_the_users_frames_only(server: FakeServer, write: Callable[[str], str]) -> None:
    result = squall_("run", write(FAILING))
    assert (result.exit_code, result.stdout) == (1, "")
    lines = result.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    files = [line for line in lines if line.startswith("  File") and "fake_client" not in line]
    assert [line.split(", in ")[1] for line in files] == ["main", "fail"]
    assert all("cli_example.py" in line for line in files)
    assert lines[-2:] == ['    raise LookupError("no such thing")', "LookupError: no such thing"]
    (app,) = server.apps.values()
    assert app.stopped


def test_of_a_function_run_directly_the_remote_traceback_is_all(
    server: FakeServer, write: Callable[[str], str]
) -> None:
    lines = squall_("run", write(FAILING) + "::fail").stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "LookupError: no such thing"
    assert sum(line.startswith("LookupError") for line in lines) == 1


def test_all_frames_on_demand(
    server: FakeServer, write: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQUALL_TRACEBACK", "1")
    assert "squall/sdk/invocation.py" in squall_("run", write(FAILING)).stderr


def test_the_program_may_choose_its_exit_code(server: FakeServer, write: Callable[[str], str]) -> None:
    result = squall_("run", write("@app.local_entrypoint()\ndef main():\n    raise SystemExit(7)\n"))
    assert result.exit_code == 7


def test_ctrl_c_stops_the_app(server: FakeServer, write: Callable[[str], str]) -> None:
    result = squall_("run", write("@app.local_entrypoint()\ndef main():\n    raise KeyboardInterrupt\n"))
    assert result.exit_code == 130
    assert "Traceback" not in result.stderr
    (app,) = server.apps.values()
    assert app.stopped


def test_a_refusal_is_one_line(server: FakeServer, write: Callable[[str], str]) -> None:
    server.refusals["app.create"] = ServiceRefusal("auth", "no such token")
    result = squall_("run", write(MAIN))
    assert (result.exit_code, result.stderr) == (1, "squall: no such token\n")


def test_a_failed_build_shows_its_last_lines(server: FakeServer, write: Callable[[str], str]) -> None:
    server.refusals["image.ensure"] = ServiceRefusal(
        "build", "step 1 (pip) failed with 1\nERROR: no magica\nbye"
    )
    result = squall_("run", "-q", write(MAIN))
    assert result.exit_code == 1
    assert result.stderr.splitlines() == ["ERROR: no magica", "bye", "squall: step 1 (pip) failed with 1"]


def test_logs_are_labelled(
    server: FakeServer, write: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = FakeClient(server)
    monkeypatch.setattr("squall.client.connect.connect", lambda **_: client)

    def follow(body: Any) -> Any:
        assert client.watch.logs is not None
        assert client.watch.notice is not None
        client.watch.logs(
            Logs(
                body.app,
                [
                    LogItem("ct-1a2b3c", "f", 1, b"to out\n", 0.0),
                    LogItem("ct-1a2b3c", "f", 2, b"to err", 0.0),
                ],
            )
        )
        client.watch.notice(Notice(body.app, "waits"))
        return FakeServer._logs_follow(server, body)

    monkeypatch.setattr(server, "_logs_follow", follow)
    result = squall_("run", write(MAIN))
    assert result.stdout == "f ct-1a2b | to out\nresult 6\n"
    assert result.stderr == "squall: waits\nf ct-1a2b | to err\n"
    assert squall_("run", "-q", "cli_example.py").stderr == "f ct-1a2b | to err\n"
    assert re.match(
        r"\d\d:\d\d:\d\d f ct-1a2b \| to out\n", squall_("run", "--timestamps", "cli_example.py").stdout
    )


def test_trace_prints_each_hop(server: FakeServer, write: Callable[[str], str]) -> None:
    lines = squall_("run", "-q", "--trace", write(MAIN)).stderr.splitlines()
    assert re.fullmatch(r"trace fc-[0-9a-f]+:0 \(warm\)", lines[0])
    assert lines[1].split() == ["hop", "process", "offset", "ms", "delta", "ms"]
    hops = ["sdk.call", "sdk.serialized", "client.send", "sdk.result"]
    assert [line.split()[:2] for line in lines[2:6]] == [[hop, "program"] for hop in hops]
    assert lines[2].split()[2:] == ["0.000", "0.000"]
    assert len({len(line) for line in lines[1:6]}) == 1, "the columns are aligned"
    assert tracing.sink is None


def test_results_are_written(server: FakeServer, write: Callable[[str], str], tmp_path: Path) -> None:
    file = write(
        "@app.function()\ndef text(): return 'hi'\n@app.function()\ndef data(): return b'\\x00'\n"
        "@app.function()\ndef number(): return 1\n"
    )
    assert squall_("run", "-w", "out.txt", file + "::text").stdout == ""
    assert (tmp_path / "out.txt").read_text() == "hi"
    assert squall_("run", "-w", "out.bin", file + "::data").exit_code == 0
    assert (tmp_path / "out.bin").read_bytes() == b"\x00"
    assert squall_("run", "-w", "-", file + "::text").stdout == "hi"
    assert "takes text or bytes, and number gave int" in squall_("run", "-w", "x", file + "::number").stderr
    assert (
        "cannot write the result to /nowhere/x" in squall_("run", "-w", "/nowhere/x", file + "::text").stderr
    )


def test_detached_with_a_name(server: FakeServer, write: Callable[[str], str]) -> None:
    assert squall_("run", "-d", "-n", "night", write(MAIN)).exit_code == 0
    (app,) = server.apps.values()
    assert (app.name, app.detach, app.stopped) == ("night", True, False)
    assert "interactive" in squall_("run", "-i", "cli_example.py").stderr


def test_the_environment(
    server: FakeServer, write: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def connect(environment: str = "") -> FakeClient:
        asked.append(environment)
        return FakeClient(server)

    monkeypatch.setattr("squall.client.connect.connect", connect)
    squall_("run", "-e", "staging", write(MAIN))
    squall_("run", "cli_example.py")
    assert asked == ["staging", ""]


def test_deploy(server: FakeServer, write: Callable[[str], str]) -> None:
    result = squall_("deploy", write(MAIN))
    assert result.exit_code == 0
    assert result.stdout.splitlines()[:2] == ["Deployed cli-example, version 1:", "  double  fu-ap-0-double"]
    assert squall_("deploy", "--name", "other", "cli_example.py::app").stdout.startswith(
        "Deployed other, version 1:"
    )
    assert squall_("deploy", "-m", "cli_example::cli-example").stdout.startswith(
        "Deployed cli-example, version 2:"
    )
    assert "has no app nothing" in squall_("deploy", "cli_example.py::nothing").stderr
    assert squall_("deploy", "--strategy", "recreate", "--tag", "v3", "cli_example.py").exit_code == 0
    assert (server.published[-1].strategy, server.published[-1].tag) == ("recreate", "v3")


@pytest.mark.covers("App.local_entrypoint(name)")
def test_of_several_apps_the_one_that_is_named(server: FakeServer, write: Callable[[str], str]) -> None:
    file = write(
        """
        other = squall.App("second")

        def declare(app, name):
            @app.function(name="f", serialized=True)
            def f():
                return name

            @app.local_entrypoint(name="main")
            async def main():
                print("async", await f.remote.aio())

        declare(app, "one")
        declare(other, "two")
        """
    )
    assert squall_("run", file + "::other.f").stdout == "'two'\n"
    assert squall_("run", file + "::app.f").stdout == "'one'\n"
    assert squall_("run", file + "::cli-example.f").stdout == "'one'\n"
    assert [app.name for app in server.apps.values()] == ["second", "cli-example", "cli-example"]
    assert squall_("run", file + "::second.nothing").stderr.endswith(
        "has no function nothing; it has main, f.\n"
    )


def test_deploy_chooses_among_apps(server: FakeServer, write: Callable[..., str]) -> None:
    write("other = squall.App('other')\n", "two_apps.py")
    assert squall_("deploy", "two_apps.py").stdout.startswith("Deployed cli-example")
    write("one = squall.App('one')\nother = squall.App('other')\ndel app\n", "no_default.py")
    assert "has several apps: say which, of one, other" in squall_("deploy", "no_default.py").stderr
    write("del app\n", "no_app.py")
    assert "has no app" in squall_("deploy", "no_app.py").stderr


def test_ctrl_c_for_real(tmp_path: Path) -> None:
    """In a process of its own, by a signal: quiet, and exit status 130."""
    code = f"""
import sys
sys.path[:0] = [{str(SRC)!r}, {str(ROOT)!r}]
import squall.client.connect
from tests.sdk.fake_client import FakeClient, FakeServer
server = FakeServer()
server.paused = True
squall.client.connect.connect = lambda **_: FakeClient(server)
import squall.cli
squall.cli.main(["run", "forever.py"])
"""
    main = "@app.local_entrypoint()\ndef main():\n    print('up', flush=True)\n    f.remote()\n"
    (tmp_path / "forever.py").write_text(HEAD + "@app.function()\ndef f(): pass\n" + main)
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in stderr

"""The commands against a scripted server: what they print, and how they end."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

import squall.cli
from squall import exception
from squall.client import daemon_record
from squall.client.daemon_record import DaemonRecord, Process
from squall.wire import codec, control
from squall.wire import messages as m
from squall.wire import secrets as wire_secrets
from squall.wire.values import ClassSpec, LogItem, MethodSpec
from tests.client.fake_server import FakeServer, Peer
from tests.house.source import SRC

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

ANSWERS: dict[str, Any] = {
    "status": control.Status(
        "0.1",
        1,
        "default",
        "main",
        [control.NodeInfo("no-1", "ready", 8000, 1024, {"H100": 8}, "process", ["no isolation"], 2)],
        3,
        2,
        1,
        elsewhere=control.Counts(1, 2, 0),
    ),
    "app.list": control.AppList(
        [control.AppInfo("ap-1", "hello", "deployed", 1e9, 4, 2, tags={"team": "a"})]
    ),
    "app.stop": control.Empty(),
    "container.list": control.ContainerList(
        [control.ContainerInfo("ct-1", "f", "f", "no-1", "ready", 1e9, 1, 2.5, 64 << 20)]
    ),
    "secret.put": wire_secrets.SecretInfo("st-1", "db", 1, ["PASSWORD", "USER"]),
    "secret.list": wire_secrets.SecretList(
        [wire_secrets.SecretInfo("st-1", "db", 2, ["PASSWORD"], 1e9, 1e9)]
    ),
    "secret.delete": control.Empty(),
    "secret.rotate": wire_secrets.Count(3),
    "logs.fetch": control.LogsFetched([("ct-1", "f", 1, b"out\n", 0.0), ("ct-1", "f", 2, b"err\n", 0.0)]),
    "app.history": control.AppHistory([control.AppVersion(2, 0.0, "v2", ["f", "g"])]),
    "app.rollback": control.AppPublished("ap-1", {"f": "fu-1"}, 3),
    "function.lookup": control.FunctionInfo("fu-1", "ap-1", "f", version=4),
    "function.stats": control.Stats({"ok": 8, "failed": 2}, 5.0, 2.0, 4, 1),
    "call.list": control.CallList([control.CallSummary("fc-1", "map", "running", 0.0, 9, 3, durable=True)]),
    "logs.read": control.LogsPage([LogItem("ct-1", "f", 1, b"of f\n", 0.0)], 0, live=False),
    "container.stop": control.Empty(),
    "token.new": control.TokenCreated("default", "sq-secret"),
    "workspace.create": control.TokenCreated("team", "sq-secret"),
    "session.close": control.Empty(),
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeServer]:
    server = FakeServer()
    monkeypatch.setenv("SQUALL_SERVER_URL", server.start().address)
    monkeypatch.setenv("SQUALL_STATE", str(tmp_path))
    monkeypatch.delenv("SQUALL_TRACEBACK", raising=False)

    def answer(peer: Peer, request: m.Request) -> None:
        if request.method in ANSWERS:
            peer.send(m.Response(request.id, codec.pack(ANSWERS[request.method])))
        else:
            peer.send(m.Failure(request.id, "not_found", f"There is no {request.method} here."))

    server.on[m.Request] = answer
    yield server
    server.stop()


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(squall.cli.main, list(arguments))
    assert result.exit_code == code, (result.output, result.exception)
    return result


def asked(server: FakeServer) -> m.Request:
    request: m.Request = next(r for r in server.of(m.Request) if r.method != "session.close")
    return request


def test_status(server: FakeServer) -> None:
    text = run("status").output
    assert (
        "Elsewhere:      1 app, 2 containers and 0 waiting inputs of other environments and workspaces"
        in text
    )
    assert "Workspace:      default" in text
    assert "Waiting inputs: 1" in text
    assert "H100:8" in text
    assert "no-1: no isolation" in text
    assert json.loads(run("status", "--json").output)["nodes"][0]["gpus"] == {"H100": 8}


def test_app_list(server: FakeServer) -> None:
    head, row = run("app", "list").output.splitlines()
    assert head.split() == ["App", "Name", "State", "Containers", "Version", "Created"]
    assert row.split()[:5] == ["ap-1", "hello", "deployed", "2", "4"]
    assert json.loads(run("app", "list", "--json").output)[0]["name"] == "hello"


def test_an_empty_list_is_said(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ANSWERS, "app.list", control.AppList([]))
    assert run("app", "list").output == "No apps.\n"
    assert json.loads(run("app", "list", "--json").output) == []


def test_app_stop(server: FakeServer) -> None:
    assert run("app", "stop", "hello").output == "Stopped hello.\n"
    assert codec.unpack(asked(server).body, control.AppRef) == control.AppRef("hello")


class Terminal(io.BytesIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("command", [("app", "stop", "hello"), ("container", "stop", "ct-1")])
def test_on_a_terminal_it_asks_before_it_stops_something(
    server: FakeServer, command: tuple[str, ...]
) -> None:
    def answered(answer: bytes, *more: str) -> int:
        return CliRunner().invoke(squall.cli.main, [*command, *more], input=Terminal(answer)).exit_code

    assert answered(b"n\n") == 130
    assert [r.method for r in server.of(m.Request)] == []
    assert answered(b"y\n") == answered(b"", "-y") == 0
    stops = [r.method for r in server.of(m.Request) if r.method.endswith(".stop")]
    assert stops == [f"{command[0]}.stop"] * 2


@pytest.mark.parametrize(
    "command",
    [
        "app list", "app stop hello", "app logs hello", "app history hello", "app rollback hello",
        "container list", "function info hello::f", "function calls hello::f", "function logs hello::f",
    ],
)  # fmt: skip
def test_another_environment(server: FakeServer, command: str) -> None:
    run(*command.split(), "-e", "staging")
    assert [hello.environment for hello in server.of(m.Hello)] == ["staging"]


def test_containers_of_one_app(server: FakeServer) -> None:
    assert "ct-1" in run("container", "list", "--app-id", "f").output
    assert run("container", "list", "--app-id", "ap-2").output == "No containers.\n"


def test_app_logs(server: FakeServer) -> None:
    result = run("app", "logs", "hello", "-n", "7")
    assert (result.stdout, result.stderr) == ("out\n", "err\n")
    assert codec.unpack(asked(server).body, control.LogsFetch) == control.LogsFetch("hello", 7)


def test_app_logs_follow_until_ctrl_c(server: FakeServer, tmp_path: Path) -> None:
    def answer(peer: Peer, request: m.Request) -> None:
        body = ANSWERS.get(request.method, control.Empty())
        peer.send(m.Response(request.id, codec.pack(body)))
        if request.method == "logs.follow":
            items = [LogItem("ct-1", "f", 1, b"live\n", 0.0, dropped=9)]
            peer.send(m.Logs("ap-1", items))

    server.on[m.Request] = answer
    command = [sys.executable, "-m", "squall", "app", "logs", "-f", "hello"]
    environ = {**os.environ, "PYTHONPATH": str(SRC)}
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as p:
        assert p.stdout is not None
        assert [p.stdout.readline(), p.stdout.readline()] == ["out\n", "live\n"]
        p.send_signal(signal.SIGINT)
        _, errors = p.communicate(timeout=20)
    assert p.returncode == 130
    assert "[dropped 9 lines]" in errors
    assert "Traceback" not in errors


def test_container_list(server: FakeServer) -> None:
    assert run("container", "list").output.splitlines()[1].split()[:8] == [
        "ct-1", "f", "ready", "1", "2.5", "s", "64", "MiB",
    ]  # fmt: skip
    assert json.loads(run("container", "list", "--json").output)[0]["id"] == "ct-1"


def test_app_history_and_rollback(server: FakeServer) -> None:
    head, row = run("app", "history", "hello").output.splitlines()
    assert head.split() == ["Version", "Deployed", "Tag", "Functions"]
    assert row.split() == ["2", "-", "v2", "f,", "g"]
    assert json.loads(run("app", "history", "hello", "--json").output)[0]["functions"] == ["f", "g"]
    server.got.clear()
    assert run("app", "rollback", "hello", "1").output == "Deployed hello again as version 3.\n"
    assert codec.unpack(asked(server).body, control.AppRollback) == control.AppRollback("hello", 1)
    assert "VERSION" in run("app", "rollback", "hello", "0", code=2).output


def test_function_info_and_calls(server: FakeServer) -> None:
    text = run("function", "info", "hello::f").output
    assert "Ended inputs:   2 failed, 8 ok" in text
    assert "Time:           mean 0.500 s, longest 2.000 s" in text
    assert json.loads(run("function", "info", "hello::f", "--json").output)["stats"]["backlog"] == 4
    assert run("function", "calls", "hello::f").output.splitlines()[1].split() == [
        "fc-1", "map", "running", "3/9", "-",
    ]  # fmt: skip
    assert json.loads(run("function", "calls", "hello::f", "--json").output)[0]["durable"] is True


def test_a_method_by_its_name(server: FakeServer) -> None:
    methods = {"predict": MethodSpec(), "stream": MethodSpec(is_generator=True)}
    model = control.FunctionInfo("fu-2", "ap-1", "Model", class_=ClassSpec(methods))

    def answer(peer: Peer, request: m.Request) -> None:
        wants = codec.unpack(request.body, control.FunctionLookup) if "lookup" in request.method else None
        if wants is not None and wants.name != "Model":
            peer.send(m.Failure(request.id, "not_found", f"no function {wants.name}"))
        else:
            peer.send(m.Response(request.id, codec.pack(model if wants else ANSWERS[request.method])))

    server.on[m.Request] = answer
    assert "Kind:           class with predict, stream\n" in run("function", "info", "hello::Model").output
    text = run("function", "info", "hello::Model.stream").output
    assert "Function:       fu-2\n" in text
    assert "Kind:           method stream (generator) of class Model, whose numbers these are\n" in text
    assert run("function", "calls", "hello::Model.predict").output.startswith("Call")
    wrong = run("function", "info", "hello::Model.nothing", code=1).output
    assert wrong == "squall: Model of app hello has no method nothing; it has predict, stream.\n"
    assert run("function", "info", "hello::nothing", code=1).output == "squall: no function nothing\n"


def test_function_logs(server: FakeServer) -> None:
    result = run("function", "logs", "hello::f")
    assert (result.stdout, result.stderr) == ("of f\n", "")
    read = next(r for r in server.of(m.Request) if r.method == "logs.read")
    assert codec.unpack(read.body, control.LogsRead).function == "f"
    assert "write APP::FUNCTION" in run("function", "info", "hello", code=1).output


def test_container_logs_and_stop(server: FakeServer) -> None:
    assert run("container", "logs", "ct-1").stdout == "out\n"
    assert run("container", "stop", "ct-1").output == "Stopping ct-1.\n"


def test_tokens_and_workspaces(server: FakeServer) -> None:
    assert "sq-secret" in run("token", "new", "--role", "node").output
    assert codec.unpack(asked(server).body, control.TokenNew) == control.TokenNew("default", "node")
    assert json.loads(run("workspace", "create", "team", "--json").output)["token"] == "sq-secret"


# ---------------------------------------------------------------------------------------------- errors


def test_a_refusal_is_one_line(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(ANSWERS, "app.stop")
    assert run("app", "stop", "x", code=1).stderr == "squall: There is no app.stop here.\n"


def test_our_errors_are_one_line_and_the_traceback_is_there_if_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SQUALL_SERVER_URL", raising=False)
    monkeypatch.delenv("SQUALL_TRACEBACK", raising=False)
    monkeypatch.setenv("SQUALL_STATE", str(tmp_path))
    result = run("status", code=1)
    assert result.stderr.startswith("squall: Cannot reach the Squall server at ")
    assert result.stderr.count("\n") == 1
    monkeypatch.setenv("SQUALL_TRACEBACK", "1")
    assert "Traceback" in run("--full-traceback", "status", code=1).stderr


def test_wrong_usage_is_status_2() -> None:
    assert run("nonsense", code=2).stderr == "squall: No such command 'nonsense'. See `squall --help`.\n"
    assert run("stats", code=2).stderr == "squall: No such command 'stats'. Did you mean status?\n"
    assert "Invalid value" in run("token", "new", "--role", "king", code=2).stderr
    assert "not HOST:PORT" in run("daemon", "start", "--listen", "8400", code=2).stderr
    assert "not TYPE" in run("daemon", "start", "--gpus", "H100:many", code=2).stderr


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (KeyboardInterrupt(), 130, ""),
        (exception.InvalidError("Two\nlines."), 1, "squall: Two lines.\n"),
        (ZeroDivisionError("by us"), 1, "squall: ZeroDivisionError: by us. This is a bug"),
    ],
)
def test_how_errors_end(
    error: BaseException,
    code: int,
    text: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SQUALL_TRACEBACK", raising=False)
    assert squall.cli.explain(error) == code
    assert capsys.readouterr().err.startswith(text)


def test_every_command_is_there_and_says_what_it_does() -> None:
    for name in squall.cli.COMMANDS:
        assert run(name, "--help").output


# ---------------------------------------------------------------------------------------------- daemon


def test_a_daemon_in_the_foreground_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[str] = []
    monkeypatch.setattr("squall.daemon.main.serve", lambda options: served.append(options.state))
    told = run("daemon", "start", "--foreground", "--state", str(tmp_path)).stderr
    assert told == f"The daemon of {tmp_path} runs here until Ctrl-C. Its logs: `squall daemon logs -f`.\n"
    assert served == [str(tmp_path)]


def test_daemon_status_and_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUALL_STATE", str(tmp_path))
    assert "Not running" in run("daemon", "status", code=1).output
    assert run("daemon", "status", "--json", code=1).output == "null\n"
    assert run("daemon", "stop").output == "Not running.\n"
    own = Process("daemon", os.getpid(), daemon_record.start_time(os.getpid()))
    daemon_record.write(str(tmp_path), DaemonRecord(own, 1, "0.1", "process", "/s", ["slow"], "h:1"))
    text = run("daemon", "status").output
    assert f"process {os.getpid()}" in text
    assert "Lost here: slow" in text
    assert json.loads(run("daemon", "status", "--json").output)["listen"] == "h:1"
    assert "--listen h:1" in run("daemon", "start", code=1).stderr
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "server.log").write_text("one\ntwo\n")
    assert run("daemon", "logs", "-n", "1").output == "server: two\n"
    assert run("daemon", "logs", "node").output == ""


def test_daemon_logs_follow(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs" / "server.log"
    log.write_text("one\n")
    command = [sys.executable, "-m", "squall", "daemon", "logs", "-f", "--state", str(tmp_path)]
    environ = {**os.environ, "PYTHONPATH": str(SRC)}
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as p:
        assert p.stdout is not None
        assert p.stdout.readline() == "server: one\n"
        with log.open("a") as file:
            file.write("two\nhal")
            file.flush()
            assert p.stdout.readline() == "server: two\n"
            file.write("f\n")
        assert p.stdout.readline() == "server: half\n"
        p.send_signal(signal.SIGINT)
        p.communicate(timeout=20)
    assert p.returncode == 130


def test_help_is_quick() -> None:
    """A command loads its own module only: neither asyncio nor the other commands."""
    code = (
        "import sys; sys.argv = ['squall', 'status', '--help']\n"
        "from squall.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'asyncio', 'squall.sdk', 'squall.cli.daemon'} & set(sys.modules)))"
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(SRC)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert time.monotonic() - began < 30


def test_secrets_are_made_from_all_sides_and_never_shown(server: FakeServer, tmp_path: Path) -> None:
    dotenv, data = tmp_path / ".env", tmp_path / "x.json"
    dotenv.write_text("A=from-dotenv\nB=from-dotenv\n")
    data.write_text('{"B": "from-json", "C": "from-json"}')
    arguments = ["secret", "create", "db", "C=from-args", "D=-", "--from-dotenv", str(dotenv)]
    arguments += ["--from-json", str(data), "--force"]
    result = CliRunner().invoke(squall.cli.main, arguments, input="from-stdin\n")
    assert result.exit_code == 0, result.output
    assert "from-" not in result.output
    put = codec.unpack(asked(server).body, wire_secrets.SecretPut)
    assert put.values == {"A": "from-dotenv", "B": "from-json", "C": "from-args", "D": "from-stdin"}
    assert (put.name, put.mode) == ("db", "replace")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "a secret needs variables"),
        (["hunter2"], "an argument is not KEY=VALUE: it has 7 characters"),
        (["1A=hunter2"], "'1A' of KEY=VALUE= is no name"),
    ],
)
def test_wrong_secrets_are_not_shown_either(server: FakeServer, arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(squall.cli.main, ["secret", "create", "db", *arguments])
    assert result.exit_code != 0
    assert said in result.output
    assert "hunter2" not in result.output


def test_secrets_are_listed_and_deleted(server: FakeServer) -> None:
    assert "db    2        PASSWORD" in run("secret", "list").output
    assert json.loads(run("secret", "list", "--json").output)[0]["keys"] == ["PASSWORD"]
    assert run("secret", "delete", "db", "-y").output == "Deleted db.\n"
    run("secret", "delete", "db", code=130)
    assert "seals 3 secrets" in run("secret", "rotate-key").output

"""`squall run` on a terminal: the live picture, bars, prints, Ctrl-C, exit codes; and without one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from tests.cli.pseudo import Pseudo
from tests.cli.screen import Screen
from tests.house.source import ROOT, SRC

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: A server in memory that tells what a real one would; the entrypoint of the user's file has it as `server`.
PROGRAM = f"""
import sys
sys.path[:0] = [{str(SRC)!r}, {str(ROOT)!r}]
import squall.client.connect
from squall.wire.messages import BuildLog, Logs, Notice, Progress
from squall.wire.values import FunctionProgress, LogItem
from tests.sdk.fake_client import FakeClient, FakeServer

class Server(FakeServer):
    def tell(self, **counts):
        client.watch.progress(Progress("ap-0", [FunctionProgress("work", **counts)]))
    def say(self, data, container="ct-aaaaaa", fd=1):
        client.watch.logs(Logs("ap-0", [LogItem(container, "work", fd, data, 0.0)]))
    def notice(self, text):
        client.watch.notice(Notice("ap-0", text))
    def build(self, *lines):
        for line in lines:
            client.watch.build_log(BuildLog("im-123456789", line, 1, 2))

server = Server()
client = FakeClient(server)
squall.client.connect.connect = lambda **_: client
sys.modules["fake_world"] = sys.modules["__main__"]
import squall.cli
squall.cli.main(sys.argv[1:])
"""
HEAD = """
from __future__ import annotations
import os, signal, sys, time
import squall
from fake_world import server
app = squall.App("demo")

@app.function()
def work(x): return x

def seen(pause=0.3):
    time.sleep(pause)  # for a person's eye: the picture is painted ten times a second

@app.local_entrypoint()
def main():
"""


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Pseudo]:
    """`squall run` of a file with this entrypoint, on a terminal."""

    def start(
        body: str, *options: str, size: tuple[int, int] = (80, 24), stdout: str = "", **environment: str
    ) -> Pseudo:
        (tmp_path / "demo.py").write_text(HEAD + textwrap.indent(textwrap.dedent(body), "    "))
        kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
        given = {**kept, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **environment}
        command = [sys.executable, "-c", PROGRAM, "run", *options, "demo.py"]
        return Pseudo(command, environment=given, cwd=str(tmp_path), size=size, stdout=stdout)

    return start


def shown(program: Pseudo, width: int = 80) -> list[str]:
    screen = Screen(width)
    screen.feed(program.output)
    return screen.lines


def test_the_picture_appears_and_its_last_state_stays(start: Callable[..., Pseudo]) -> None:
    body = """
        server.tell(inputs=4, ended=1, running=2, busy=2, more=True)
        seen()
        server.tell(inputs=4, ended=4, failed=1, idle=2)
        """
    with start(body) as program:
        program.until(lambda text: "1/4+ done" in text and "containers:" in text)
        assert program.end() == 0
        lines = shown(program)
    assert re.fullmatch(r"✗ work 4 inputs done, 1 failed in \d\.\d s, \d+\.\d/s", lines[-2])
    assert lines[-1] == ""
    assert not any("containers" in line or "1/4" in line for line in lines), "only the last state stays"


def test_the_reason_to_wait(start: Callable[..., Pseudo]) -> None:
    body = """
        server.notice("no node is connected")
        seen()
        server.tell(inputs=1, waiting="all nodes are full")
        seen()
        server.tell(inputs=1, starting=1)
        seen()
        """
    with start(body) as program:
        program.until(lambda text: "no node is connected" in text)
        program.until(lambda text: "waits: all nodes are full" in text)
        program.until(lambda text: "waits: its first containers start" in text)
        assert program.end() == 0
        assert "waits" not in "\n".join(shown(program))


def test_an_image_is_built(start: Callable[..., Pseudo]) -> None:
    body = """
        from squall.sdk import output
        with output.building("im-123456789"):
            server.build(b"Collecting magika\\n", b"Installing\\n")
            seen(0.6)
        """
    with start(body) as program:
        program.until(lambda text: "step 1 of 2" in text and "Installing" in text)
        assert program.end() == 0
        lines = shown(program)
    assert re.fullmatch(r"✓ image im-123456 built in \d\.\d s", lines[-2])
    assert "Collecting" not in "\n".join(lines)


def test_prints_and_logs_do_not_tear_the_picture(start: Callable[..., Pseudo]) -> None:
    body = """
        server.tell(inputs=100, ended=0, running=1, busy=1)
        for i in range(30):
            print("local", i)
            server.say(b"remote %d\\n" % i)
            print("err", i, file=sys.stderr)
            time.sleep(0.02)
        print("half", end="", flush=True)
        seen()
        server.say(b"in between\\n")
        seen()
        print(" whole")
        seen()
        """
    with start(body) as program:
        assert program.end() == 0
        lines = shown(program)
    expected = [line for i in range(30) for line in (f"local {i}", f"remote {i}", f"err {i}")]
    assert lines[:-2] == [*expected, "in between", "half whole"]
    assert lines[-2].startswith("⠋") or "work 0/100 done" in lines[-2]


def test_a_progress_bar_is_one_line(start: Callable[..., Pseudo]) -> None:
    body = r"""
        server.tell(inputs=1, running=1, busy=1)
        for i in range(0, 101, 20):
            server.say(b"\r%3d%%|%-5s|" % (i, b"#" * (i // 20)), fd=2)
            seen(0.12)
        server.say(b"\n", fd=2)
        """
    with start(body) as program:
        program.until(lambda text: " 40%|##   |" in text)
        assert program.end() == 0
        lines = shown(program)
    assert lines[0] == "100%|#####|"
    assert sum("%|" in line for line in lines) == 1


def test_labels_when_several_containers_print(start: Callable[..., Pseudo]) -> None:
    body = r"""
        server.say(b"alone\n")
        seen()
        server.say(b"\x1b[31mred\x1b[0m \x1b[2Jsafe\n", "ct-bbbbbb")
        server.say(b"first\n")
        """
    with start(body) as program:
        assert program.end() == 0
        assert shown(program)[:3] == ["alone", "work ct-bbbb | red safe", "work ct-aaaa | first"]
        text = program.output
    colors = {re.search(r"\x1b\[(\d+)m" + name, text)[1] for name in ("work ct-bbbb", "work ct-aaaa")}  # type: ignore[index]
    assert len(colors) == 2
    assert "\x1b[31mred" in text
    assert "\x1b[2J" not in text


def test_a_flood_is_bounded(start: Callable[..., Pseudo]) -> None:
    body = r"""
        server.say(b"".join(b"line %d\n" % i for i in range(50_000)))
        seen()
        print("after")
        """
    with start(body) as program:
        assert program.end() == 0
        lines = shown(program)
    assert lines[0] == "line 0"
    assert lines[-2] == "after"
    (told,) = [line for line in lines if line.startswith("[dropped")]
    assert told == f"[dropped {50_000 - (len(lines) - 3)} lines: too many for this terminal]"


def test_a_redirected_stdout_gets_every_line_and_nothing_else(
    start: Callable[..., Pseudo], tmp_path: Path
) -> None:
    body = r"""
        server.tell(inputs=1, running=1, busy=1)
        server.say(b"".join(b"line %d\n" % i for i in range(10_000)))
        seen()
        print("local")
        """
    with start(body, stdout=str(tmp_path / "out")) as program:
        assert program.end() == 0
        assert "line" not in program.output
        assert "work" in program.output
    expected = [*(f"work ct-aaaa | line {i}" for i in range(10_000)), "local"]
    assert (tmp_path / "out").read_text().splitlines() == expected


def test_a_narrow_terminal(start: Callable[..., Pseudo]) -> None:
    body = """
        for i in range(4):
            server.tell(inputs=4000, ended=i, failed=1, running=2, busy=2, waiting="all nodes are full")
            seen()
        """
    with start(body, size=(20, 4)) as program:
        assert program.end() == 0
        lines = shown(program, 20)
    assert len(lines) == 2
    assert all(len(line) < 20 for line in lines)
    assert lines[0].endswith("…")


def test_no_color(start: Callable[..., Pseudo]) -> None:
    body = "server.tell(inputs=2, ended=1, failed=1, running=1, busy=1)\nseen()"
    with start(body, NO_COLOR="1") as program:
        assert program.end() == 0
        assert "1/2 done, 1 failed" in program.output
        assert not re.search(r"\x1b\[3\dm", program.output)


@pytest.mark.parametrize("how", ["dumb", "quiet"])
def test_no_picture(start: Callable[..., Pseudo], how: str) -> None:
    body = r"""
        server.tell(inputs=1, running=1, busy=1)
        server.notice("all nodes are full")
        server.say(b"hello\n")
        print("local")
        """
    options, term = (["-q"], "xterm") if how == "quiet" else ([], "dumb")
    with start(body, *options, TERM=term) as program:
        assert program.end() == 0
        lines = program.output.splitlines()
    notice = ["squall: all nodes are full"] if how == "dumb" else []
    assert lines == [*notice, "work ct-aaaa | hello", "local"]


def test_without_a_terminal_lines_are_plain(tmp_path: Path) -> None:
    body = 'server.tell(inputs=1, busy=1)\nserver.say(b"  0%\\r 50%\\r100%\\n")\nprint("local")\n'
    (tmp_path / "demo.py").write_text(HEAD + textwrap.indent(body, "    "))
    command = [sys.executable, "-c", PROGRAM, "run", "demo.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "work ct-aaaa | 100%\nlocal\n", "")


@pytest.mark.parametrize(("body", "code"), [("raise LookupError('no such')", 1), ("sys.exit(7)", 7)])
def test_the_exit_code_of_the_users_error(start: Callable[..., Pseudo], body: str, code: int) -> None:
    with start(f"server.tell(inputs=2, ended=1, busy=1)\nseen()\n{body}") as program:
        assert program.end() == code
        lines = shown(program)
    assert ("LookupError: no such" in lines) is (code == 1)


WAITS = """
    server.tell(inputs=1, running=1, busy=1)
    server.paused = True
    print("up")
    {stuck}
    work.remote(1)
    """


def test_ctrl_c_ends_cleanly(start: Callable[..., Pseudo]) -> None:
    with start(WAITS.format(stuck="")) as program:
        program.until(lambda text: "0/1 done" in text)
        program.type("\x03")
        assert program.end() == 130
        lines = shown(program)
    assert "squall: stops the app; press Ctrl-C again to leave at once" in lines
    assert "Traceback" not in program.output


def test_a_second_ctrl_c_leaves_at_once(start: Callable[..., Pseudo]) -> None:
    """The app cannot be stopped: the server does not answer."""
    stuck = "server._app_stop = lambda body: time.sleep(600)"
    with start(WAITS.format(stuck=stuck)) as program:
        program.until(lambda text: "0/1 done" in text)
        program.type("\x03")
        program.until(lambda text: "press Ctrl-C again" in text)
        program.type("\x03")
        assert program.end() == 130


def test_a_question_is_asked_in_peace(start: Callable[..., Pseudo]) -> None:
    body = """
        server.tell(inputs=9, running=1, busy=1)
        seen()
        answer = input("Go on? ")
        print("answer", answer)
        """
    with start(body) as program:
        program.until(lambda text: "Go on? " in text)
        program.type("yes\n")
        assert program.end() == 0
        lines = shown(program)
    assert lines[:2] == ["Go on? yes", "answer yes"]

"""`squall container exec` and `squall shell`, from the user's terminal to the container and back."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.pseudo import Pseudo
from tests.e2e.apps.shell import app, busy
from tests.e2e.kit import PATIENCE_S, Daemon, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def container(here: Daemon) -> Iterator[str]:
    with app.run():
        call = busy.spawn()
        yield until(lambda: next((c.id for c in here.containers("busy") if c.state == "ready"), ""))
        call.cancel(terminate_containers=True)


def run(
    daemon: Daemon, *arguments: str, typed: str = "", cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        daemon.command(*arguments), cwd=cwd, env=daemon.environ(), input=typed, capture_output=True,
        text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip


def run_in(daemon: Daemon, container: str, script: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    return run(daemon, "container", "exec", "--no-pty", container, "/bin/sh", "-c", script, typed=typed)


def processes(daemon: Daemon, container: str) -> str:
    return run_in(daemon, container, "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '").stdout


# ---------------------------------------------------------------------------------------------------- exec


def test_command_runs_beside_the_function(here: Daemon, container: str) -> None:
    done = run_in(here, container, "tr a-z A-Z; echo $OWN $SQUALL_TASK_ID; echo oh >&2; exit 7", "typed\n")
    assert (done.returncode, done.stdout, done.stderr) == (7, f"TYPED\n1 {container}\n", "oh\n")


def test_much_goes_through_both_ways(here: Daemon, container: str) -> None:
    """More than a window and a pipe hold."""
    text = "".join(f"{n}\n" for n in range(300_000))
    done = run_in(here, container, "cat", text)
    assert (done.returncode, done.stdout == text) == (0, True)


def test_program_that_does_not_read_is_no_hindrance(here: Daemon, container: str) -> None:
    done = run_in(here, container, "exec 0<&-; echo done; exit 3", "x" * 3_000_000)
    assert (done.returncode, done.stdout) == (3, "done\n")


def test_signal_is_told_as_shells_do(here: Daemon, container: str) -> None:
    assert run_in(here, container, "kill -TERM $$").returncode == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["ct-none", "true"], "no container 'ct-none' runs: see `squall container list`"),
        (["CONTAINER", "/no/such"], "cannot run '/no/such': "),
        (["CONTAINER"], "Missing argument"),
    ],
)
def test_errors_are_one_line(here: Daemon, container: str, arguments: list[str], complaint: str) -> None:
    given = [container if a == "CONTAINER" else a for a in arguments]
    done = run(here, "container", "exec", "--no-pty", *given)
    assert done.returncode != 0
    assert done.stderr.startswith("squall: ")
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1


def pseudo(daemon: Daemon, *arguments: str, cwd: str = "/") -> Pseudo:
    return Pseudo(
        daemon.command(*arguments), environment={**daemon.environ(), "TERM": "vt100"}, cwd=cwd, size=(91, 37)
    )


SESSION = """
trap 'stty size' WINCH
trap 'echo caught' INT
tty; stty size; echo $TERM; echo up
while :; do
    if read -t 0.1 x; then echo got:$x; [ $x = end ] && exit 5; fi
done
"""


def test_terminal(here: Daemon, container: str) -> None:
    with pseudo(here, "container", "exec", container, "/bin/bash", "-c", SESSION) as program:
        program.until(lambda shown: "up" in shown)
        assert re.search(r"/dev/pts/\d+", program.output)
        assert "37 91" in program.output
        assert "vt100" in program.output
        program.resize(132, 50)
        program.type("one\r")
        program.until(lambda shown: "got:one" in shown and "50 132" in shown)
        program.type("\x03")
        program.type("two\r")
        program.until(lambda shown: "got:two" in shown)
        program.type("end\r")
        assert program.end() == 5
        assert program.echoes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_terminal_is_restored_when_a_signal_ends_it(here: Daemon, container: str, number: int) -> None:
    with pseudo(here, "container", "exec", container, "/bin/bash", "-c", SESSION) as program:
        program.until(lambda shown: "up" in shown)
        assert not program.echoes()
        os.kill(program.pid, number)
        assert program.end() == 128 + number
        assert program.echoes()


def test_killed_client_leaves_nothing(here: Daemon, container: str) -> None:
    with pseudo(here, "container", "exec", container, "/bin/sh", "-c", "echo up; sleep 6001") as program:
        program.until(lambda shown: "up" in shown)
        os.kill(program.pid, signal.SIGKILL)
        until(lambda: "sleep 6001" not in processes(here, container))


def test_killed_agent_leaves_nothing(isolated: Daemon, container: str) -> None:
    """And the container goes on, and takes guests of the next agent."""
    with pseudo(isolated, "container", "exec", container, "/bin/sh", "-c", "echo up; sleep 6002") as program:
        program.until(lambda shown: "up" in shown)
        os.kill(isolated.child("node").pid, signal.SIGKILL)
        assert program.end() == 1
        assert "lost touch with the container's node" in program.output
    until(lambda: run_in(isolated, container, "true").returncode == 0)
    until(lambda: "sleep 6002" not in processes(isolated, container))


def test_server_logs_who_ran_what(here: Daemon, container: str) -> None:
    run_in(here, container, "echo audited")
    text = (Path(here.state) / "logs" / "server.log").read_text("utf-8")
    line = next(line for line in text.splitlines() if "echo audited" in line)
    assert f"runs in container {container} of busy" in line
    assert "workspace default, environment main" in line


# ---------------------------------------------------------------------------------------------------- shell


FILE = """
import squall

app = squall.App("mine")


@app.function(env={"MARK": "of-f"}, retries=3, min_containers=0)
def f():
    raise RuntimeError


@app.cls(env={"MARK": "of-c"})
class C:
    @squall.enter()
    def up(self):
        raise RuntimeError("a shell does not enter")

    @squall.method()
    def m(self):
        return 1


@app.local_entrypoint()
def main():
    pass
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(textwrap.dedent(FILE), "utf-8")
    return tmp_path


def test_plain_shell(here: Daemon) -> None:
    done = run(here, "shell", "--no-pty", typed="echo hello from $SQUALL_TASK_ID; exit 4\n")
    assert done.returncode == 4, done.stderr
    assert done.stdout.startswith("hello from ct-")
    until(lambda: not here.containers("shell"))


@pytest.mark.parametrize(("name", "mark"), [("f", "of-f"), ("C", "of-c")])
def test_shell_like_a_function(here: Daemon, folder: Path, name: str, mark: str) -> None:
    script = "echo $MARK; ls /squall/source 2>/dev/null; echo $SQUALL_TASK_ID"
    command = f"/bin/sh -c '{script}'"
    done = run(here, "shell", "--no-pty", "--cpu", "0.5", "-c", command, f"mine.py::{name}", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{mark}\n")
    until(lambda: not here.containers("shell"))


def test_shell_sees_the_functions_source(isolated: Daemon, folder: Path) -> None:
    done = run(isolated, "shell", "--no-pty", "-c", "cat /squall/source/mine.py", "mine.py::f", cwd=folder)
    assert "a shell does not enter" in done.stdout


def test_shell_in_a_running_container(here: Daemon, container: str) -> None:
    done = run(here, "shell", "--no-pty", container, typed="echo $OWN\n")
    assert (done.returncode, done.stdout) == (0, "1\n")


def test_shell_on_a_terminal(here: Daemon) -> None:
    with pseudo(here, "shell", "-c", "/bin/sh") as program:
        program.until(lambda shown: "# " in shown or "$ " in shown)
        program.type("stty size; exit 6\r")
        assert program.end() == 6
        assert "37 91" in program.output
        assert program.echoes()
    until(lambda: not here.containers("shell"))


def test_killed_shell_leaves_no_container(impatient: Daemon) -> None:
    """Once the server believes that nobody comes back."""
    with pseudo(impatient, "shell", "-c", "/bin/sh -c 'echo up; sleep 6003'") as program:
        program.until(lambda shown: "up" in shown)
        os.kill(program.pid, signal.SIGKILL)
        until(lambda: not impatient.containers("shell"))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["mine.py::g"], "mine.py has no function g; it has f, C"),
        (["mine.py"], "Say which function of mine.py: it has f, C"),
        (["mine.py::f", "--image", "debian_slim"], "A function has an image of its own"),
        (["--image", "ubuntu"], "There is no image ubuntu"),
        (["--image", "debian_slim:9"], "python_version"),
        (["ct-1", "--cpu", "2"], "--cpu: a container that runs already"),
        (["ct-1"], "no container 'ct-1' runs"),
        (["-c", ""], "--cmd is empty"),
    ],
)
def test_wrong_use_is_one_line(here: Daemon, folder: Path, arguments: list[str], complaint: str) -> None:
    done = run(here, "shell", "--no-pty", *arguments, cwd=folder)
    assert done.returncode != 0
    assert done.stderr.startswith("squall: ")
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1

"""`squall daemon install`: the unit that it writes, whom it makes, when it refuses. Never on this host."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

import squall.cli
from squall.client import daemon_record, embedded, service

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd needs Linux")

USERADD = """#!/bin/sh
for argument in "$@"; do echo "$argument"; done >> "$(dirname "$0")/called"
echo "squall:x:999:999::/:/bin/false" >> "$2/etc/passwd"
"""
REFUSING = """#!/bin/sh
echo "useradd: warning: something" >&2
echo "useradd: group squall exists." >&2
exit 9
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of a machine without the user, and a useradd for it."""
    root = tmp_path / "machine"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    program(tmp_path, USERADD)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/home/me/.config")
    return root


def program(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bin" / "useradd"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(squall.cli.main, ["daemon", "install", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output


def unit(root: Path) -> str:
    return (root / "etc/systemd/system/squall.service").read_text("utf-8")


def called(tmp_path: Path) -> list[str]:
    record = tmp_path / "bin" / "called"
    return record.read_text().splitlines() if record.exists() else []


def command_of(text: str) -> tuple[list[str], dict[str, str]]:
    """What systemd would run, and with which environment."""
    settings = [line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#")]
    (command,) = [value for key, _, value in settings if key == "ExecStart"]
    environ = [shlex.split(value)[0].partition("=") for key, _, value in settings if key == "Environment"]
    words = [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(command)]
    return words, {key: value.replace("%%", "%") for key, _, value in environ}


def test_it_writes_the_unit_and_makes_the_user(root: Path, tmp_path: Path) -> None:
    said = run("--root", root, "--state", "/srv/squall", "--listen", "0.0.0.0:8400", "--gpus", "H100:8")
    assert said == f"Made the system user squall.\nWrote {root}/etc/systemd/system/squall.service.\n"
    assert called(tmp_path)[:4] == ["--prefix", str(root), "--system", "--user-group"]
    assert called(tmp_path)[-1] == "squall"
    command, _ = command_of(unit(root))
    options = ["--state", "/srv/squall", "--listen", "0.0.0.0:8400", "--gpus", "H100:8"]
    assert command == [sys.executable, "-m", "squall", "daemon", "start", "--foreground", *options]
    assert (root / "etc/systemd/system/squall.service").stat().st_mode & 0o777 == 0o644
    assert os.listdir(root / "etc/systemd/system") == ["squall.service"]


def test_a_second_time_it_only_writes_the_unit(root: Path, tmp_path: Path) -> None:
    run("--root", root)
    (tmp_path / "bin" / "called").unlink()
    assert "Made" not in run("--root", root, "--gpus", "H100:8")
    assert called(tmp_path) == []
    assert "--gpus H100:8" in unit(root)


def test_a_dry_run_prints_both_and_does_neither(root: Path, tmp_path: Path) -> None:
    said = run("--root", root, "--state", "/srv/squall", "--dry-run")
    assert not (root / "etc/systemd").exists()
    assert called(tmp_path) == []
    assert f"# {root}/etc/systemd/system/squall.service\n" in said
    assert f"# as root: useradd --prefix {root} --system --user-group --home-dir /srv/squall" in said
    run("--root", root, "--state", "/srv/squall")
    assert unit(root) in said
    assert "# no user to make" in run("--root", root, "--dry-run")


def test_for_a_user_there_is_no_system_user(root: Path, tmp_path: Path) -> None:
    path = f"{root}/home/me/.config/systemd/user/squall.service"
    assert run("--user", "--root", root) == f"Wrote {path}.\n"
    assert called(tmp_path) == []
    with open(path, encoding="utf-8") as file:
        assert "WantedBy=default.target" in file.read()


@pytest.mark.parametrize("user", [False, True], ids=["system", "user"])
@pytest.mark.parametrize("state", ["/var/lib/squall", "/srv/a b/100%/$HOME/\"x\"'y';\\z"])
def test_systemd_understands_it(root: Path, state: str, *, user: bool) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    said = run("--root", root, "--state", state, *(["--user"] if user else []))
    path = said.split()[-1].rstrip(".")
    (root / "run").mkdir()
    verified = subprocess.run(
        [analyze, "verify", *(["--user"] if user else []), path],
        env={**os.environ, "XDG_RUNTIME_DIR": str(root / "run")},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    with open(path, encoding="utf-8") as file:
        assert command_of(file.read())[0][-1] == state


def test_a_unit_of_somebody_else_stays(root: Path, tmp_path: Path) -> None:
    path = root / "etc/systemd/system/squall.service"
    path.parent.mkdir(parents=True)
    path.write_text("[Service]\nExecStart=/bin/true\n")
    said = run("--root", root, code=1)
    assert said == f"squall: {path} is there and not from `squall daemon install`: move it away first.\n"
    assert path.read_text() == "[Service]\nExecStart=/bin/true\n"
    assert called(tmp_path) == []


def test_a_user_that_cannot_be_made_is_told_and_no_unit_is_written(root: Path, tmp_path: Path) -> None:
    program(tmp_path, REFUSING)
    said = run("--root", root, code=1)
    assert said == "squall: The user squall was not made: useradd: group squall exists.\n"
    (tmp_path / "bin" / "useradd").unlink()
    (tmp_path / "empty").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(tmp_path / "empty"))
        assert "make a system user squall, then install again" in run("--root", root, code=1)
    assert not (root / "etc/systemd").exists()


def test_nonsense_is_refused(root: Path) -> None:
    assert "is not HOST:PORT" in run("--root", root, "--listen", "here", code=2)
    assert "control character" in run("--root", root, "--state", "/srv/a\nExecStartPre=evil", code=1)


def test_without_systemd_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "BOOTED", str(tmp_path / "not there"))
    said = run("--user", "--state", tmp_path, code=1)
    assert said.startswith("squall: systemd does not run this machine")
    assert said.count("\n") == 1
    assert "`squall daemon start`" in said


def test_for_the_machine_it_needs_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "BOOTED", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    said = run("--state", tmp_path, code=1)
    assert said == "squall: Only root can install for the machine: use sudo, or --user.\n"


@pytest.mark.e2e
def test_what_the_unit_runs_is_the_daemon(root: Path, tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    run("--root", root, "--state", state)
    command, environ = command_of(unit(root))
    # systemd gives little more, and no HOME.
    environ |= {"PATH": os.defpath, "SQUALL_DRIVER": "process"}
    with subprocess.Popen(command, env=environ, cwd="/", stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 60
            while not (daemon_record.read(state) and embedded.answers(state)):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
    assert process.returncode == 0
    assert not embedded.answers(state)


@pytest.mark.parametrize("user", [False, True])
def test_clients_leave_an_enabled_service_to_systemd(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, user: bool
) -> None:
    """Enabled is what `systemctl enable` has linked; another state's daemon is no service."""
    run("--root", root, "--state", "/var/lib/squall", *(["--user"] if user else []))
    folder = root / ("home/me/.config/systemd/user" if user else "etc/systemd/system")
    monkeypatch.setattr(service, "BOOTED", str(tmp_path))
    monkeypatch.setattr(service, "MACHINE", str(root / "etc/systemd/system"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(root / "home/me/.config"))
    assert service.manager("/var/lib/squall", os.environ) == ""
    wanted = folder / f"{'default' if user else 'multi-user'}.target.wants"
    wanted.mkdir()
    (wanted / "squall.service").symlink_to(folder / "squall.service")
    assert service.manager("/var/lib/squall", os.environ) == ("systemctl --user" if user else "systemctl")
    assert service.manager("/var/lib/squall2", os.environ) == ""
    monkeypatch.setattr(service, "BOOTED", str(tmp_path / "not there"))
    assert service.manager("/var/lib/squall", os.environ) == ""

"""Raw system calls: what each does to a process, seen from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from squall.runtime.linux import mounts, processes, syscalls

UNIFIED = [Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")]


def run(code: str) -> str:
    """In an interpreter of one thread: what tampers with a process is kept away from pytest's."""
    prelude = "import os, signal\nfrom squall.runtime.linux import mounts, processes\n"
    done = subprocess.run([sys.executable, "-c", prelude + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_error_says_what_was_tried() -> None:
    with pytest.raises(FileNotFoundError, match="open nothing/here"):
        mounts.open_resolved(-100, "nothing/here", os.O_PATH, 0)


def test_unknown_machine_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "h", "6", "1", "riscv64")))
    with pytest.raises(OSError, match="no system call table for riscv64"):
        syscalls.old_number("clone")


@pytest.mark.parametrize(
    ("rule", "path"),
    [
        (mounts.RESOLVE_NO_SYMLINKS, "link/f"),
        (mounts.RESOLVE_BENEATH, "../f"),
        (mounts.RESOLVE_BENEATH, "/etc/passwd"),
        (mounts.RESOLVE_IN_ROOT, "out"),
    ],
)
def test_paths_resolve_under_rules(tmp_path: Path, rule: int, path: str) -> None:
    root = tmp_path / "root"
    (root / "real").mkdir(parents=True)
    (root / "real" / "f").write_text("")
    (tmp_path / "f").write_text("")
    (root / "link").symlink_to("real")
    (root / "out").symlink_to(tmp_path / "f")
    fd = os.open(root, os.O_PATH)
    os.close(mounts.open_resolved(fd, "link/f", os.O_PATH, 0))
    with pytest.raises(OSError):
        mounts.open_resolved(fd, path, os.O_PATH, rule)
    os.close(fd)


def test_all_descriptors_but_some_are_closed() -> None:
    code = (
        "fds = [os.open('/', 0) for _ in range(9)]\nkeep = {0, 1, 2, fds[3], fds[7]}\n"
        "processes.close_all_but(keep)\n"
        "print({int(f) for f in os.listdir('/proc/self/fd')} - {max(fds) + 1} <= keep | {fds[0]})"
    )
    assert run(code) == "True"


def test_title_replaces_the_command_line() -> None:
    code = "processes.set_title('box')\nprint(repr(open('/proc/self/cmdline').read().rstrip(chr(0))))"
    assert run(code) == "'box'"


def test_signal_to_an_ended_process_is_harmless() -> None:
    child = subprocess.Popen(["sleep", "600"])
    pidfd = processes.pidfd_open(child.pid)
    assert processes.pid_of(pidfd) == child.pid
    assert not processes.wait_ended(pidfd, 0)
    processes.send_signal(pidfd, signal.SIGKILL)
    assert processes.wait_ended(pidfd, 20)
    child.wait()
    processes.send_signal(pidfd, signal.SIGKILL)
    assert processes.pid_of(pidfd) == -1
    os.close(pidfd)


def test_start_time_tells_processes_apart() -> None:
    own = processes.start_time(os.getpid())
    assert own is not None
    assert own == processes.start_time(os.getpid())
    child = subprocess.Popen(["true"])
    child.wait()
    assert processes.start_time(child.pid) is None


@pytest.mark.root
def test_user_namespace_maps_its_range(namespaces: Path) -> None:
    code = (
        "fd = processes.user_namespace(1234 << 16, 65536)\n"
        "processes.setns(fd, processes.NEWUSER)\nprint(open('/proc/self/uid_map').read().split())"
    )
    assert run(code) == str(["0", str(1234 << 16), "65536"])


@pytest.mark.root
def test_acting_as_another_makes_files_of_theirs(namespaces: Path, tmp_path: Path) -> None:
    code = (
        f"os.chdir({str(tmp_path)!r})\nos.mkdir('locked', 0o700)\n"
        "with processes.acting_as(5000): os.mkdir('locked/theirs')\nos.mkdir('ours')\n"
        "print(os.stat('locked/theirs').st_uid, os.stat('ours').st_uid)"
    )
    assert run(code) == "5000 0"


@pytest.mark.root
def test_process_is_born_in_a_control_group(namespaces: Path) -> None:
    where = next(
        (p for p in UNIFIED if (p / "cgroup.procs").exists() and (p / "cgroup.controllers").exists()), None
    )
    if where is None:
        pytest.skip("needs a cgroup version 2 hierarchy")
    group = where / f"squall-test-born-{os.getpid()}"
    group.mkdir()
    try:
        code = (
            f"fd = os.open({str(group)!r}, os.O_PATH)\nuserns = processes.user_namespace(1 << 24, 65536)\n"
            "processes.setns(userns, processes.NEWUSER)\n"
            "pid, pidfd = processes.clone_into(processes.NEWPID, fd)\n"
            "if pid == 0:\n"
            "    print([l for l in open('/proc/self/cgroup') if l.startswith('0::')], flush=True)\n"
            "    os._exit(0)\n"
            "print(processes.wait_ended(pidfd, 20))\nos.waitpid(pid, 0)"
        )
        assert run(code).endswith(f"/{group.name}\\n']\nTrue")
    finally:
        group.rmdir()

"""Programs that join a running container: who they are inside, how they are talked to, how they end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from squall.runtime import capabilities, terminals
from squall.runtime.driver import DriverError, Guest
from squall.runtime.launcher import guests
from squall.runtime.spec import Command, ExitStatus
from tests.house.slowness import SLOWNESS
from tests.runtime.box import PYTHON, UID_BASE, Box, read_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from squall.runtime.driver import Started

pytestmark = pytest.mark.root

FOREVER = "import time\nprint('up', flush=True)\ntime.sleep(600)"


@pytest.fixture
def host(box: Box) -> Iterator[Started]:
    """A container that only waits."""
    started = box.start_python(FOREVER, env={"PATH": "/usr/bin:/bin", "OWN": "1"}, cwd="/var")
    assert read_line(started.stdout) == "up"
    yield started
    box.do(box.runtime.kill(started.id))
    box.end(started)


def join(box: Box, host: Started, *argv: str, **fields: object) -> Guest:
    return box.do(box.runtime.join(host.id, Command(argv, **fields)))  # type: ignore[arg-type]


def read_all(fd: int) -> bytes:
    """Until its end; a terminal's is an error."""
    os.set_blocking(fd, True)
    data = b""
    try:
        while piece := os.read(fd, 65_536):
            data += piece
    except OSError:
        pass
    return data


def ended(box: Box, guest: Guest) -> tuple[ExitStatus, str]:
    out = read_all(guest.stdout).decode()
    status = box.do(guest.wait())
    guest.close()
    return status, out


def output(box: Box, host: Started, *argv: str, **fields: object) -> str:
    status, out = ended(box, join(box, host, *argv, **fields))
    assert status == ExitStatus(code=0), out
    return out


def sh(box: Box, host: Started, script: str, **fields: object) -> str:
    return output(box, host, "/bin/sh", "-c", script, **fields)


def python(box: Box, host: Started, code: str, **fields: object) -> str:
    return output(box, host, PYTHON, "-I", "-S", "-c", code, **fields)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30 * SLOWNESS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def expect(terminal: int, text: bytes) -> bytes:
    os.set_blocking(terminal, True)
    seen = b""
    while text not in seen:
        seen += os.read(terminal, 4096)
    return seen


# ------------------------------------------------------------------------------------------------- identity

SELF = """
import json, os
status = dict(line.split(':', 1) for line in open('/proc/self/status'))
names = ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb', 'NoNewPrivs', 'Seccomp', 'Uid', 'Gid', 'Groups',
         'SigBlk', 'SigIgn']
print(json.dumps({
    'status': {n: status[n].split() for n in names},
    'maps': [open('/proc/self/uid_map').read().split(), open('/proc/self/gid_map').read().split()],
    'namespaces': {n: os.readlink('/proc/self/ns/' + n) for n in sorted(os.listdir('/proc/self/ns'))},
    'groups': open('/proc/self/cgroup').read(),
    'limits': open('/proc/self/limits').read(),
    'fds': sorted(os.listdir('/proc/self/fd')),
    'root': os.stat('/').st_ino, 'session': os.getsid(0) == os.getpid(),
}), flush=True)
"""


def test_guest_is_what_the_containers_own_program_is(box: Box) -> None:
    own = box.start_python(SELF + "\nimport time\ntime.sleep(600)")
    theirs = json.loads(read_line(own.stdout))
    mine = json.loads(python(box, own, SELF))
    assert mine == theirs
    status = mine["status"]
    mask = f"{capabilities.CONTAINER_CAPS:016x}"
    assert [status[n] for n in ("CapPrm", "CapEff", "CapBnd")] == [[mask]] * 3
    assert [status[n] for n in ("CapInh", "CapAmb")] == [["0" * 16]] * 2
    assert (status["NoNewPrivs"], status["Seccomp"]) == (["1"], ["2"])
    assert mine["maps"] == [["0", str(UID_BASE), "65536"]] * 2
    assert mine["fds"] == ["0", "1", "2", "3"]  # 3 is of listdir itself
    box.do(box.runtime.kill(own.id))
    box.end(own)


def test_kernel_says_the_same_from_outside(box: Box, host: Started) -> None:
    guest = join(box, host, "/bin/sh", "-c", "echo $$; read x")
    inside = read_line_of(guest)
    pids = [int(p.name) for p in Path("/proc").glob("[0-9]*") if _inner_pid(p) == inside]
    assert len(pids) >= 1
    groups = {Path(f"/proc/{pid}/cgroup").read_text() for pid in pids}
    assert Path(f"/proc/{host.pid}/cgroup").read_text() in groups
    guest.close()


def _inner_pid(process: Path) -> str:
    try:
        lines = (process / "status").read_text().splitlines()
    except OSError:
        return ""
    numbers = next(line.split() for line in lines if line.startswith("NSpid:"))
    return numbers[-1] if len(numbers) > 2 else ""


def read_line_of(guest: Guest) -> str:
    os.set_blocking(guest.stdout, True)
    return read_line(guest.stdout)


@pytest.mark.parametrize("terminal", [None, (24, 80)])
def test_no_descriptor_but_its_own_three(box: Box, host: Started, terminal: tuple[int, int] | None) -> None:
    code = (
        "import os\n"
        "for fd in sorted(os.listdir('/proc/self/fd')): print(fd, os.path.islink('/proc/self/fd/' + fd))"
    )
    lines = python(box, host, code, terminal=terminal).split("\n")
    assert [line.strip() for line in lines if line] == ["0 True", "1 True", "2 True", "3 False"]


def test_environment_is_the_containers_and_what_is_asked(box: Box, host: Started) -> None:
    assert sh(box, host, 'echo "$OWN $ASKED $PWD"', env={"ASKED": "2"}) == "1 2 /var\n"
    assert sh(box, host, 'echo "$OWN"; pwd', env={"OWN": "9"}, cwd="/tmp") == "9\n/tmp\n"


# ---------------------------------------------------------------------------------------------------- pipes


def test_pipes_carry_input_output_and_errors(box: Box, host: Started) -> None:
    guest = join(box, host, "/bin/sh", "-c", "tr a-z A-Z; echo oh >&2; exit 7")
    os.write(guest.stdin, b"hello\n")
    guest.close_stdin()
    errors = read_all(guest.stderr)
    assert ended(box, guest) == (ExitStatus(code=7), "HELLO\n")
    assert errors == b"oh\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_signal_is_told(box: Box, host: Started, number: signal.Signals) -> None:
    guest = join(box, host, "/bin/sh", "-c", f"kill -{int(number)} $$")
    assert box.do(guest.wait()) == ExitStatus(signal=number)
    guest.close()


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (Command(("/no/such",)), "cannot run '/no/such': No such file or directory"),
        (Command(("/etc/hostname",)), "cannot run '/etc/hostname': Permission denied"),
        (Command(("true",), cwd="/etc/hostname/x"), "cannot work in '/etc/hostname/x'"),
        (Command(()), "argv is empty"),
        (Command(("true",), {"A=": "1"}), "a name in env"),
        (Command(("true",), cwd="tmp"), "not absolute"),
        (Command(("true",), terminal=(70_000, 1)), "at most 65535"),
        (Command(("true",), terminal=(-1, 1)), "whole number"),
    ],
)
def test_what_cannot_run_is_told(box: Box, host: Started, command: Command, reason: str) -> None:
    with pytest.raises(DriverError) as caught:
        box.do(box.runtime.join(host.id, command))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_such_container(box: Box) -> None:
    with pytest.raises(DriverError, match="does not run"):
        box.do(box.runtime.join("box-none", Command(("true",))))


def test_number_is_limited(box: Box, host: Started) -> None:
    crowd = [join(box, host, "sleep", "600") for _ in range(guests.MOST)]
    with pytest.raises(DriverError, match="joined the container already"):
        join(box, host, "true")
    crowd[0].close()
    until(lambda: _joins(box, host))
    for guest in crowd:
        guest.close()


def _joins(box: Box, host: Started) -> bool:
    try:
        join(box, host, "true").close()
    except DriverError:
        return False
    return True


# ------------------------------------------------------------------------------------------------- terminal


def test_terminal_is_its_controlling_one(box: Box, host: Started) -> None:
    script = "tty; stty size; ls -l $(tty) | cut -c1-10; : > /dev/tty && echo mine"
    out = sh(box, host, script, terminal=(33, 111))
    name, size, mode, mine = out.split()[0], out.split()[1:3], out.split()[3], out.split()[4]
    assert name.startswith("/dev/pts/")
    assert (size, mode, mine) == (["33", "111"], "crw--w----", "mine")


def test_ctrl_c_interrupts_and_resize_is_told(box: Box, host: Started) -> None:
    script = "trap 'stty size' WINCH; trap 'echo caught; exit 5' INT; echo up; while :; do sleep 0.05; done"
    guest = join(box, host, "/bin/sh", "-c", script, terminal=(24, 80))
    expect(guest.stdout, b"up")
    terminals.resize(guest.stdout, 50, 132)
    expect(guest.stdout, b"50 132")
    os.write(guest.stdin, b"\x03")
    expect(guest.stdout, b"caught")
    assert ended(box, guest)[0] == ExitStatus(code=5)


def test_typing_into_ones_own_terminal_is_refused(box: Box, host: Started) -> None:
    code = (
        "import fcntl, termios\n"
        "try: fcntl.ioctl(0, termios.TIOCSTI, b'x')\n"
        "except OSError as e: print(e.errno)\n"
    )
    assert python(box, host, code, terminal=(24, 80)).strip() == "1"


# -------------------------------------------------------------------------------------------------- the end


def test_guest_goes_when_nobody_talks_to_it(box: Box, host: Started) -> None:
    """Also one that ignores SIGHUP, with what it left in its session."""
    guest = join(box, host, "/bin/sh", "-c", "trap '' HUP; sleep 601 & echo up; sleep 602; sleep 603")
    assert read_line_of(guest) == "up"
    listed = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '"
    assert "sleep 601" in sh(box, host, listed)
    guest.close()
    until(lambda: "sleep 60" not in sh(box, host, listed).replace("sleep 600", ""))


def test_leader_ends_its_session(box: Box, host: Started) -> None:
    """Its output ends with it, whatever it started."""
    assert sh(box, host, "sleep 604 & echo done") == "done\n"


def test_guest_ends_with_its_container(box: Box) -> None:
    own = box.start_python(FOREVER)
    assert read_line(own.stdout) == "up"
    guest = join(box, own, "sleep", "605")
    box.do(box.runtime.kill(own.id))
    assert box.do(guest.wait()) == ExitStatus(signal=9)
    guest.close()
    assert box.end(own).status.signal == 9


def test_container_does_not_wait_for_its_guests(box: Box) -> None:
    own = box.start_python(
        "import sys\nprint('up', flush=True)\nsys.stdin.read()\nimport time, os\n"
        "while not os.path.exists('/tmp/go'): time.sleep(0.01)\nsys.exit(3)"
    )
    assert read_line(own.stdout) == "up"
    guest = join(box, own, "/bin/sh", "-c", "touch /tmp/go; sleep 606")
    assert box.end(own).status.code == 3
    assert box.do(guest.wait()) == ExitStatus(signal=9)
    guest.close()


def test_guest_and_joining_outlive_the_launcher(own_box: Box) -> None:
    own = own_box.start_python(FOREVER)
    assert read_line(own.stdout) == "up"
    guest = join(own_box, own, "/bin/sh", "-c", "echo up; read x; exit $x")
    assert read_line_of(guest) == "up"
    own_box.kill_launcher()
    own_box.boot_launcher()
    assert sh(own_box, own, "echo again") == "again\n"
    os.write(guest.stdin, b"9\n")
    assert own_box.do(guest.wait()) == ExitStatus(code=9)
    guest.close()


def test_asker_that_is_killed_takes_its_guest_along(box: Box, host: Started) -> None:
    """The agent's end of everything closes by kill -9 just as here: by the kernel, without a word."""
    pid = os.fork()
    if pid == 0:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)

        async def ask() -> None:
            runtime = await type(box.runtime).connect(box.socket)
            guest = await runtime.join(host.id, Command(("sleep", "607"), terminal=(24, 80)))
            assert guest.stdout >= 0
            os.kill(os.getpid(), signal.SIGKILL)

        loop.run_until_complete(ask())
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    listed = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '"
    until(lambda: "sleep 607" not in sh(box, host, listed))


# -------------------------------------------------------------------------------------------------- escapes


def test_guest_cannot_write_the_hosts_interpreter(box: Box, host: Started) -> None:
    """As CVE-2019-5736 did: run the host's own program by a link, then open what it runs."""
    code = (
        "import errno, os, sys\n"
        "for pid in ['self', '1', str(os.getppid())]:\n"
        "    try: os.close(os.open(f'/proc/{pid}/exe', os.O_WRONLY)); print('open')\n"
        "    except OSError as e: print(errno.errorcode[e.errno])\n"
    )
    out = python(box, host, code).split()
    assert "open" not in out
    before = os.stat(PYTHON).st_mtime_ns
    for path in ("/proc/self/exe", "/proc/self/fd/3", "/proc/1/exe"):
        try:
            guest = join(box, host, path, "-I", "-S", "-c", code)
        except DriverError:
            continue
        assert "open" not in ended(box, guest)[1]
    assert os.stat(PYTHON).st_mtime_ns == before


def test_guest_cannot_look_into_init(box: Box, host: Started) -> None:
    code = (
        "import errno, os\n"
        "for name in ['root', 'cwd', 'fd', 'mem', 'environ', 'maps', 'exe', 'ns/mnt']:\n"
        "    path = '/proc/1/' + name\n"
        "    try: print(os.listdir(path) if name in ('fd', 'root', 'cwd') else os.readlink(path)\n"
        "               if '/' in name or name == 'exe' else open(path, 'rb').read(1))\n"
        "    except OSError as e: print(errno.errorcode[e.errno])\n"
    )
    assert set(python(box, host, code).split()) <= {"EACCES", "EPERM"}


@pytest.mark.parametrize(
    "cwd", ["/proc/self/fd/3", "/proc/self/fd/7/../../..", "/proc/1/cwd", "/proc/1/root"]
)
def test_no_way_out_by_the_working_directory(box: Box, host: Started, cwd: str) -> None:
    """As CVE-2024-21626: a descriptor of the host's that is open at the time."""
    try:
        out = sh(box, host, "stat -c %i / /proc/self/root; ls ..", cwd=cwd)
    except DriverError:
        return
    first, second = out.split()[:2]
    assert first == second


def test_tenant_that_lies_in_wait_sees_no_preparation(box: Box) -> None:
    """It looks at every new process as fast as it can, while guests are made."""
    watch = (
        "import os, sys, time\n"
        "print('up', flush=True)\n"
        "own, got = os.getpid(), []\n"
        "end = time.monotonic() + 3\n"
        "while time.monotonic() < end:\n"
        "    for pid in os.listdir('/proc'):\n"
        "        if not pid.isdecimal() or int(pid) in (1, own): continue\n"
        "        try:\n"
        "            line = open(f'/proc/{pid}/cmdline').read()\n"
        "            links = [os.readlink(f'/proc/{pid}/fd/{n}') for n in os.listdir(f'/proc/{pid}/fd')]\n"
        "        except OSError: continue\n"
        "        if 'true' not in line: got += [l for l in links if 'socket' in l or 'pidfd' in l]\n"
        "print(got)\n"
    )
    own = box.start_python(watch)
    assert read_line(own.stdout) == "up"
    for _ in range(40):
        _joins(box, own)
    assert box.end(own).out.strip() == "[]"

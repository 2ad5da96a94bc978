"""Programs in containers: what they get, how they end, what they used."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from squall.runtime.driver import DriverError
from squall.runtime.spec import Usage
from tests.house.slowness import SLOWNESS
from tests.runtime.box import PYTHON, drain, limited, read_line

if TYPE_CHECKING:
    from tests.runtime.box import Box

pytestmark = pytest.mark.root

FOREVER = "import time\nprint('up', flush=True)\ntime.sleep(600)"


def test_program_runs_and_its_output_comes_home(box: Box) -> None:
    result = box.sh("echo out; echo err >&2")
    assert (result.status.code, result.out, result.err) == (0, "out\n", "err\n")


@pytest.mark.parametrize("code", [0, 1, 7, 127, 255])
def test_exit_code_is_exact(box: Box, code: int) -> None:
    status = box.sh(f"exit {code}").status
    assert (status.code, status.signal, status.by_us) == (code, None, False)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGTERM, signal.SIGKILL, signal.SIGABRT])
def test_signal_is_exact(box: Box, number: signal.Signals) -> None:
    status = box.sh(f"kill -{int(number)} $$").status
    assert (status.code, status.signal, status.oom, status.by_us) == (None, number, False, False)


def test_program_gets_what_the_spec_says(box: Box) -> None:
    code = (
        "import os, sys, socket\n"
        "names = sorted(os.environ.keys() - {'LC_CTYPE'})\n"
        "print(os.getcwd(), names, os.environ['A'], sys.argv[1:], socket.gethostname())\n"
        "print(os.getuid(), os.getgid(), os.getgroups(), os.getsid(0) == os.getpid())\n"
        "print(sorted(os.listdir('/proc/self/fd')), os.readlink('/proc/self/fd/0'))"
    )
    argv = (PYTHON, "-I", "-S", "-c", code, "a b", "ü")
    result = box.run(*argv, cwd="/not/there/yet", env={"A": "1"}, hostname="my-box")
    place, identity, descriptors = result.out.splitlines()
    assert place == "/not/there/yet ['A'] 1 ['a b', 'ü'] my-box"
    assert identity == "0 0 [] True"
    assert descriptors == "['0', '1', '2', '3'] /dev/null"


def test_no_signal_is_ignored_or_blocked_from_before(box: Box) -> None:
    result = box.sh("grep -E '^Sig(Blk|Ign)' /proc/self/status")
    assert result.out.split() == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16]


def test_no_core_files_and_many_descriptors(box: Box) -> None:
    core, files = box.sh("ulimit -c; ulimit -n").out.split()
    assert core == "0"
    assert int(files) >= 1024


def test_program_may_open_its_own_output(box: Box) -> None:
    assert box.sh("echo hello > /dev/stdout").out == "hello\n"


def test_program_is_found_by_path(box: Box) -> None:
    assert box.run("sh", "-c", "exit 4").status.code == 4


@pytest.mark.parametrize(
    ("argv", "cwd", "complaint"),
    [
        (("/no/such",), "/", "cannot run '/no/such': No such file or directory"),
        (("/etc",), "/", "cannot run '/etc': Permission denied"),
        (("true",), "/proc/1/root", "cannot run 'true': cannot work in '/proc/1/root'"),
    ],
)
def test_program_that_cannot_run_is_one_line(
    box: Box, argv: tuple[str, ...], cwd: str, complaint: str
) -> None:
    with pytest.raises(DriverError, match=complaint) as caught:
        box.run(*argv, cwd=cwd)
    assert "\n" not in str(caught.value)
    assert not list((box.state / "scratch").glob("box-*"))


def test_container_ends_with_its_program(box: Box) -> None:
    """What it left in the background dies, and its pipes close."""
    before = time.monotonic()
    result = box.sh("sleep 600 & sleep 600 & exit 5")
    assert result.status.code == 5
    assert time.monotonic() - before < 60


def test_orphans_are_reaped(box: Box) -> None:
    code = (
        "import os, time\n"
        "for _ in range(50):\n"
        "    if os.fork() == 0:\n"
        "        if os.fork() == 0: os._exit(0)\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
        "pids = lambda: [p for p in os.listdir('/proc') if p.isdigit()]\n"
        "end = time.time() + 20\n"
        "while len(pids()) > 2 and time.time() < end: time.sleep(0.01)\n"
        "print(sorted(pids()))"
    )
    assert box.python(code).out == "['1', '2']\n"


def test_term_reaches_the_program(box: Box) -> None:
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))\n"
        "print('up', flush=True)\ntime.sleep(600)"
    )
    started = box.start_python(code)
    assert read_line(started.stdout) == "up"
    box.do(box.runtime.kill(started.id, signal.SIGTERM))
    status = box.end(started).status
    assert (status.code, status.by_us) == (9, True)


def test_kill_ends_everything(box: Box) -> None:
    started = box.start("/bin/sh", "-c", "trap '' TERM; sleep 601 & echo up; wait")
    assert read_line(started.stdout) == "up"
    box.do(box.runtime.kill(started.id))
    status = box.end(started).status
    assert (status.signal, status.by_us, status.oom) == (signal.SIGKILL, True, False)
    assert not os.path.exists(f"/proc/{started.pid}")


def test_pid_is_the_hosts(box: Box) -> None:
    started = box.start_python(FOREVER)
    assert read_line(started.stdout) == "up"
    with open(f"/proc/{started.pid}/cmdline", encoding="utf-8") as line:
        assert line.read().startswith(PYTHON)
    box.do(box.runtime.kill(started.id))
    box.end(started)


def test_out_of_memory_is_told(box: Box) -> None:
    code = "x = []\nwhile True: x.append(bytearray(1 << 20))"
    status = box.python(code, resources=limited(memory_limit_mib=64)).status
    assert status.signal == signal.SIGKILL
    assert status.oom
    assert not status.by_us


def test_process_limit_is_told(box: Box) -> None:
    code = (
        "import os, time\n"
        "try:\n"
        "    for n in range(100):\n"
        "        if os.fork() == 0: time.sleep(600)\n"
        "except OSError as e: print(n, e.strerror)"
    )
    result = box.python(code, resources=limited(pids=20))
    count, reason = result.out.split(" ", 1)
    assert int(count) < 20
    assert reason == "Resource temporarily unavailable\n"
    assert result.status.pids_hit


def test_usage_is_counted_and_stays_after_the_end(box: Box) -> None:
    code = (
        "import time\nx = bytearray(40 << 20)\n"
        "while time.process_time() < 0.3: pass\n"
        "print('up', flush=True)\ntime.sleep(600)"
    )
    started = box.start_python(code)
    assert read_line(started.stdout) == "up"
    now = box.do(box.runtime.usage(started.id))
    assert now.cpu_seconds is not None
    assert 0.25 < now.cpu_seconds < 30
    box.do(box.runtime.kill(started.id))
    final = box.end(started).status.usage
    assert final.cpu_seconds is not None
    assert final.memory_peak_bytes is not None
    assert final.cpu_seconds >= now.cpu_seconds
    assert 40 << 20 < final.memory_peak_bytes < 200 << 20


def test_unknown_containers_are_harmless(box: Box) -> None:
    box.do(box.runtime.kill("nobody"))
    assert box.do(box.runtime.usage("nobody")) == Usage()
    with pytest.raises(DriverError, match="no container nobody"):
        box.do(box.runtime.wait("nobody"))


def test_id_is_taken_until_its_container_is_gone(box: Box) -> None:
    spec = box.spec(PYTHON, "-I", "-S", "-c", FOREVER)
    started = box.do(box.runtime.start(spec))
    other = box.connect()
    with pytest.raises(DriverError, match="exists already"):
        box.do(other.start(spec))
    other.disconnect()
    box.do(box.runtime.kill(spec.id))
    box.end(started)
    again = box.do(box.runtime.start(replace(spec, argv=("true",))))
    assert box.end(again).status.code == 0


def test_many_containers_at_once(box: Box) -> None:
    started = [box.start("/bin/sh", "-c", f"exit {n}") for n in range(20)]
    assert [box.end(s).status.code for s in started] == list(range(20))


def test_output_beyond_the_pipe_waits_for_its_reader(box: Box) -> None:
    started = box.start_python("import os\nfor _ in range(64): os.write(1, b'x' * 65536)")
    assert len(drain(started.stdout)) == 64 * 65536
    os.close(started.stderr)
    assert box.do(box.runtime.wait(started.id)).code == 0


def test_scratch_ends_with_the_container(box: Box) -> None:
    assert box.sh("mkdir -p /a/b && echo 1 > /a/b/c && cat /a/b/c").out == "1\n"
    assert box.sh("test -e /a").status.code == 1
    deadline = time.monotonic() + 30 * SLOWNESS
    while list((box.state / "scratch").iterdir()):
        assert time.monotonic() < deadline
        box.do(box.runtime.usage("nobody"))  # the launcher turns
        time.sleep(0.01)


def test_the_start_is_told_in_stages(box: Box) -> None:
    before = time.monotonic()
    started = box.start("/bin/sh", "-c", "exit 0")
    box.do(box.runtime.wait(started.id))
    names, times = zip(*started.stages, strict=True)
    assert names == ("launcher.request", "launcher.composed", "launcher.skeleton", "init.ready")
    moments = [before, *times, time.monotonic()]
    assert moments == sorted(moments)

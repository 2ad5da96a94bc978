"""Real processes of this user, on a loop of their own."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from squall.runtime import members
from squall.runtime.driver import DriverError, Started
from squall.runtime.process import MARK, ProcessRuntime
from squall.runtime.spec import ContainerSpec, ExitStatus, Resources, Usage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    Test = Callable[[ProcessRuntime], Awaitable[None]]

#: Stops until it is signalled, and says so first.
PAUSE = "import signal; print('up', flush=True); signal.pause()"

#: Leaves a child in a session and a working directory of its own, with all descriptors closed but the pipe.
DAEMON = """
import os, signal, sys
read, write = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(write, str(os.getpid()).encode())
        signal.pause()
    os._exit(0)
os.wait()
print(os.read(read, 20).decode(), flush=True)
"""


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for record in (tmp_path / "processes").glob("*"):
        members.kill_all(f"{MARK}={record.name}", None)


def spec(code: str, **fields: Any) -> ContainerSpec:
    made = {
        "id": f"ct-{os.urandom(8).hex()}",
        "workspace": "ws-1",
        "uid_base": 0,
        "argv": (sys.executable, "-I", "-S", "-c", code),
        "cwd": "/",
        **fields,
    }
    return ContainerSpec(**made)


def run(state: Path, test: Test) -> None:
    async def with_runtime() -> None:
        runtime = ProcessRuntime(state)
        try:
            await test(runtime)
        finally:
            await runtime.close()

    asyncio.run(with_runtime())
    assert list(state.glob("processes/*")) == []  # no record outlives its container


async def line(fd: int) -> str:
    """The next write of a container."""
    return (await asyncio.to_thread(os.read, fd, 1000)).decode().strip()


async def output(started: Started) -> tuple[str, str]:
    """All that a container writes, up to its end."""

    def read_all(fd: int) -> str:
        with os.fdopen(fd, encoding="utf-8") as file:
            return file.read()

    return await asyncio.to_thread(lambda: (read_all(started.stdout), read_all(started.stderr)))


def close(started: Started) -> None:
    os.close(started.stdout)
    os.close(started.stderr)


async def outcome(runtime: ProcessRuntime, code: str, **fields: Any) -> tuple[ExitStatus, str, str]:
    started = await runtime.start(spec(code, **fields))
    stdout, stderr = await output(started)
    return await runtime.wait(started.id), stdout, stderr


def test_program_gets_its_arguments_environment_and_directory(state: Path) -> None:
    async def test(runtime: ProcessRuntime) -> None:
        code = "import os, sys; print(os.getcwd(), sorted(os.environ)); os.write(2, b'no'); sys.exit(3)"
        status, stdout, stderr = await outcome(runtime, code, cwd=str(state), env={"LC_ALL": "C"})
        assert (status.code, status.signal, status.by_us) == (3, None, False)
        assert stdout == f"{state} ['LC_ALL', 'SQUALL_CONTAINER']\n"
        assert stderr == "no"

    run(state, test)


def test_end_by_a_signal_of_its_own_making(state: Path) -> None:
    async def test(runtime: ProcessRuntime) -> None:
        status, _, _ = await outcome(runtime, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
        assert (status.code, status.signal, status.by_us) == (None, signal.SIGSEGV, False)

    run(state, test)


def test_kill_is_told_as_ours(state: Path) -> None:
    async def test(runtime: ProcessRuntime) -> None:
        started = await runtime.start(spec(PAUSE))
        assert await line(started.stdout) == "up"
        await runtime.kill(started.id)
        status = await runtime.wait(started.id)
        assert (status.code, status.signal, status.by_us) == (None, signal.SIGKILL, True)
        await runtime.kill(started.id)  # unknown by now, and fine
        close(started)

    run(state, test)


def test_other_signals_go_to_the_main_process_alone(state: Path) -> None:
    async def test(runtime: ProcessRuntime) -> None:
        code = """
import os, signal, sys
if os.fork() == 0:
    signal.signal(signal.SIGUSR1, lambda *_: os._exit(9))
    print("child", flush=True); sys.stdin.read(); signal.pause()
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(5))
print("main", flush=True); signal.pause()
"""
        started = await runtime.start(spec(code))
        seen = ""
        while seen.count("\n") < 2:
            seen += await line(started.stdout) + "\n"
        await runtime.kill(started.id, signal.SIGUSR1)
        status = await runtime.wait(started.id)
        assert (status.code, status.by_us) == (5, False)
        close(started)

    run(state, test)


def test_daemons_end_with_the_main_process(state: Path) -> None:
    async def test(runtime: ProcessRuntime) -> None:
        started = await runtime.start(spec(DAEMON))
        stdout, _ = await output(started)  # ends only when the daemon, too, has closed it
        assert (await runtime.wait(started.id)).code == 0
        assert _gone(int(stdout))

    run(state, test)


def _gone(pid: int) -> bool:
    process = members.read(pid)
    return process is None or process.is_zombie


def test_output_is_kept_open_when_its_reader_goes_away(state: Path) -> None:
    async def test(runtime: ProcessRuntime) -> None:
        code = "import sys; print('a', flush=True); sys.stdin.read(); print('b', flush=True)"
        started = await runtime.start(spec(code))
        close(started)
        assert (await runtime.wait(started.id)).code == 0

    run(state, test)


def test_usage_while_it_runs_and_at_the_end(state: Path) -> None:
    async def test(runtime: ProcessRuntime) -> None:
        code = """
import os, sys, time
held = bytearray(40 << 20)
if os.fork():
    os.wait(); sys.exit()
while time.process_time() < 0.1: pass
print("up", flush=True)
import signal; signal.sigwait([signal.SIGUSR1])
"""
        started = await runtime.start(spec(code))
        assert await line(started.stdout) == "up"
        usage = await runtime.usage(started.id)
        assert usage.cpu_seconds is not None
        assert usage.cpu_seconds >= 0.08  # the child's, in ticks of 10 ms
        assert (usage.memory_bytes or 0) > 40 << 20
        await runtime.kill(started.id)
        final = (await runtime.wait(started.id)).usage
        assert (final.cpu_seconds or 0) >= usage.cpu_seconds
        assert (final.memory_peak_bytes or 0) >= (usage.memory_peak_bytes or 0)
        assert final.memory_bytes == 0
        assert await runtime.usage(started.id) == Usage()
        close(started)

    run(state, test)


def test_short_programs_usage_is_the_kernels(state: Path) -> None:
    async def test(runtime: ProcessRuntime) -> None:
        status, _, _ = await outcome(runtime, "import time\nwhile time.process_time() < 0.1: pass")
        assert (status.usage.cpu_seconds or 0) > 0.09
        assert (status.usage.memory_peak_bytes or 0) > 1 << 20

    run(state, test)


def test_memory_limit_is_a_memory_error(state: Path) -> None:
    async def test(runtime: ProcessRuntime) -> None:
        code = """
import resource
while resource.getrlimit(resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY: pass
bytearray(300 << 20)
"""
        resources = Resources(memory_limit_mib=100)
        status, _, stderr = await outcome(runtime, code, resources=resources)
        assert (status.code, status.oom) == (1, False)
        assert "MemoryError" in stderr

    run(state, test)


def test_no_core_files(state: Path) -> None:
    async def test(runtime: ProcessRuntime) -> None:
        started = await runtime.start(spec(PAUSE))
        assert await line(started.stdout) == "up"
        assert resource.prlimit(started.pid, resource.RLIMIT_CORE) == (0, 0)
        close(started)

    run(state, test)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"argv": ("/nonexistent/python",)}, "cannot run /nonexistent/python"),
        ({"cwd": "/nonexistent"}, "in /nonexistent: "),
        ({"argv": ("a\0b",)}, "null byte"),
        ({"network": "none"}, "block_network"),
        ({"upper": "/tmp"}, "isolation"),
        ({"id": "../x"}, "no id"),
    ],
)
def test_what_cannot_be_started_is_one_line_and_leaves_nothing(
    state: Path, fields: dict[str, Any], message: str
) -> None:
    async def test(runtime: ProcessRuntime) -> None:
        before = os.listdir("/proc/self/fd")
        with pytest.raises(DriverError, match=message) as raised:
            await runtime.start(spec(PAUSE, **fields))
        assert "\n" not in str(raised.value)
        assert os.listdir("/proc/self/fd") == before

    run(state, test)


def test_one_workspace_only(state: Path) -> None:
    async def test(runtime: ProcessRuntime) -> None:
        await outcome(runtime, "")
        with pytest.raises(DriverError, match="serves ws-1 only"):
            await runtime.start(spec(PAUSE, workspace="ws-2"))

    run(state, test)


def test_same_id_twice_is_refused_and_the_first_goes_on(state: Path) -> None:
    async def test(runtime: ProcessRuntime) -> None:
        started = await runtime.start(spec(PAUSE, id="ct-twice"))
        with pytest.raises(DriverError, match="exists already"):
            await runtime.start(spec(PAUSE, id="ct-twice"))
        assert await line(started.stdout) == "up"
        close(started)

    run(state, test)


def test_unknown_container_is_an_error(state: Path) -> None:
    async def test(runtime: ProcessRuntime) -> None:
        with pytest.raises(DriverError, match="ct-0"):
            await runtime.wait("ct-0")
        assert await runtime.usage("ct-0") == Usage()

    run(state, test)


def test_several_may_wait(state: Path) -> None:
    async def test(runtime: ProcessRuntime) -> None:
        started = await runtime.start(spec(PAUSE))
        waits = [asyncio.create_task(runtime.wait(started.id)) for _ in range(2)]
        impatient = asyncio.create_task(runtime.wait(started.id))
        assert await line(started.stdout) == "up"
        impatient.cancel()
        await runtime.kill(started.id)
        assert [s.signal for s in await asyncio.gather(*waits)] == [9, 9]
        close(started)

    run(state, test)


def test_later_life_kills_what_an_earlier_one_left(state: Path) -> None:
    async def dies_without_close() -> int:
        runtime = ProcessRuntime(state)
        started = await runtime.start(spec(DAEMON + "signal.pause()"))
        daemon = int(await line(started.stdout))
        assert not _gone(daemon)
        return daemon

    daemon = asyncio.run(dies_without_close())

    async def test(runtime: ProcessRuntime) -> None:
        assert await runtime.adopt() == []
        assert _gone(daemon)

    run(state, test)


def test_adoption_leaves_its_own_containers_alone(state: Path) -> None:
    async def test(runtime: ProcessRuntime) -> None:
        started = await runtime.start(spec(PAUSE))
        assert await line(started.stdout) == "up"
        await runtime.adopt()
        assert not _gone(started.pid)
        close(started)

    run(state, test)


def test_losses_are_sentences() -> None:
    assert all(text.endswith(".") and "\n" not in text for text in ProcessRuntime.losses)

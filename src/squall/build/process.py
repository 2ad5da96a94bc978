"""Runs a program on the host, its output streamed: for the process driver, and for who is root itself."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from squall.build.base import BuildError, HostRunner, StepResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

#: Lines of a failing program that an error shows, and the most bytes of one of them.
TAIL_LINES = 20
TAIL_LINE_BYTES = 1000

#: Seconds that a program has to end after SIGTERM.
TERMINATE_S = 3.0
#: What shells answer for a program that is not there.
NOT_FOUND = 127

#: Makes base systems, as root.
MAKER = (sys.executable, "-m", "squall.build.bases.make")


class Tail:
    """Keeps the last lines of a stream."""

    def __init__(self, lines: int = TAIL_LINES) -> None:
        self._lines: deque[bytes] = deque(maxlen=lines)
        self._open = b""

    def add(self, data: bytes) -> None:
        *whole, last = (self._open + data).split(b"\n")
        self._lines.extend(line[-TAIL_LINE_BYTES:] for line in whole)
        self._open = last[-TAIL_LINE_BYTES:]

    def text(self) -> str:
        lines = [*self._lines, self._open] if self._open else self._lines
        return b"\n".join(lines).decode(errors="replace")


async def run(
    argv: tuple[str, ...],
    log: Callable[[bytes], None],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
) -> StepResult:
    """Run a program to its end, both outputs to `log`. When we are cancelled, its process group is ended."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )
    except OSError as error:
        return StepResult(NOT_FOUND, f"{argv[0]}: {error.strerror}")
    tail = Tail()
    try:
        assert process.stdout is not None
        while data := await process.stdout.read(1 << 16):
            log(data)
            tail.add(data)
        return StepResult(await process.wait(), tail.text())
    finally:
        if process.returncode is None:
            await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(process.communicate(), TERMINATE_S)
            return


class DirectHostRunner(HostRunner):
    """For whoever is root itself."""

    async def debian_base(self, target: Path, suite: str, log: Callable[[bytes], None]) -> StepResult:
        return await run((*MAKER, "debian", str(target), suite), log)

    async def host_base(self, target: Path, log: Callable[[bytes], None], *, own_python: bool) -> StepResult:
        return await run((*MAKER, "host", str(target), *(["--own-python"] if own_python else [])), log)

    async def remove(self, tree: Path) -> None:
        result = await run(("rm", "-rf", "--one-file-system", "--", str(tree)), lambda _: None)
        if result.exit_code:
            raise BuildError(f"cannot remove {tree}: {result.tail}")

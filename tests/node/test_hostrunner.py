"""Base systems by way of the launcher: output, last words, and what a refusal becomes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from squall.build.base import BuildError, StepResult
from squall.node.hostrunner import LauncherHostRunner
from squall.runtime.driver import DriverError

if TYPE_CHECKING:
    from collections.abc import Callable

    from squall.runtime.namespaces import NamespacesRuntime


class Launcher:
    """What LauncherHostRunner uses of a NamespacesRuntime."""

    def __init__(self, refusal: str = "") -> None:
        self.refusal = refusal
        self.asked: list[tuple[object, ...]] = []

    async def debian_base(self, path: str, suite: str, output: Callable[[int], None]) -> int:
        self.asked.append((path, suite))
        return self._say(output)

    async def host_base(self, path: str, output: Callable[[int], None], *, own_python: bool) -> int:
        self.asked.append((path, own_python))
        return self._say(output)

    async def remove(self, path: str) -> None:
        self.asked.append((path,))
        if self.refusal:
            raise DriverError(self.refusal)

    def _say(self, output: Callable[[int], None]) -> int:
        reader, writer = os.pipe()
        output(reader)
        os.write(writer, b"first\nlast words")
        os.close(writer)
        if self.refusal:
            raise DriverError(self.refusal)
        return 4


def runner(launcher: Launcher) -> LauncherHostRunner:
    return LauncherHostRunner(cast("NamespacesRuntime", launcher))


def test_what_a_program_says_and_how_it_ended() -> None:
    async def scenario() -> None:
        launcher, log = Launcher(), list[bytes]()
        host = runner(launcher)
        assert await host.debian_base(Path("/l/fs"), "sid", log.append) == StepResult(4, "first\nlast words")
        assert await host.host_base(Path("/l/fs"), log.append, own_python=True) == StepResult(
            4, "first\nlast words"
        )
        await host.remove(Path("/l"))
        assert b"".join(log) == b"first\nlast words" * 2
        assert launcher.asked == [("/l/fs", "sid"), ("/l/fs", True), ("/l",)]

    asyncio.run(scenario())


def test_refusals_are_build_errors() -> None:
    async def scenario() -> None:
        host = runner(Launcher("the launcher is closing"))
        with pytest.raises(BuildError, match="no base system: the launcher is closing") as caught:
            await host.debian_base(Path("/l/fs"), "sid", lambda _: None)
        assert caught.value.tail == "first\nlast words"
        with pytest.raises(BuildError, match="cannot remove l: the launcher"):
            await host.remove(Path("/l"))

    asyncio.run(scenario())

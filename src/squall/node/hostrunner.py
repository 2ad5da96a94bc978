"""What only root may do for builds, done by the launcher: this agent has no privilege."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squall.build.base import BuildError, HostRunner, StepResult
from squall.node.output import Output
from squall.runtime.driver import DriverError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from squall.runtime.namespaces import NamespacesRuntime


class LauncherHostRunner(HostRunner):
    def __init__(self, runtime: NamespacesRuntime) -> None:
        self._runtime = runtime

    async def debian_base(self, target: Path, suite: str, log: Callable[[bytes], None]) -> StepResult:
        return await _streamed(log, lambda output: self._runtime.debian_base(str(target), suite, output))

    async def host_base(self, target: Path, log: Callable[[bytes], None], *, own_python: bool) -> StepResult:
        return await _streamed(
            log, lambda output: self._runtime.host_base(str(target), output, own_python=own_python)
        )

    async def remove(self, tree: Path) -> None:
        try:
            await self._runtime.remove(str(tree))
        except DriverError as error:
            raise BuildError(f"cannot remove {tree.name}: {error}") from None


async def _streamed(
    log: Callable[[bytes], None], start: Callable[[Callable[[int], None]], Awaitable[int]]
) -> StepResult:
    output = Output(log)
    try:
        try:
            code = await start(output.watch)
        finally:
            output.close()  # with what was not read yet
    except DriverError as error:
        raise BuildError(f"no base system: {error}", output.tail()) from None
    return StepResult(code, output.tail())

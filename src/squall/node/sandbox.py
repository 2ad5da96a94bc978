"""Build steps run in containers like functions do: the same isolation, with network, and no runner."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

from squall.build.base import BuildError, Sandbox, StepResult
from squall.node.files import building_for
from squall.node.output import Output
from squall.node.specs import DEFAULTS
from squall.runtime.driver import DriverError
from squall.runtime.spec import ContainerSpec, Mount

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from squall.runtime.driver import Runtime
    from squall.runtime.spec import ExitStatus


class NodeSandbox(Sandbox):
    """`timeout` is seconds for one step. Steps run in the zone of the tenant that the build is for."""

    def __init__(self, runtime: Runtime, timeout: float) -> None:
        self._runtime = runtime
        self._timeout = timeout

    async def run(
        self,
        layers: tuple[str, ...],
        upper: Path,
        argv: tuple[str, ...],
        *,
        env: Mapping[str, str],
        cwd: str,
        binds: Mapping[str, str],
        log: Callable[[bytes], None],
    ) -> StepResult:
        """See Sandbox.run. Raises BuildError where the step cannot be run at all, or not in time."""
        tenant = building_for.get()
        spec = ContainerSpec(
            id=f"bu-{secrets.token_hex(8)}",
            workspace=tenant.workspace,
            uid_base=tenant.uid_base,
            argv=argv,
            layers=layers,
            upper=str(upper),
            mounts=tuple(Mount(source, target) for source, target in binds.items()),
            env={**DEFAULTS, **env},
            cwd=cwd,
        )
        try:
            return await self._run(spec, log)
        except DriverError as error:
            raise BuildError(f"a build step could not be started: {error}") from None

    async def _run(self, spec: ContainerSpec, log: Callable[[bytes], None]) -> StepResult:
        started = await self._runtime.start(spec)
        output = Output(log)
        output.watch(started.stdout)
        output.watch(started.stderr)
        try:
            status = await asyncio.wait_for(self._runtime.wait(spec.id), self._timeout)
        except asyncio.TimeoutError:
            await self._end(spec.id)
            raise BuildError(
                f"a build step took more than {self._timeout:g} seconds", output.tail()
            ) from None
        except BaseException:
            await asyncio.shield(self._end(spec.id))
            raise
        finally:
            output.close()
        return StepResult(_code(status), output.tail() + _remark(status))

    async def _end(self, container: str) -> None:
        await self._runtime.kill(container)
        await self._runtime.wait(container)


def _code(status: ExitStatus) -> int:
    """As a shell says it: 128 and the signal's number."""
    return status.code if status.code is not None else 128 + (status.signal or 0)


def _remark(status: ExitStatus) -> str:
    return "\n(the step ran out of memory)" if status.oom else ""

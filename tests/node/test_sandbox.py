"""Build steps through a driver: what they ask for, what comes back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from squall.build.base import BuildError, StepResult
from squall.node.files import Tenant, building_for
from squall.node.sandbox import NodeSandbox
from squall.runtime.double import DoubleRuntime
from squall.runtime.spec import ExitStatus, Mount
from tests.node.fake_server import until

if TYPE_CHECKING:
    from pathlib import Path


async def step(sandbox: NodeSandbox, upper: Path, log: list[bytes]) -> StepResult:
    building_for.set(Tenant("w7", 1_065_536))
    return await sandbox.run(
        ("/l/base",),
        upper,
        ("sh", "-c", "make"),
        env={"A": "1"},
        cwd="/root",
        binds={"/host/pip.conf": "/etc/pip.conf"},
        log=log.append,
    )


async def started(runtime: DoubleRuntime) -> str:
    await until(lambda: bool(runtime.running))
    return runtime.running[0]


def test_a_step(tmp_path: Path) -> None:
    async def scenario() -> None:
        runtime, log = DoubleRuntime(), list[bytes]()
        running = asyncio.create_task(step(NodeSandbox(runtime, 60), tmp_path / "upper", log))
        container = await started(runtime)
        await asyncio.sleep(0)
        runtime.say(container, "".join(f"line {n}\n" for n in range(100)))
        await asyncio.sleep(0.05)
        runtime.say(container, "oh no", stderr=True)
        runtime.finish(container, ExitStatus(code=2))
        result = await running
        assert result.exit_code == 2
        assert result.tail.splitlines() == [*(f"line {n}" for n in range(80, 100)), "oh no"]
        assert b"".join(log).endswith(b"line 99\noh no")
        (spec,) = runtime.specs
        assert (spec.workspace, spec.uid_base, spec.upper) == ("w7", 1_065_536, str(tmp_path / "upper"))
        assert spec.mounts == (Mount("/host/pip.conf", "/etc/pip.conf"),)
        assert spec.env["A"] == "1"
        assert "PATH" in spec.env

    asyncio.run(scenario())


def test_a_step_that_takes_too_long(tmp_path: Path) -> None:
    async def scenario() -> None:
        runtime = DoubleRuntime()
        with pytest.raises(BuildError, match="more than"):
            await step(NodeSandbox(runtime, 0.1), tmp_path / "upper", [])
        assert runtime.running == []

    asyncio.run(scenario())


def test_a_step_whose_builder_gives_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        runtime = DoubleRuntime()
        running = asyncio.create_task(step(NodeSandbox(runtime, 60), tmp_path / "upper", []))
        await started(runtime)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert runtime.running == []

    asyncio.run(scenario())


def test_a_step_that_cannot_start(tmp_path: Path) -> None:
    async def scenario() -> None:
        runtime = DoubleRuntime()
        runtime.refusal = "no room"
        with pytest.raises(BuildError, match="could not be started: no room"):
            await step(NodeSandbox(runtime, 60), tmp_path / "upper", [])

    asyncio.run(scenario())

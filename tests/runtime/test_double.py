from __future__ import annotations

import asyncio
import os

import pytest

from squall.runtime.double import DoubleRuntime
from squall.runtime.driver import DriverError
from squall.runtime.spec import ContainerSpec, ExitStatus, Usage

SPEC = ContainerSpec("ct-1", "ws-1", 0, ("true",))


def test_containers_do_what_the_test_says() -> None:
    async def story() -> None:
        runtime = DoubleRuntime()
        started = await runtime.start(SPEC)
        waiting = asyncio.create_task(runtime.wait("ct-1"))
        runtime.say("ct-1", "hello")
        runtime.say("ct-1", "oh", stderr=True)
        runtime.usages["ct-1"] = Usage(1.0)
        assert await runtime.usage("ct-1") == Usage(1.0)
        runtime.finish("ct-1", ExitStatus(code=3))
        assert await waiting == ExitStatus(code=3)
        assert await runtime.usage("ct-1") == Usage()
        # The pipes end with the container.
        assert [os.read(fd, 100) for fd in (started.stdout, started.stderr)] == [b"hello", b"oh"]
        assert [os.read(fd, 100) for fd in (started.stdout, started.stderr)] == [b"", b""]
        os.close(started.stdout)
        os.close(started.stderr)
        assert runtime.specs == [SPEC]
        assert runtime.running == []

    asyncio.run(story())


def test_kills_are_recorded_and_sigkill_ends() -> None:
    async def story() -> None:
        runtime = DoubleRuntime()
        started = await runtime.start(SPEC)
        await runtime.kill("ct-1", 15)
        assert runtime.running == ["ct-1"]
        await runtime.close()
        await runtime.kill("ct-2")
        assert runtime.kills == [("ct-1", 15), ("ct-1", 9)]
        assert await runtime.wait("ct-1") == ExitStatus(signal=9, by_us=True)
        os.close(started.stdout)
        os.close(started.stderr)

    asyncio.run(story())


def test_starts_can_be_refused() -> None:
    async def story() -> None:
        runtime = DoubleRuntime()
        runtime.refusal = "no more room"
        with pytest.raises(DriverError, match="no more room"):
            await runtime.start(SPEC)
        assert runtime.specs == []

    asyncio.run(story())

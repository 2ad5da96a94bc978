"""Spawned calls: results later, from anywhere."""

from __future__ import annotations

import asyncio
import builtins
from typing import TYPE_CHECKING, Any

import pytest

import squall
from squall.exception import FunctionTimeoutError, InputCancellation, InvalidError, NotFoundError
from squall.wire.values import ErrorInfo, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sdk.fake_client import FakeServer


@pytest.fixture
def double(load: Callable[..., Any], server: FakeServer) -> Any:
    module = load("@app.function()\ndef double(x):\n    return 2 * x\n")
    module.app.deploy()
    return module.double


def test_spawn_is_durable(double: Any, server: FakeServer) -> None:
    call = double.spawn(4)
    assert call.object_id.startswith("fc-")
    assert server.calls[call.object_id].durable
    assert call.get() == 8
    assert call.get() == 8
    assert call.num_inputs() == 1


def test_from_asyncio(double: Any) -> None:
    async def run() -> tuple[int, int, list[int]]:
        call = await double.spawn.aio(4)
        again = await squall.FunctionCall.from_id.aio(call.object_id)
        return (
            await call.get.aio(),
            await again.get.aio(timeout=5),
            await squall.FunctionCall.gather.aio(call, again),
        )

    assert asyncio.run(run()) == (8, 8, [8, 8])


def test_a_call_made_blocking_is_read_on_asyncio(double: Any) -> None:
    call = double.spawn(1)
    assert asyncio.run(call.get.aio()) == 2


def test_get_with_a_timeout(double: Any, server: FakeServer) -> None:
    server.paused = True
    call = double.spawn(1)
    with pytest.raises(builtins.TimeoutError, match="no result yet"):
        call.get(timeout=0)
    with pytest.raises(builtins.TimeoutError, match=r"no result after 0\.01 s"):
        call.get(timeout=0.01)
    server.run_waiting()
    assert call.get(timeout=0) == 2
    with pytest.raises(InvalidError, match="timeout=-1"):
        call.get(timeout=-1)


def test_from_id(double: Any) -> None:
    assert squall.FunctionCall.from_id(double.spawn(3).object_id).get() == 6
    with pytest.raises(InvalidError, match="is no id of a call"):
        squall.FunctionCall.from_id("fu-1")


def test_gather(double: Any) -> None:
    calls = [double.spawn(n) for n in range(3)]
    assert squall.FunctionCall.gather(*calls) == [0, 2, 4]
    with pytest.raises(InvalidError, match="one by one"):
        squall.FunctionCall.gather(calls)  # type: ignore[arg-type]


def test_cancel(double: Any, server: FakeServer) -> None:
    server.paused = True
    call = double.spawn(1)
    call.cancel(terminate_containers=True)
    assert server.calls[call.object_id].terminated
    server.run_waiting()
    with pytest.raises(InputCancellation):
        call.get()
    with pytest.raises(NotFoundError):
        squall.FunctionCall.from_id("fc-unknown").cancel()


def test_outcomes_of_the_platform(double: Any, server: FakeServer) -> None:
    server.outcome = lambda _: Outcome("timeout", error=ErrorInfo("FunctionTimeoutError", "over 3 s"))
    with pytest.raises(FunctionTimeoutError, match="over 3 s"):
        double.spawn(1).get()

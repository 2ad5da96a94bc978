"""Spawned calls: results later, from anywhere."""

from __future__ import annotations

import asyncio
import builtins
from typing import TYPE_CHECKING, Any

import pytest

import squall
from squall.call_graph import InputStatus
from squall.client.api import ServiceRefusal
from squall.exception import FunctionTimeoutError, InputCancellation, InvalidError, NotFoundError
from squall.sdk import spawning
from squall.wire.control import GraphInput
from squall.wire.values import ErrorInfo, Outcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.sdk.fake_client import FakeServer


@pytest.fixture
def double(load: Callable[..., Any], server: FakeServer) -> Any:
    module = load("@app.function()\ndef double(x):\n    return 2 * x\n")
    module.app.deploy()
    return module.double


@pytest.mark.covers("Function.spawn", "FunctionCall.get", "FunctionCall.num_inputs")
def test_spawn_is_durable(double: Any, server: FakeServer) -> None:
    call = double.spawn(4)
    assert call.object_id.startswith("fc-")
    assert server.calls[call.object_id].durable
    assert call.get() == 8
    assert call.get() == 8
    assert call.num_inputs() == 1


@pytest.mark.covers("Function.spawn.aio")
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


@pytest.mark.covers("FunctionCall.get(timeout)")
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


@pytest.mark.covers("FunctionCall.from_id")
def test_from_id(double: Any) -> None:
    assert squall.FunctionCall.from_id(double.spawn(3).object_id).get() == 6
    with pytest.raises(InvalidError, match="is no id of a call"):
        squall.FunctionCall.from_id("fu-1")


@pytest.mark.covers("FunctionCall.gather")
def test_gather(double: Any) -> None:
    calls = [double.spawn(n) for n in range(3)]
    assert squall.FunctionCall.gather(*calls) == [0, 2, 4]
    with pytest.raises(InvalidError, match="one by one"):
        squall.FunctionCall.gather(calls)  # type: ignore[arg-type]


@pytest.mark.covers("FunctionCall.cancel", "FunctionCall.cancel(terminate_containers)")
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


@pytest.mark.covers(
    "Function.spawn_map",
    "FunctionCall.get(index)",
    "FunctionCall.iter",
    "FunctionCall.iter(start)",
    "FunctionCall.iter(end)",
)
def test_spawn_map(double: Any, server: FakeServer) -> None:
    call = double.spawn_map(range(1200))
    fake = server.calls[call.object_id]
    assert (fake.durable, fake.kind, fake.complete, fake.batches) == (True, "map", True, [512, 512, 176])
    assert call.num_inputs() == 1200
    assert list(call.iter()) == [2 * n for n in range(1200)]
    assert list(call.iter(3, 6)) == [6, 8, 10]
    assert list(call.iter(1198, 5000)) == [2396, 2398]
    assert call.get(index=7) == 14
    assert call.get() == 0
    with pytest.raises(InvalidError, match="has 1200 inputs, and none 1200"):
        call.get(index=1200)


@pytest.mark.covers("Function.spawn_map.aio")
def test_spawn_map_on_asyncio(double: Any) -> None:
    async def inputs() -> AsyncIterator[int]:
        for n in range(5):
            await asyncio.sleep(0)
            yield n

    async def run() -> list[int]:
        call = await double.spawn_map.aio(inputs())
        return [value async for value in call.iter.aio()]

    assert asyncio.run(run()) == [0, 2, 4, 6, 8]


def test_spawn_map_of_nothing(double: Any) -> None:
    call = double.spawn_map([])
    assert (call.num_inputs(), list(call.iter())) == (0, [])
    with pytest.raises(InvalidError, match="has 0 inputs"):
        call.get()


@pytest.mark.covers("Function.spawn_map(kwargs)")
def test_spawn_map_takes_arguments_as_map_does(load: Callable[..., Any], server: FakeServer) -> None:
    module = load("@app.function()\ndef add(x, y, z=0):\n    return x + y + z\n")
    module.app.deploy()
    assert list(module.add.spawn_map([1, 2], [10, 20], kwargs={"z": 100}).iter()) == [111, 122]


def test_an_iterator_that_raises_cancels_what_was_spawned(double: Any, server: FakeServer) -> None:
    def inputs() -> Iterator[int]:
        yield from range(600)
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        double.spawn_map(inputs())
    (call,) = server.calls.values()
    assert (call.batches, call.cancelled, call.complete) == ([512], True, False)


def test_spawn_map_waits_for_the_servers_disk(
    double: Any, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most UNDER_WAY batches, and the one being made, are not known to be stored."""
    taken = 0
    ahead: list[int] = []

    def accepted(call: Any, upto: int, timeout: float | None = None) -> None:
        ahead.append(taken - upto)

    def inputs() -> Iterator[int]:
        nonlocal taken
        while taken < 20 * spawning.BATCH:
            taken += 1
            yield taken

    monkeypatch.setattr("tests.sdk.fake_client.FakeBlockingCall.accepted", accepted)
    double.spawn_map(inputs())
    assert len(ahead) == 20 - spawning.UNDER_WAY + 1
    assert max(ahead) <= spawning.UNDER_WAY * spawning.BATCH


def test_large_inputs_of_a_spawned_map_wait_as_blobs(double: Any, server: FakeServer) -> None:
    call = double.spawn_map(["x" * 100_000, "y"])
    assert [bool(i.payload.blob) for i in server.calls[call.object_id].inputs.values()] == [True, False]
    assert [len(value) for value in call.iter()] == [200_000, 2]


def test_iter_asks_for_a_window_at_a_time(double: Any, server: FakeServer) -> None:
    server.backwards = True
    call = double.spawn_map(range(100))
    values = call.iter()
    assert [next(values) for _ in range(3)] == [0, 2, 4]
    assert server.attached == [(0, 32)]
    assert list(values) == [2 * n for n in range(3, 100)]
    assert server.attached == [(0, 32), (32, 64), (64, 96), (96, 100)]


def test_iter_raises_what_an_input_raised(load: Callable[..., Any], server: FakeServer) -> None:
    module = load("@app.function()\ndef divide(x):\n    return 12 / x\n")
    module.app.deploy()
    values = module.divide.spawn_map([1, 0, 2]).iter()
    assert next(values) == 12
    with pytest.raises(ZeroDivisionError):
        next(values)


def test_gather_raises_at_once(load: Callable[..., Any], server: FakeServer) -> None:
    module = load("@app.function()\ndef divide(x):\n    return 12 / x\n")
    module.app.deploy()
    server.paused = True
    slow = module.divide.spawn(1)
    server._waiting.clear()  # it never ends
    failing = module.divide.spawn(0)
    server.run_waiting()
    with pytest.raises(ZeroDivisionError):
        squall.FunctionCall.gather(slow, failing)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(squall.FunctionCall.gather.aio(slow, failing))


def test_gather_of_a_call_that_raises_a_timeout_of_its_own(
    load: Callable[..., Any], server: FakeServer
) -> None:
    module = load("@app.function()\ndef late():\n    raise squall.exception.TimeoutError('mine')\n")
    module.app.deploy()
    with pytest.raises(squall.exception.TimeoutError, match="mine"):
        squall.FunctionCall.gather(module.late.spawn())


def test_an_expired_result(double: Any, server: FakeServer) -> None:
    call = double.spawn(1)
    server.refusals["call"] = ServiceRefusal("expired", "it is gone")
    with pytest.raises(squall.exception.OutputExpiredError, match="it is gone"):
        call.get()


@pytest.mark.covers("FunctionCall.get_call_graph")
def test_the_call_graph_is_a_tree(double: Any, server: FakeServer) -> None:
    call = double.spawn(1)
    root = f"{call.object_id}:0"
    server.graph = [
        GraphInput(root, call.object_id, "", "outer", "m", "ok", "ct-1"),
        GraphInput("fc-b:0", "fc-b", root, "inner", "m", "exception", "ct-2"),
        GraphInput("fc-b:1", "fc-b", root, "inner", "m", "pending"),
        GraphInput("fc-c:0", "fc-c", "fc-b:1", "leaf", "m", "timeout"),
    ]
    (outer,) = call.get_call_graph()
    assert (outer.function_name, outer.module_name, outer.task_id) == ("outer", "m", "ct-1")
    assert (outer.input_id, outer.function_call_id) == (root, call.object_id)
    assert outer.status is InputStatus.SUCCESS
    assert [child.status for child in outer.children] == [InputStatus.FAILURE, InputStatus.PENDING]
    assert [child.status for child in outer.children[1].children] == [InputStatus.TIMEOUT]
    assert asyncio.run(call.get_call_graph.aio()) == [outer]

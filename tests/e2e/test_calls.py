"""Calls from a program of the user's: every way to make one, and what comes back."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

import pytest

import squall
from squall import exception
from tests.e2e.apps import calls

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.kit import Daemon

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

#: For type checkers, a call of an async function gives a coroutine.
asquare: Any = calls.asquare
atotal: Any = calls.atotal


@pytest.fixture(scope="module", autouse=True)
def running(here: Daemon) -> Iterator[None]:
    with calls.app.run():
        yield


def test_remote_is_elsewhere_and_local_is_here() -> None:
    pid, container, at_home = calls.where.remote()
    assert (pid != os.getpid() or container, at_home) == (True, False)
    assert container.startswith("ct-")
    assert calls.where.local() == (os.getpid(), "", True)


def test_arguments_come_back_as_they_were() -> None:
    given = ((1, "ü", None, b"\0", {"a": [1.5]}, {3}), {"x": (1, 2), "self": "me", "mode": 3})
    assert calls.echo.remote(*given[0], **given[1]) == given
    assert calls.echo.remote() == ((), {})


@pytest.mark.parametrize("mebibytes", [5, 40])
def test_large_arguments_and_results(mebibytes: int) -> None:
    data = os.urandom(1 << 20) * mebibytes
    (back,), _ = calls.echo.remote(data)
    assert len(back) == len(data)
    assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest()


def test_map_in_order_and_as_they_come() -> None:
    assert list(calls.double.map(range(200))) == [2 * x for x in range(200)]
    assert sorted(calls.double.map(range(50), order_outputs=False)) == [2 * x for x in range(50)]
    assert list(calls.double.map([1, 2], [10, 20])) == [12, 24]
    assert list(calls.double.map([1, 2], kwargs={"plus": 5})) == [7, 9]
    assert list(calls.double.starmap([(1, 1), (2, 2)])) == [3, 6]
    assert list(calls.double.map([])) == []


def test_unordered_results_do_not_wait_for_a_slow_one() -> None:
    results = calls.uneven.map([3.0, 0.0, 0.0], order_outputs=False)
    assert [next(results), next(results)] == [0.0, 0.0]
    assert list(results) == [3.0]
    assert list(calls.uneven.map([0.3, 0.0])) == [0.3, 0.0]


def test_exceptions_of_a_map() -> None:
    results: list[Any] = list(calls.risky.map(range(7), return_exceptions=True))
    assert [r.number for r in results if isinstance(r, calls.UnluckyError)] == [0, 3, 6]
    assert [r for r in results if isinstance(r, int)] == [1, 2, 4, 5]
    with pytest.raises(calls.UnluckyError, match="unlucky 3"):
        list(calls.risky.map([1, 2, 3, 4]))
    calls.risky.for_each([1, 2, 3], ignore_exceptions=True)


def test_an_exception_is_the_one_that_was_raised() -> None:
    with pytest.raises(calls.UnluckyError) as caught:
        calls.chained.remote()
    assert (type(caught.value), caught.value.number) == (calls.UnluckyError, 7)
    last = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert (last.name, last.line) == ("chained", "raise UnluckyError(7) from error")
    assert last.filename == calls.__file__, "its own file here, not the container's copy"
    cause = caught.value.__cause__
    assert isinstance(cause, ValueError)
    assert "invalid literal for int" in str(cause)


def test_what_cannot_be_pickled_is_told() -> None:
    with pytest.raises(exception.RemoteError) as caught:
        calls.stuck.remote()
    assert "StuckError: it cannot leave" in str(caught.value)
    with pytest.raises(exception.SerializationError, match="lock"):
        calls.unpicklable.remote()
    with pytest.raises(exception.SerializationError):
        calls.echo.remote(n for n in range(3))


def test_generators() -> None:
    assert list(calls.count.remote_gen(0)) == []
    assert list(calls.count.remote_gen(500)) == list(range(500))
    with pytest.raises(exception.InvalidError, match="remote_gen"):
        calls.count.remote(3)


def test_a_generator_that_is_broken_off_ends_in_its_container() -> None:
    values: Any = calls.broken_off.remote_gen(1_000_000)
    assert [next(values) for _ in range(4)] == [[], 0, 1, 2]
    values.close()
    assert next(calls.broken_off.remote_gen(1)) == [1_000_000]


def test_spawn() -> None:
    call = calls.wait.spawn(1.0)
    assert call.object_id.startswith("fc-")
    with pytest.raises(exception.TimeoutError):
        call.get(timeout=0)
    with pytest.raises(TimeoutError):
        call.get(timeout=0.05)
    assert call.get() == "waited"
    assert call.get(timeout=0) == "waited"
    assert call.num_inputs() == 1


def test_gather() -> None:
    spawned = [calls.double.spawn(x) for x in range(5)]
    assert squall.FunctionCall.gather(*spawned) == [0, 2, 4, 6, 8]
    with pytest.raises(calls.UnluckyError):
        squall.FunctionCall.gather(calls.risky.spawn(1), calls.risky.spawn(3))


@pytest.mark.parametrize("terminate", [False, True])
def test_cancel(terminate: bool) -> None:
    call = calls.wait.spawn(600)
    with pytest.raises(TimeoutError):
        call.get(timeout=0.5)
    began = time.monotonic()
    call.cancel(terminate_containers=terminate)
    with pytest.raises(exception.InputCancellation):
        call.get(timeout=30)
    assert time.monotonic() - began < 20
    assert calls.wait.remote(0) == "waited"


def test_a_call_by_its_id_from_another_process(here: Daemon) -> None:
    call = calls.double.spawn(21)
    code = f"import squall; print(squall.FunctionCall.from_id({call.object_id!r}).get(timeout=60))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=here.environ(), capture_output=True, text=True, check=True
    )
    assert done.stdout == "42\n"
    with pytest.raises(exception.NotFoundError):
        squall.FunctionCall.from_id("fc-" + "0" * 32).get(timeout=10)


def test_nested_calls() -> None:
    assert calls.quadruple.remote(3) == 12
    assert calls.total.remote(30) == 2 * sum(range(30))
    assert calls.soon.remote(4) == 9
    assert calls.counted.remote(7) == list(range(7))
    assert atotal.remote(6) == 30
    assert calls.nested_failure.remote(3) == "UnluckyError 3"


def test_a_call_that_a_function_spawned_can_be_waited_for_here() -> None:
    assert calls.later.remote(5).get(timeout=60) == 10


def test_asyncio() -> None:
    async def scene() -> None:
        assert await asquare.remote.aio(5) == 25
        assert [v async for v in calls.acount.remote_gen.aio(20)] == list(range(20))
        assert [v async for v in calls.double.map.aio(range(20))] == [2 * x for x in range(20)]
        many = await asyncio.gather(*(asquare.remote.aio(x) for x in range(20)))
        assert many == [x * x for x in range(20)]
        call = await asquare.spawn.aio(6)
        assert await call.get.aio() == 36
        assert await asquare.local.aio(3) == 9
        with pytest.raises(calls.UnluckyError):
            await calls.risky.remote.aio(9)

    asyncio.run(scene())
    assert asquare.remote(4) == 16


def test_a_task_that_is_cancelled_here_is_cancelled_there() -> None:
    async def scene() -> None:
        task = asyncio.create_task(calls.wait.remote.aio(600))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scene())


def test_a_function_sent_whole() -> None:
    app = squall.App("e2e-serialized")
    offset = 100

    def add(x: int) -> int:
        return x + offset

    function = app.function(serialized=True)(add)
    with app.run():
        assert list(function.map(range(3))) == [100, 101, 102]


def test_a_function_by_its_id() -> None:
    found = squall.Function.from_id(calls.app.function_ids["double"])
    assert found.remote(4) == 8

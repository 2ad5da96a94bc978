"""Functions: each way to call one, blocking and on asyncio, through pickles and a server in memory."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

import pytest

import squall
from squall.exception import (
    ExecutionError,
    InvalidError,
    NotFoundError,
    RemoteError,
    RequestSizeError,
    SerializationError,
)
from squall.sdk.dual import DualStream
from squall.sdk.feeding import BATCH, OUTSTANDING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

    from squall.sdk.modes import Mode
    from tests.sdk.fake_client import FakeServer

MATH = """
@app.function()
def add(x, y=1):
    return x + y

@app.function()
def divide(x):
    return 12 / x

@app.function()
async def later(x):
    return x * 2

@app.function()
def count(n):
    yield from range(n)

@app.function()
def big(n):
    return bytes(n)
"""


@pytest.fixture
def math(load: Callable[..., Any], server: FakeServer) -> Iterator[Any]:
    module = load(MATH)
    with module.app.run():
        yield module


def both(dual: Any, *args: Any, **kwargs: Any) -> list[Any]:
    """The result of the blocking and of the asyncio form; an iterator as a list."""
    result = dual(*args, **kwargs)
    blocking = list(result) if hasattr(result, "__next__") else result

    async def run() -> Any:
        other = dual.aio(*args, **kwargs)
        return [x async for x in other] if hasattr(other, "__anext__") else await other

    return [blocking, asyncio.run(run())]


@pytest.mark.covers("Function.remote", "Function.remote.aio")
def test_remote(math: Any) -> None:
    assert both(math.add.remote, 2) == [3, 3]
    assert both(math.add.remote, 2, y=5) == [7, 7]
    assert both(math.later.remote, 4) == [8, 8]


def test_remote_takes_one_message_and_forgets_its_call(math: Any, server: FakeServer) -> None:
    before = len(server.requests)
    math.add.remote(1)
    assert len(server.requests) == before
    (call,) = server.calls.values()
    assert (call.batches, call.complete, call.kind, call.durable) == ([1], True, "unary", False)


@pytest.mark.covers("Function.local", "Function.local.aio")
def test_local(math: Any) -> None:
    assert math.add.local(2) == 3
    assert asyncio.run(math.later.local(3)) == 6
    assert asyncio.run(math.later.local.aio(3)) == 6
    assert asyncio.run(math.add.local.aio(3)) == 4
    assert list(math.count.local(3)) == [0, 1, 2]


def test_exceptions_come_home(math: Any) -> None:
    with pytest.raises(ZeroDivisionError, match="division by zero") as caught:
        math.divide.remote(0)
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert [frames[0].name, frames[-1].name] == ["test_exceptions_come_home", "divide"]
    assert frames[-1].line == "return 12 / x"


async def _awaited(math: Any) -> None:
    await math.divide.remote.aio(0)


async def _iterated(math: Any) -> None:
    async for _ in math.divide.map.aio([0]):
        pass


async def _fetched(math: Any) -> None:
    await (await math.divide.spawn.aio(0)).get.aio()


@pytest.mark.parametrize("use", [_awaited, _iterated, _fetched])
def test_awaited_they_come_home_without_our_frames(math: Any, use: Callable[[Any], Any]) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        asyncio.run(use(math))
    frames = traceback.extract_tb(caught.value.__traceback__)
    ours = [frame.name for frame in frames if os.path.dirname(squall.__file__) in frame.filename]
    assert frames[-1].name == "divide"
    assert len(ours) == 1, "Python itself adds the frame where it is raised again"


def test_a_stream_that_is_awaited_ends_where_its_reader_stops() -> None:
    ended: list[bool] = []

    async def flow(mode: Mode) -> AsyncGenerator[int, None]:
        try:
            for n in range(1000):
                yield n
        finally:
            ended.append(True)

    async def read() -> None:
        stream: DualStream[..., int] = DualStream(flow)
        values = stream.aio()
        async for _ in values:
            break
        await values.aclose()
        assert ended == [True], "at once, and not when the loop ends"

    asyncio.run(read())


@pytest.mark.covers("Function.map", "Function.map.aio")
def test_map_keeps_the_order(math: Any, server: FakeServer) -> None:
    server.backwards = True
    assert both(math.add.map, range(200)) == [list(range(1, 201))] * 2


@pytest.mark.covers("Function.map(order_outputs)")
def test_map_gives_results_as_they_come(math: Any, server: FakeServer) -> None:
    server.paused = server.backwards = True
    results = math.add.map(iter(range(10)), order_outputs=False)
    threading.Timer(0.2, server.run_waiting).start()
    got = list(results)
    assert sorted(got) == list(range(1, 11))
    assert got != sorted(got)


@pytest.mark.covers("Function.map(kwargs)")
def test_map_zips_and_gives_kwargs(math: Any) -> None:
    assert both(math.add.map, [1, 2, 3], [10, 20]) == [[11, 22]] * 2
    assert both(math.add.map, [1, 2], kwargs={"y": 100}) == [[101, 102]] * 2


def test_map_of_nothing_sends_nothing(math: Any, server: FakeServer) -> None:
    assert both(math.add.map, []) == [[], []]
    assert all(not call.batches for call in server.calls.values())


def test_map_sends_batches(math: Any, server: FakeServer) -> None:
    assert len(list(math.add.map(range(5 * BATCH)))) == 5 * BATCH
    (call,) = server.calls.values()
    assert sum(call.batches) == 5 * BATCH
    assert max(call.batches) >= 49


def test_map_takes_inputs_as_results_are_taken(math: Any, server: FakeServer) -> None:
    taken = 0

    def inputs() -> Iterator[int]:
        nonlocal taken
        for i in range(10 * OUTSTANDING):
            taken = i + 1
            yield i

    results = math.add.map(inputs())
    assert next(results) == 1
    time.sleep(0.1)
    assert taken <= OUTSTANDING + 2
    results.close()
    (call,) = server.calls.values()
    assert call.most_outstanding <= OUTSTANDING + 1
    assert call.cancelled


def test_an_endless_map_stays_small_and_ends_when_nobody_wants_more(math: Any, server: FakeServer) -> None:
    closed = threading.Event()

    def inputs() -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            closed.set()

    got = list(itertools.islice(math.add.map(inputs()), 3 * OUTSTANDING))
    assert got == list(range(1, 3 * OUTSTANDING + 1))
    gc.collect()
    assert closed.wait(10)
    (call,) = server.calls.values()
    assert call.most_outstanding <= OUTSTANDING + 1
    assert len(call.inputs) <= 4 * OUTSTANDING + BATCH
    assert call.cancelled


@pytest.mark.parametrize("is_async", [False, True])
def test_an_endless_map_on_asyncio(math: Any, server: FakeServer, is_async: bool) -> None:
    async def endless() -> AsyncIterator[int]:
        for number in itertools.count():
            yield number

    async def run() -> list[int]:
        got: list[int] = []
        results = math.add.map.aio(endless() if is_async else itertools.count())
        async for value in results:
            got.append(value)
            if len(got) == 2 * OUTSTANDING:
                await results.aclose()
        return got

    assert asyncio.run(run()) == list(range(1, 2 * OUTSTANDING + 1))
    (call,) = server.calls.values()
    assert call.most_outstanding <= OUTSTANDING + 1
    assert call.cancelled


def test_map_does_not_wait_for_a_slow_iterator(math: Any) -> None:
    release = threading.Event()

    def inputs() -> Iterator[int]:
        yield from (1, 2, 3)
        assert release.wait(10)
        yield 4

    results = math.add.map(inputs())
    assert [next(results) for _ in range(3)] == [2, 3, 4]
    release.set()
    assert list(results) == [5]


def test_map_of_large_inputs_is_bounded_in_bytes(math: Any, server: FakeServer) -> None:
    server.paused = True

    def go_on() -> None:
        server.paused = False
        server.run_waiting()

    threading.Timer(0.3, go_on).start()
    assert len(list(math.big.map([bytes(1 << 20)] * 100))) == 100
    (call,) = server.calls.values()
    assert 0 < call.most_outstanding <= 64


def test_map_raises_the_first_and_cancels_the_rest(math: Any, server: FakeServer) -> None:
    results = math.divide.map([1, 0, 2])
    assert next(results) == 12
    with pytest.raises(ZeroDivisionError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)
    (call,) = server.calls.values()
    assert call.cancelled


@pytest.mark.covers("Function.map(return_exceptions)")
def test_map_returns_exceptions(math: Any) -> None:
    for results in both(math.divide.map, [1, 0, 2], return_exceptions=True):
        assert [type(r) for r in results] == [float, ZeroDivisionError, float]


def test_an_input_iterator_that_raises_ends_the_map(math: Any, server: FakeServer) -> None:
    def inputs() -> Iterator[int]:
        yield 1
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        list(math.add.map(inputs()))
    (call,) = server.calls.values()
    assert call.cancelled


def test_map_aio_takes_asynchronous_iterables(math: Any) -> None:
    async def inputs() -> AsyncIterator[int]:
        for i in range(3):
            await asyncio.sleep(0)
            yield i

    async def run() -> list[int]:
        return [x async for x in math.add.map.aio(inputs(), [1, 1, 1])]

    assert asyncio.run(run()) == [1, 2, 3]


def test_map_aio_abandoned_cancels(math: Any, server: FakeServer) -> None:
    async def run() -> None:
        results = math.add.map.aio(range(5000))
        async for _ in results:
            break
        await results.aclose()

    asyncio.run(run())
    (call,) = server.calls.values()
    assert call.cancelled


@pytest.mark.parametrize(
    ("inputs", "message"),
    [((), "needs an iterable"), ((5,), "argument 1 of add.map\\(\\) is no iterable, but int")],
)
def test_map_of_what_is_no_iterable(math: Any, inputs: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InvalidError, match=message):
        list(math.add.map(*inputs))


def test_blocking_map_names_aio_for_asynchronous_iterables(math: Any) -> None:
    async def inputs() -> AsyncIterator[int]:
        yield 1

    with pytest.raises(InvalidError, match=r"use \.aio"):
        list(math.add.map(inputs()))


@pytest.mark.covers(
    "Function.starmap",
    "Function.starmap.aio",
    "Function.for_each",
    "Function.for_each.aio",
    "Function.starmap(*)",
    "Function.for_each(*)",
)
def test_starmap_and_for_each(math: Any, server: FakeServer) -> None:
    assert both(math.add.starmap, [(1, 2), (3, 4)]) == [[3, 7]] * 2
    assert both(math.add.starmap, [(1,), (2,)], kwargs={"y": 10}) == [[11, 12]] * 2
    unordered = math.divide.starmap([(0,), (4,)], order_outputs=False, return_exceptions=True)
    assert sorted(str(value) for value in unordered) == ["3.0", "division by zero"]
    assert both(math.add.for_each, [1, 2]) == [None, None]
    assert both(math.add.for_each, [1, 2], kwargs={"y": 1}) == [None, None]
    with pytest.raises(ZeroDivisionError):
        math.divide.for_each([0])
    math.divide.for_each([0], ignore_exceptions=True)


@pytest.mark.covers("Function.remote_gen", "Function.remote_gen.aio", "App.function(is_generator)")
def test_remote_gen(math: Any, server: FakeServer) -> None:
    assert both(math.count.remote_gen, 200) == [list(range(200))] * 2
    granted = next(iter(server.calls.values())).credits
    assert granted == [96, 128, 160, 192, 224, 256]


def test_remote_gen_abandoned_cancels(math: Any, server: FakeServer) -> None:
    values = math.count.remote_gen(100)
    assert next(values) == 0
    values.close()
    (call,) = server.calls.values()
    assert call.cancelled


def test_remote_gen_raises_after_its_values(load: Callable[..., Any], server: FakeServer) -> None:
    module = load("@app.function()\ndef broken():\n    yield 1\n    raise KeyError('x')\n")
    with module.app.run():
        values = module.broken.remote_gen()
        assert next(values) == 1
        with pytest.raises(KeyError):
            next(values)


@pytest.mark.parametrize("method", ["remote", "spawn"])
def test_a_generator_function_is_no_function(math: Any, method: str) -> None:
    with pytest.raises(InvalidError, match=r"call \.remote_gen"):
        getattr(math.count, method)(1)
    with pytest.raises(InvalidError, match="no generator function"):
        list(math.add.remote_gen(1))


def test_large_payloads_travel_as_blobs(math: Any, server: FakeServer) -> None:
    data = bytes(3 << 20)
    assert both(math.add.remote, data, y=b"!") == [data + b"!"] * 2
    assert any(len(blob) > 3 << 20 for blob in server.blobs.values())


def test_too_large_a_payload_is_refused_before_it_is_sent(
    math: Any, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squall.sdk.serialization.PAYLOAD_LIMIT", 1 << 20)
    before = len(server.uploads)
    with pytest.raises(RequestSizeError, match="arguments of add take 2 MiB and 1 MiB are possible"):
        math.add.remote(bytes(2 << 20))
    assert len(server.uploads) == before
    assert not server.calls


def test_an_argument_that_cannot_be_pickled_is_named(math: Any, server: FakeServer) -> None:
    with pytest.raises(
        SerializationError, match=r"^argument 2 of add, of type _thread.lock, cannot be"
    ) as caught:
        math.add.remote(1, threading.Lock())
    assert "\n" not in str(caught.value)
    with pytest.raises(SerializationError, match=r"^y of add, of type"):
        math.add.remote(1, y=threading.Lock())
    assert not server.calls


def test_lambdas_are_arguments_too(load: Callable[..., Any], server: FakeServer) -> None:
    module = load("@app.function()\ndef apply(f, x):\n    return f(x)\n")
    factor = 3
    with module.app.run():
        assert module.apply.remote(lambda x: x * factor, 5) == 15


def test_what_would_end_the_program_is_told_as_an_error(load: Callable[..., Any], server: FakeServer) -> None:
    module = load("import sys\n@app.function()\ndef leave():\n    sys.exit(3)\n")
    with module.app.run(), pytest.raises(RemoteError, match="SystemExit: 3"):
        module.leave.remote()


def test_without_a_running_app_it_says_what_to_do(load: Callable[..., Any], server: FakeServer) -> None:
    module = load(MATH)
    with pytest.raises(ExecutionError, match="squall run"):
        module.add.remote(1)
    with module.app.run():
        module.add.remote(1)
    with pytest.raises(ExecutionError):
        module.add.remote(1)


def test_ctrl_c_cancels_the_call(math: Any, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    server.paused = True
    monkeypatch.setattr("tests.sdk.fake_client.FakeBlockingCall.next", interrupted)
    with pytest.raises(KeyboardInterrupt):
        math.add.remote(1)
    (call,) = server.calls.values()
    assert call.cancelled


def test_a_cancelled_task_cancels_the_call(math: Any, server: FakeServer) -> None:
    server.paused = True

    async def run() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(math.add.remote.aio(1), 0.05)

    asyncio.run(run())
    (call,) = server.calls.values()
    assert call.cancelled


@pytest.mark.covers("Function.from_name")
def test_a_function_of_a_deployed_app(load: Callable[..., Any], server: FakeServer) -> None:
    load(MATH).app.deploy()
    add = squall.Function.from_name("example", "add")
    assert both(add.remote, 1) == [2, 2]
    assert server.requests.count("function.lookup") == 1
    assert list(squall.Function.from_name("example", "count").remote_gen(2)) == [0, 1]
    with pytest.raises(InvalidError, match=r"call \.remote_gen"):
        squall.Function.from_name("example", "count").remote(1)
    with pytest.raises(NotFoundError, match="no function nothing"):
        squall.Function.from_name("example", "nothing").remote()
    with pytest.raises(ExecutionError, match="has no code here"):
        add.local(1)


def test_a_bare_call_does_not_say_where(math: Any, server: FakeServer) -> None:
    with pytest.raises(
        InvalidError, match=r"^add\(\.\.\.\) .* add\.remote\(.* or add\.local\(\.\.\.\) to run it here$"
    ):
        math.add(1)
    with pytest.raises(InvalidError, match=r"count\.remote_gen\(\.\.\.\) to run it in a container, or"):
        math.count(1)
    with pytest.raises(InvalidError, match=r"add\.remote\(\.\.\.\) to run it in a container$"):
        squall.Function.from_name("example", "add")(1)
    assert not server.calls


def test_parameters_may_have_any_name(load: Callable[..., Any], server: FakeServer) -> None:
    module = load("@app.function()\ndef f(mode, self):\n    return mode, self\n")
    with module.app.run():
        assert both(module.f.remote, mode=1, self=2) == [(1, 2), (1, 2)]


def test_it_looks_like_the_function(math: Any) -> None:
    assert math.add.__name__ == "add"
    assert math.add.get_raw_f()(1) == 2
    assert repr(math.add) == "<Function add>"


def test_what_is_not_there_yet_says_so(math: Any) -> None:
    assert not hasattr(math.add, "get_web_url")
    with pytest.raises(squall.exception.UnimplementedError, match=r"Function\.get_web_url"):
        math.add.get_web_url()
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = math.add.nonsense

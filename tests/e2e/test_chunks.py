"""Maps of quick inputs: they travel in chunks, and nobody can tell it from what comes back."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from squall import exception
from squall.sdk.feeding import Feeder
from tests.e2e.apps import chunked
from tests.e2e.kit import Daemon, until
from tests.e2e.test_crashes import kill, processes_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from squall.wire.values import OutputItem

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
MANY = 3000


@pytest.fixture(scope="module", autouse=True)
def world(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon to be mistreated. (The common one is there first: it has the base system made.)"""
    with Daemon(tmp_path_factory.mktemp("chunks")).life() as world, world.environment(), chunked.app.run():
        list(chunked.act.map(range(40)))
        yield world


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How many inputs came back together, and how often."""
    seen: Counter[int] = Counter()
    arrived = Feeder.arrived

    def noted(self: Feeder, output: OutputItem) -> None:
        seen[output.count] += 1
        arrived(self, output)

    monkeypatch.setattr(Feeder, "arrived", noted)
    return seen


def doubled(count: int) -> list[int]:
    return [2 * n for n in range(count)]


def test_quick_inputs_travel_together_and_come_in_order(sizes: Counter[int]) -> None:
    assert list(chunked.act.map(range(MANY))) == doubled(MANY)
    assert sum(sizes.values()) < MANY / 2
    assert sizes[1] >= 4, "nothing is known of the first"


def test_unordered(sizes: Counter[int]) -> None:
    assert sorted(chunked.act.map(range(MANY), order_outputs=False)) == doubled(MANY)
    assert max(sizes) > 1


def test_one_bad_input_fails_alone(sizes: Counter[int]) -> None:
    results = list(
        chunked.act.map(range(MANY), kwargs={"what": "raise", "where": 2000}, return_exceptions=True)
    )
    error = results.pop(2000)
    assert isinstance(error, chunked.OddError)
    assert error.args == (2000,)
    assert results == [n for n in doubled(MANY) if n != 4000]
    assert max(sizes) > 1


def test_what_it_raises_ends_the_map() -> None:
    """After all results before it."""
    results = chunked.act.map(range(MANY), kwargs={"what": "raise", "where": 2000})
    assert list(islice(results, 2000)) == doubled(2000)
    with pytest.raises(chunked.OddError) as raised:
        next(results)
    assert "act" in [entry.name for entry in raised.traceback]


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("sleep", exception.FunctionTimeoutError),
        ("exit", exception.RemoteError),
        ("crash", exception.RemoteError),
        ("unpicklable", exception.SerializationError),
    ],
)
def test_only_the_input_whose_doing_it_was_fails(what: str, expected: type[Exception]) -> None:
    found = list(chunked.act.map(range(MANY), kwargs={"what": what, "where": 2000}, return_exceptions=True))
    assert isinstance(found.pop(2000), expected)
    assert found == [n for n in doubled(MANY) if n != 4000]


@pytest.mark.parametrize("what", ["slow", "fork"])
def test_no_input_is_lost_over_another(what: str) -> None:
    assert list(chunked.act.map(range(MANY), kwargs={"what": what, "where": 2000})) == doubled(MANY)


def test_a_large_result() -> None:
    found = list(chunked.act.map(range(MANY), kwargs={"what": "large", "where": 2000}))
    assert found.pop(2000) == b"x" * 3_000_000
    assert found == [n for n in doubled(MANY) if n != 4000]


def test_large_arguments_among_small_ones(sizes: Counter[int]) -> None:
    values = [b"y" * (300_000 if n % 100 == 99 else 10) for n in range(1000)]
    assert list(chunked.nested.map([len(v) for v in values])) == [len(v) for v in values]
    found = list(chunked.append.map(range(1000), [[v] for v in values]))
    assert found == [[v, n] for n, v in enumerate(values)]
    assert max(sizes) > 1


def test_each_input_has_its_own_id(sizes: Counter[int]) -> None:
    found = list(chunked.who.map(range(MANY)))
    assert [int(input_id.rpartition(":")[2]) for input_id, _ in found] == list(range(MANY))
    assert len({input_id.rpartition(":")[0] for input_id, _ in found}) == 1
    assert max(sizes) > 1


def test_inputs_share_no_objects(sizes: Counter[int]) -> None:
    shared: list[int] = []
    assert list(chunked.append.map(range(MANY), [shared] * MANY)) == [[n] for n in range(MANY)]
    assert max(sizes) > 1


def test_an_input_of_a_slow_source_is_not_held_back() -> None:
    """Each input is made of the result of the one before."""
    latest = threading.Semaphore(1)
    limit = 300

    def source() -> Iterator[int]:
        for number in range(limit):
            latest.acquire()
            yield number

    for number, value in enumerate(chunked.act.map(source())):
        assert value == 2 * number
        latest.release()


def test_a_source_that_waits_beside_a_list() -> None:
    """Each input is made of the result of the one before, and of what is there already."""
    latest = threading.Semaphore(1)

    def source() -> Iterator[int]:
        for number in range(100):
            latest.acquire()
            yield number

    for number, value in enumerate(chunked.act.map(source(), [""] * 100)):
        assert value == 2 * number
        latest.release()


def test_nested_calls_of_quick_inputs() -> None:
    assert list(chunked.calls_another.map(range(100))) == list(range(100))


@pytest.mark.parametrize("victim", ["container", "server", "node"])
def test_a_part_is_killed_in_the_middle(world: Daemon, victim: str, sizes: Counter[int]) -> None:
    results = chunked.act.map(iter(range(4 * MANY)))
    got = [next(results) for _ in range(MANY)]
    if victim == "container":
        for container in until(lambda: world.containers("act"), "containers"):
            for pid in processes_of(container.id):
                os.kill(pid, signal.SIGKILL)
    else:
        kill(world, victim)
    got.extend(results)
    assert got == doubled(4 * MANY)
    assert max(sizes) > 1


def test_a_map_that_nobody_reads_on_is_cancelled(world: Daemon) -> None:
    results = chunked.act.map(iter(range(10 * MANY)))
    assert [next(results) for _ in range(1500)] == doubled(1500)
    del results
    until(lambda: not any(c.running for c in world.containers("act")), "nothing runs")


def test_asyncio() -> None:
    import asyncio

    async def run() -> list[int]:
        return [value async for value in chunked.act.map.aio(range(MANY))]

    assert asyncio.run(run()) == doubled(MANY)

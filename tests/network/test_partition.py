"""A node that is cut off: within its lease nothing happens, beyond it others have its work."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.e2e.kit import until
from tests.network import app
from tests.network.conftest import LEASE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.network.conftest import Fleet

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def beats(path: Path) -> dict[str, list[float]]:
    """When each run of `work` was at work, the oldest run first."""
    found: dict[str, list[float]] = {}
    for line in path.read_text().splitlines():
        mark, _, moment = line.partition(" ")
        found.setdefault(mark, []).append(float(moment))
    return found


def begun(path: Path) -> bool:
    return path.exists() and bool(path.read_text())


def test_longer_than_the_lease(fleet: Fleet, tmp_path: Path) -> None:
    path = tmp_path / "beats"
    call = app.work.spawn(str(path), 4 * LEASE)
    until(lambda: begun(path), "it is at work")
    fleet.relay.part()
    parted = time.monotonic()
    fleet.start("near")
    result = call.get(timeout=120)
    first, second = beats(path).items()
    assert result == second[0]
    assert first[1][-1] < second[1][0], "the one that was cut off had ended before another began"
    assert first[1][-1] < parted + LEASE
    fleet.relay.heal()
    until(lambda: fleet.nodes() == {"no-far", "no-near"}, "it comes back")
    assert call.get() == result
    assert list(beats(path)) == [first[0], second[0]], "nothing ran a third time"
    assert sorted(app.double.map(range(20))) == [2 * x for x in range(20)]


def test_a_result_that_was_ready_when_it_was_too_late(fleet: Fleet, tmp_path: Path) -> None:
    """The node finishes within its lease; the server hears of it when another one has begun anew."""
    path = tmp_path / "beats"
    call = app.work.spawn(str(path), LEASE / 4)
    until(lambda: begun(path), "it is at work")
    fleet.relay.part()
    fleet.start("near")
    until(lambda: len(beats(path)) == 2, "another one has begun")
    fleet.relay.heal()
    result = call.get(timeout=120)
    assert result == list(beats(path))[1]
    until(lambda: fleet.nodes() == {"no-far", "no-near"}, "it comes back")
    assert call.get() == result


def test_shorter_than_the_lease(fleet: Fleet, tmp_path: Path) -> None:
    path = tmp_path / "beats"
    call = app.work.spawn(str(path), LEASE)
    until(lambda: begun(path), "it is at work")
    fleet.relay.part()
    time.sleep(LEASE / 3)
    fleet.relay.heal()
    assert [call.get(timeout=120)] == list(beats(path))


def test_slow_and_broken_now_and_then(fleet: Fleet) -> None:
    fleet.relay.delay = 0.02
    over = threading.Event()

    def cut() -> None:
        while not over.wait(0.4):
            fleet.relay.cut()

    cutter = threading.Thread(target=cut)
    cutter.start()
    try:
        assert list(app.double.map(range(60))) == [2 * x for x in range(60)]
        calls = [app.double.spawn(x) for x in range(20)]
        assert [call.get(timeout=120) for call in calls] == [2 * x for x in range(20)]
    finally:
        over.set()
        cutter.join()

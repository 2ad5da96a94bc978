"""Hours of mixed calls at a modest rate, and samples of what the daemon uses meanwhile."""

from __future__ import annotations

import json
import os
import statistics
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import squall
from squall.server import sweep
from tests.e2e.kit import Daemon
from tests.house.source import ROOT
from tests.soak import app, sample, stroll

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds between two rounds of calls, two samples, two short-lived apps.
ROUND_S, SAMPLE_S, VISIT_S = 5.0, 30.0, 60.0
#: Warm calls at each sample.
CALLS = 100
#: A larger payload, there and back (bytes).
LARGE = 4 << 20
#: A blob that nothing needs any more is gone after so long: what it stays, and two sweeps (seconds).
BLOBS_S = sweep.RELEASED + 2 * sweep.INTERVAL


class Steady:
    """`run` returns what was wrong; the samples are written as lines of JSON while it runs.

    `pace` divides the pauses between calls, apps and samples: an hour's calls in minutes.
    """

    def __init__(
        self, folder: Path, samples: Path, say: Callable[[str], None], driver: str = "", pace: float = 1.0
    ) -> None:
        self._folder = folder
        self._samples = samples
        self._say = say
        self._driver = driver
        self._pace = pace
        self._calls = 0
        self._faults: list[str] = []
        self._over = threading.Event()

    def run(self, hours: float) -> list[str]:
        until = time.time() + hours * 3600
        try:
            with Daemon(self._folder, self._driver).life() as daemon:
                self._say(f"state {daemon.state}, driver {daemon.record.driver}")
                printed = daemon.squall(
                    "run", "-q", "--detach", "tests/soak/stroll.py", "--until", f"{until}", cwd=ROOT
                ).stdout
                with app.app.run():
                    self._go_on(daemon, until)
                self._see_detached(printed)
                self._see_blobs(daemon)
        except AssertionError as error:
            self._faults.append(f"{error}")
        return self._faults

    def _go_on(self, daemon: Daemon, until: float) -> None:
        jobs = ((self._visit, VISIT_S / self._pace), (self._round, ROUND_S / self._pace))
        threads = [
            threading.Thread(target=self._repeat, args=(job, daemon, s), daemon=True) for job, s in jobs
        ]
        for thread in threads:
            thread.start()
        began = time.monotonic()
        with self._samples.open("a", encoding="utf-8") as file:
            while time.time() < until:
                self._write(file, daemon, time.monotonic() - began)
                time.sleep(max(0.0, min(SAMPLE_S / self._pace, until - time.time())))
            self._over.set()
            for thread in threads:
                thread.join(60)
            self._write(file, daemon, time.monotonic() - began)

    def _write(self, file: Any, daemon: Daemon, seconds: float) -> None:
        taken = {
            "seconds": round(seconds, 1),
            "calls": self._calls,
            "faults": len(self._faults),
            "latency_ms": self._latency(),
            "load": os.getloadavg()[0],
            "host": sample.host(daemon.state),
            "parts": sample.parts(daemon.state, os.getpid()),
        }
        file.write(json.dumps(taken) + "\n")
        file.flush()

    def _latency(self) -> dict[str, float]:
        """Of a warm `remote` (ms)."""
        app.echo.remote(b"")
        taken = []
        for _ in range(CALLS):
            began = time.perf_counter()
            app.echo.remote(b"")
            taken.append((time.perf_counter() - began) * 1000)
        self._calls += CALLS + 1
        return {
            "p50": round(statistics.median(taken), 3),
            "p99": round(sorted(taken)[int(0.99 * len(taken)) - 1], 3),
        }

    def _repeat(self, job: Callable[[Daemon, int], None], daemon: Daemon, pause: float) -> None:
        number = 0
        while not self._over.wait(pause):
            try:
                job(daemon, number)
            except Exception as error:
                self._faults.append(f"{job.__name__}: {type(error).__name__}: {error}")
                self._say(self._faults[-1])
            number += 1

    def _visit(self, daemon: Daemon, number: int) -> None:
        """A program comes, has an app of its own for a moment, and goes."""
        del number
        printed = daemon.squall("run", "-q", "examples/hello.py", cwd=ROOT).stdout
        assert "49" in printed, printed  # containers may speak in the middle of a line
        self._calls += 6

    def _round(self, daemon: Daemon, number: int) -> None:
        """Some of each kind."""
        del daemon
        first = number * 100
        assert app.work.remote(first, 0.01)[0] == first
        assert [x for x, _ in app.work.map(range(first, first + 8), [0.02] * 8)] == [*range(first, first + 8)]
        spawned = [app.work.spawn(first + n, 0.01) for n in range(2)]
        assert app.parent.remote(first, 0.01)[0] == first
        assert app.family.remote(first, 2)[0] == [first, first + 1, first + 2]
        assert [*app.numbers.remote_gen(first, 10)] == [*range(first, first + 10)]
        payload = os.urandom(LARGE) if number % 6 == 0 else os.urandom(20_000)
        assert app.echo.remote(payload) == payload
        assert app.length.spawn(payload).get() == len(payload)
        assert [call.get()[0] for call in spawned] == [first, first + 1]
        self._calls += 1 + 8 + 2 + 2 + 4 + 1 + 1 + 1

    def _see_blobs(self, daemon: Daemon) -> None:
        """Arguments of spawned calls were blobs while they waited, and are gone a while after."""
        old = time.time() - BLOBS_S
        folder = Path(daemon.state, "server", "blobs")
        large = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size >= LARGE]
        left = [path for path in large if path.stat().st_mtime < old]
        self._say(f"{len(large)} blobs of the last {BLOBS_S / 60:.0f} minutes, {len(left)} older ones")
        if left:
            self._faults.append(f"{len(left)} blobs that nothing needs are left")

    def _see_detached(self, printed: str) -> None:
        """What went on without a client has gone all the way."""
        link, whole = printed.split()[-2:]
        links, steps = 0, 0
        while link:
            steps, link = squall.FunctionCall.from_id(link).get(timeout=60)
            links += 1
        lasted = squall.FunctionCall.from_id(whole).get(timeout=60)
        self._say(f"detached: {steps} steps in {links} links; one input of {lasted:.0f} s")
        if steps < links * stroll.LINK_S / stroll.STEP_S / 2:
            self._faults.append(f"detached: only {steps} steps in {links} links")

"""The functions that Squall runs here."""

from __future__ import annotations

import time

import squall
from benchmarks.calls.peer import WORKERS, spin

app = squall.App("benchmark-calls")
#: Inputs that start all containers.
WARM = 40


@app.function(min_containers=1, max_containers=1, scaledown_window=3600)
def one(value: object) -> object:
    return value


@app.function(min_containers=WORKERS, max_containers=WORKERS, scaledown_window=3600)
def many(value: object) -> object:
    return value


@app.function(min_containers=WORKERS, max_containers=WORKERS, scaledown_window=3600)
def spin_10_ms(_value: object) -> None:
    spin(0.01)


@app.function(min_containers=WORKERS, max_containers=WORKERS, scaledown_window=3600)
def sleep_10_ms(_value: object) -> None:
    time.sleep(0.01)

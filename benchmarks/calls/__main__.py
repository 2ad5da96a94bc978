"""Measure and report; exit code 0 whatever the figures are."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
from importlib.metadata import version
from typing import Any

from benchmarks.calls.floors import Floors
from benchmarks.calls.measures import Measure, measures
from benchmarks.calls.runs import Run

PEERS = ("squall", "ray")
COLUMNS = ("measure", "squall", "ray", "ratio", "spread", "target")


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.calls", description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    parser.add_argument("--rounds", type=int, default=7, help="of each measure, the peers in turns")
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of operations in a round")
    parser.add_argument("--only", default="", help="measures whose name contains this")
    given = parser.parse_args()
    chosen = [m for m in measures(given.scale) if given.only in m.name]
    with contextlib.ExitStack() as running:
        runs = [running.enter_context(Run(name)) for name in PEERS]
        floors = running.enter_context(Floors())
        rows = [_row(measure, runs, floors, given.rounds) for measure in chosen]
        cpu = {run.name: statistics.median(run.cpu_seconds(1000) for _ in range(3)) for run in runs}
    report = {"machine": _machine(), "rounds": given.rounds, "measures": rows, "cpu_seconds_per_call": cpu}
    _print(report)
    if given.json:
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)


def _row(measure: Measure, runs: list[Run], floors: Floors, rounds: int) -> dict[str, Any]:
    for run in runs:
        run.seconds(measure)  # warm, and not counted
    taken: dict[str, list[float]] = {run.name: [] for run in runs}
    alone: list[dict[str, float]] = []
    for number in range(rounds):
        alone.append(floors.seconds(measure))
        for run in runs if number % 2 == 0 else runs[::-1]:
            taken[run.name].append(run.seconds(measure))
    ratios = [ray / ours for ours, ray in zip(taken["squall"], taken["ray"], strict=True)]
    row = {
        "name": measure.name,
        "seconds": {name: statistics.median(values) for name, values in taken.items()},
        "ratio": statistics.median(ratios),
        "ratio_spread": [min(ratios), max(ratios)],
        "target": measure.target,
        "rounds": taken,
        "floor": {name: statistics.median(one[name] for one in alone) for name in alone[0]},
    }
    print(_line(row), flush=True)
    return row


def _line(row: dict[str, Any]) -> str:
    low, high = row["ratio_spread"]
    target = f"{row['target']:g}" if row["target"] else ""
    floor = "".join(
        f"\n| beside it: {name} | {_time(seconds)} | | | | |" for name, seconds in row["floor"].items()
    )
    return (
        f"| {row['name']} | {_time(row['seconds']['squall'])} | {_time(row['seconds']['ray'])} "
        f"| {row['ratio']:.1f} | {low:.1f} to {high:.1f} | {target} |{floor}"
    )


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} us"


def _machine() -> dict[str, Any]:
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{name: version(name) for name in PEERS},
    }


def _print(report: dict[str, Any]) -> None:
    print(f"\n{report['machine']}; seconds are those of one operation; ratio: Ray's over Squall's\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for row in report["measures"]:
        print(_line(row))
    for name, seconds in report["cpu_seconds_per_call"].items():
        print(f"CPU time of one warm call, all processes of {name}: {seconds * 1e6:.0f} us")


if __name__ == "__main__":
    main()

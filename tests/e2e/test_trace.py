"""One call followed: `squall run --trace` through all the processes that there are."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import pytest

from squall.wire.hops import HOPS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.kit import Daemon

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

APP = """
import squall

app = squall.App("seven")

@app.function()
def f(x):
    if x < 0:
        raise ValueError(x)
    return x * x

@app.function()
def g(x):
    yield x

@app.local_entrypoint()
def main():
    f.remote(7)
    f.remote(7)
    list(f.map([7, 8]))
    list(g.remote_gen(7))
    try:
        f.remote(-1)
    except ValueError:
        pass
"""

#: What a start has beyond the hops of a warm call; those of launcher and init only with namespaces.
START = [*HOPS][[*HOPS].index("scheduler.start") : [*HOPS].index("scheduler.assign")]
WARM = [hop for hop in HOPS if hop not in START]
WITHOUT_LAUNCHER = [hop for hop in HOPS if HOPS[hop] not in {"launcher", "init"}]


class Traced(NamedTuple):
    title: str
    hops: list[str]
    processes: list[str]
    offsets: list[float]
    deltas: list[float]


def parsed(text: str) -> Iterator[Traced]:
    """The tables among what a run printed."""
    for table in re.findall(r"^trace .*\n(?:  .*\n)+", text, re.MULTILINE):
        title, heading, *lines = table.splitlines()
        assert heading.split() == ["hop", "process", "offset", "ms", "delta", "ms"]
        hops, processes, offsets, deltas = zip(*(line.split() for line in lines), strict=True)
        yield Traced(title, [*hops], [*processes], [*map(float, offsets)], [*map(float, deltas)])


def test_every_hop_of_a_call_is_told(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "seven.py").write_text(APP)
    done = subprocess.run(
        daemon.command("run", "--trace", str(tmp_path / "seven.py")),
        env=daemon.environ(), capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    traces = list(parsed(done.stderr))
    cold = [trace.title.endswith("(cold: a container was started)") for trace in traces]
    # The second input of the map may get a container of its own; the generator's function needs one.
    assert (len(traces), cold[:2], cold[4], cold[5]) == (6, [True, False], True, False)
    cold_hops = [*HOPS] if daemon.record.driver == "namespaces" else WITHOUT_LAUNCHER
    for trace, is_cold in zip(traces, cold, strict=True):
        # Sorted by time they have the order of what caused what: no clock or hop is wrong.
        assert trace.hops == (cold_hops if is_cold else WARM)
        assert trace.processes == [HOPS[hop] for hop in trace.hops]
        assert trace.offsets == sorted(trace.offsets)
        assert trace.offsets[0] == trace.deltas[0] == 0.0
        assert sum(trace.deltas) == pytest.approx(trace.offsets[-1], abs=0.001 * len(trace.deltas))
        assert trace.offsets[-1] > 0

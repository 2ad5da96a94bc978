"""One call followed: `squall run --trace` through a real daemon, its server, agent and runner."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest

from squall.client import embedded
from squall.wire.hops import HOPS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform != "linux", reason="the daemon needs Linux"),
]

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
COLD = [hop for hop in HOPS if not hop.startswith(("launcher.", "init."))]


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


@pytest.fixture
def environ(tmp_path: Path) -> Iterator[dict[str, str]]:
    state = str(tmp_path / "state")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SQUALL_")}
    yield {**clean, "SQUALL_STATE": state, "SQUALL_DRIVER": "process"}
    embedded.stop(state)


def test_every_hop_of_a_call_is_told(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "seven.py").write_text(APP)
    command = [sys.executable, "-m", "squall", "run", "--trace", str(tmp_path / "seven.py")]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    traces = list(parsed(done.stderr))
    cold = [trace.title.endswith("(cold: a container was started)") for trace in traces]
    # The second input of the map may get a container of its own; the generator's function needs one.
    assert (len(traces), cold[:2], cold[4], cold[5]) == (6, [True, False], True, False)
    for trace, is_cold in zip(traces, cold, strict=True):
        # Sorted by time they have the order of what caused what: no clock or hop is wrong.
        assert trace.hops == (COLD if is_cold else WARM)
        assert trace.processes == [HOPS[hop] for hop in trace.hops]
        assert trace.offsets == sorted(trace.offsets)
        assert trace.offsets[0] == trace.deltas[0] == 0.0
        assert sum(trace.deltas) == pytest.approx(trace.offsets[-1], abs=0.001 * len(trace.deltas))
        assert trace.offsets[-1] > 0

"""`squall run --detach tests/soak/stroll.py`: calls that go on for hours when nobody is there any more.

Only the standard library and Squall, for containers import it.
"""

from __future__ import annotations

import time

import squall

app = squall.App("stroll")

#: A link of the chain takes so long, and makes a step so often (seconds).
LINK_S, STEP_S = 60.0, 2.0


@app.function(cpu=0.1, scaledown_window=30)
def step(x: int) -> int:
    return x + 1


@app.function(cpu=0.1, timeout=300)
def link(first: int, until: float) -> tuple[int, str]:
    """Steps for a while; then the next link goes on. Returns how far it came, and the next one's call."""
    end = min(until, time.time() + LINK_S)
    x = first
    while time.time() < end:
        x = step.remote(x)
        time.sleep(STEP_S)
    return x, link.spawn(x, until).object_id if end < until else ""


@app.function(cpu=0.1, timeout=24 * 3600)
def whole(until: float) -> float:
    """One input for all of the time."""
    began = time.monotonic()
    while time.time() < until:
        time.sleep(min(5.0, max(0.0, until - time.time())))
    return time.monotonic() - began


@app.local_entrypoint()
def main(until: float) -> None:
    """Prints the calls that go on, and leaves."""
    print("calls", link.spawn(0, until).object_id, whole.spawn(until).object_id)

"""Random kill -9 of parts of a running system."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import TYPE_CHECKING

from squall.client import daemon_record, embedded
from tests.soak.parts import Parts

if TYPE_CHECKING:
    from collections.abc import Callable

#: How often each part is chosen, against the others.
WEIGHTS = {"server": 3, "node": 3, "launcher": 2, "zone": 2, "runner": 5, "keeper": 1, "supervisor": 1}
#: Seconds between two kills, and how long a part that is wanted may be away.
PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
AWAY_S = 60.0


class Killer:
    """`say` is told of each kill. The seed decides what is killed and when, the clock what it hits.

    `longest` is the longest pause before a kill, in seconds.
    """

    def __init__(
        self, state: str, seed: int, say: Callable[[str], None], longest: float = LONGEST_PAUSE_S
    ) -> None:
        self._longest = longest
        self._state = state
        self._living = Parts(state)
        self._random = random.Random(seed)
        self._say = say
        self.killed: dict[str, int] = dict.fromkeys(WEIGHTS, 0)
        record = daemon_record.read(state)
        assert record is not None
        with_launcher = record.driver == "namespaces"
        self._parts = [p for p in WEIGHTS if with_launcher or p not in {"launcher", "zone", "keeper"}]

    def kill_one(self) -> None:
        """After a pause, whatever the dice say, if that part is there: some are not always."""
        time.sleep(self._random.uniform(PAUSE_S, self._longest))
        parts = self._random.choices(self._parts, [WEIGHTS[p] for p in self._parts], k=20)
        dice = self._random.random()
        deadline = time.monotonic() + AWAY_S
        while not (found := next(((p, pids) for p in parts if (pids := self._living.find(p))), None)):
            assert time.monotonic() < deadline, f"none of {set(parts)} came within {AWAY_S:g} s"
            time.sleep(0.05)
        part, pids = found
        pid = pids[int(dice * len(pids))]
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return self.kill_one()
        self.killed[part] += 1
        self._say(f"kill -9 {part} ({pid})")
        if part == "supervisor":
            while daemon_record.read(self._state) is not None:
                time.sleep(0.01)
            embedded.ensure(self._state)  # as the next client does
        return None

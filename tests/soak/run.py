"""One soak: a daemon of its own, the calls, the kills, and the look at what is left."""

from __future__ import annotations

import pickle
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from squall.wire import codec
from squall.wire.values import OutputItem
from tests.e2e.kit import Daemon
from tests.house.slowness import SLOWNESS
from tests.soak import app
from tests.soak.killer import LONGEST_PAUSE_S, Killer
from tests.soak.ledger import Ledger
from tests.soak.mix import Mix

if TYPE_CHECKING:
    from collections.abc import Callable

#: What was killed is back by then, and at work; and no call takes longer after the last kill (seconds).
PATIENCE_S = 90.0 * SLOWNESS


class Soak:
    def __init__(
        self,
        folder: Path,
        seed: int,
        say: Callable[[str], None],
        driver: str = "",
        longest: float = LONGEST_PAUSE_S,
    ) -> None:
        self._folder = folder
        self._seed = seed
        self._say = say
        self._driver = driver
        self._longest = longest
        self.ledger = Ledger()
        self._killed: dict[str, int] = {}

    def run(self, kills: int) -> list[str]:
        """What must not have been: lost, delivered twice, left over."""
        faults = self.ledger.faults
        try:
            with Daemon(self._folder, self._driver).life() as daemon:
                try:
                    with app.app.run():
                        self._rage(daemon, kills)
                        self._look_at_disk(Path(daemon.state, "server", "db.sqlite"))
                finally:
                    shutil.copytree(Path(daemon.state, "logs"), self._folder / "logs", dirs_exist_ok=True)
        except AssertionError as error:
            faults.append(f"{error}")
        return faults

    def _rage(self, daemon: Daemon, kills: int) -> None:
        self._say(f"driver {daemon.record.driver}")
        killer = Killer(daemon.state, self._seed, self._say, self._longest)
        self._killed = killer.killed
        mix = Mix(self.ledger, self._seed)
        mix.start()
        try:
            for _ in range(kills):
                killer.kill_one()
                if not self._goes_on():
                    self.ledger.fault(f"no call has ended for {PATIENCE_S:g} s after a kill")
                    break
        finally:
            self._say("the last one; what runs comes to its end")
            mix.stop(PATIENCE_S)

    def _goes_on(self) -> bool:
        """Every kill is to hit a system at work: until a call has ended since the last one."""
        before, deadline = self.ledger.ended, time.monotonic() + PATIENCE_S
        while self.ledger.ended == before:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def _look_at_disk(self, database: Path) -> None:
        """Each spawned call that was acknowledged is there, with the result that it must have."""
        deadline = time.monotonic() + PATIENCE_S
        while (unfinished := _ask(database, "SELECT call FROM inputs WHERE NOT done")) and (
            time.monotonic() < deadline
        ):
            time.sleep(0.2)
        ledger = self.ledger
        if unfinished:
            ledger.fault(f"{len(unfinished)} spawned inputs have no result on disk")
        stored = dict(_ask(database, "SELECT call, payload FROM outputs WHERE number = 0"))
        for call, x in ledger.spawned.items():
            if call not in stored:
                ledger.fault(f"spawned call {call} was acknowledged and is not on disk")
                continue
            outcome = codec.unpack(stored[call], OutputItem).outcome
            if outcome.status != "ok":
                ledger.excuse("on disk", 1, RuntimeError(outcome.error and outcome.error.message))
            elif pickle.loads(outcome.payload.data)[0] != x:
                ledger.fault(f"spawned call {call} has another's result on disk")

    def summary(self) -> list[str]:
        ledger = self.ledger
        killed = ", ".join(f"{part} {count}" for part, count in self._killed.items() if count)
        lines = [f"killed: {killed}", f"{'calls':22} {'asked':>7} {'right':>7} {'told':>5}"]
        lines += [
            f"{kind:22} {asked:7} {ledger.right[kind]:7} {ledger.told[kind]:5}"
            for kind, asked in sorted(ledger.asked.items())
        ]
        lines.append(f"acknowledged spawns looked for on disk: {len(ledger.spawned)}")
        return [*lines, f"faults: {len(ledger.faults)}"]


def _ask(database: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()

"""One soak: a daemon of its own, the calls, the kills, and the look at what is left."""

from __future__ import annotations

import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from tests.e2e.kit import Daemon
from tests.house.slowness import SLOWNESS
from tests.soak import app
from tests.soak.killer import Killer
from tests.soak.ledger import Ledger
from tests.soak.mix import Mix

if TYPE_CHECKING:
    from collections.abc import Callable

#: What was killed is back by then, and at work; and no call takes longer after the last kill (seconds).
PATIENCE_S = 90.0 * SLOWNESS


class Soak:
    def __init__(self, folder: Path, seed: int, say: Callable[[str], None], driver: str = "") -> None:
        self._folder = folder
        self._seed = seed
        self._say = say
        self._driver = driver
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
                finally:
                    shutil.copytree(Path(daemon.state, "logs"), self._folder / "logs", dirs_exist_ok=True)
                    database = Path(daemon.state, "server", "db.sqlite")
                    self._unfinished(database)
        except AssertionError as error:
            faults.append(f"{error}")
        return faults

    def _rage(self, daemon: Daemon, kills: int) -> None:
        self._say(f"driver {daemon.record.driver}")
        killer = Killer(daemon.state, self._seed, self._say)
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

    def _unfinished(self, database: Path) -> None:
        """Spawned inputs without a result, when all were asked for."""
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            (count,) = connection.execute("SELECT count(*) FROM inputs WHERE NOT done").fetchone()
        if count:
            self.ledger.fault(f"{count} spawned inputs have no result on disk")

    def summary(self) -> list[str]:
        ledger = self.ledger
        killed = ", ".join(f"{part} {count}" for part, count in self._killed.items() if count)
        lines = [f"killed: {killed}", f"{'calls':22} {'asked':>7} {'right':>7} {'told':>5}"]
        lines += [
            f"{kind:22} {asked:7} {ledger.right[kind]:7} {ledger.told[kind]:5}"
            for kind, asked in sorted(ledger.asked.items())
        ]
        return [*lines, f"faults: {len(ledger.faults)}"]

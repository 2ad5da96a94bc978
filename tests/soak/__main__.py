"""`scripts/soak`: kill parts of a running system at random under a mix of calls, and see what came of it."""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.soak import plot
from tests.soak.run import Soak
from tests.soak.steady import Steady

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> int:
    parser = argparse.ArgumentParser(
        "soak", description="Kill parts of a running Squall under a mix of calls."
    )
    parser.add_argument("--kills", type=int, default=20, help="how many (default: 20)")
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(10**6), help="repeats the dice of a run"
    )
    parser.add_argument("--driver", default="", help="namespaces or process (default: the best of this host)")
    parser.add_argument(
        "--hours", type=float, default=0.0, help="instead of kills: calls for so long, with samples"
    )
    parser.add_argument("--pace", type=float, default=1.0, help="with --hours: so many times as many calls")
    parser.add_argument("--samples", type=Path, default=Path("samples.jsonl"), help="file for the samples")
    parser.add_argument("--plot", type=Path, help="with --hours: draw the samples into this SVG file")
    parser.add_argument("--keep", action="store_true", help="keep the logs, and say where they are")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="squall-soak-"))
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {text}", flush=True)

    if given.hours:
        return _steady(folder, given, say)
    say(f"seed {given.seed}, {given.kills} kills")
    soak = Soak(folder, given.seed, say, given.driver)
    try:
        faults = soak.run(given.kills)
    finally:
        if given.keep:
            say(f"logs are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    for line in [*soak.summary(), *(f"FAULT {fault}" for fault in faults[:30])]:
        print(line)
    return 1 if faults else 0


def _steady(folder: Path, given: argparse.Namespace, say: Callable[[str], None]) -> int:
    try:
        faults = Steady(folder, given.samples, say, given.driver, given.pace).run(given.hours)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for fault in faults[:30]:
        print(f"FAULT {fault}")
    if given.plot is not None:
        given.plot.write_text(plot.picture(plot.read(given.samples)), "utf-8")
    say(f"{len(faults)} faults; the samples are in {given.samples}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

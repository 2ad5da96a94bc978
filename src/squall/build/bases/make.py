"""`python -m squall.build.bases.make`: makes a base system, as root.

The launcher runs it for an agent that has no privilege. All that it goes by is its own host's: mirrors, keys
and apt's options as root reads them here.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from squall.build import machine
from squall.build.bases import debian, host


def main(arguments: list[str]) -> int:
    """The exit code: 0 when `target` is whole; what is wrong is on the outputs."""
    parser = argparse.ArgumentParser(prog="squall.build.bases.make", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    release = kinds.add_parser("debian", help="a small Debian of this machine's release, by mmdebstrap")
    copied = kinds.add_parser("host", help="a copy of this machine's programs")
    for kind in (release, copied):
        kind.add_argument("target", type=Path, help="the directory to make, in one that is ours alone")
    release.add_argument("suite", help="the release that it is expected to be")
    copied.add_argument("--own-python", action="store_true", help="also the interpreter that runs this")
    given = parser.parse_args(arguments)
    if given.kind == "host":
        return host.copy(given.target, own_python=given.own_python)
    return _debian(given.target, given.suite)


def _debian(target: Path, suite: str) -> int:
    found = asyncio.run(machine.read())
    if found.apt.suite != suite:
        has = found.apt.suite or "none with Debian sources"
        print(f"a base system of {suite} cannot be made: this machine's release is {has}", file=sys.stderr)
        return 1
    try:
        return debian.bootstrap(found, target)
    except FileNotFoundError as error:
        print(f"{error.filename} is missing on this machine", file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

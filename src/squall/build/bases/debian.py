"""`debian_slim`: a small Debian (or Ubuntu) of the machine's release, by mmdebstrap from its mirrors."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from squall.build.bases.base import BaseSystem
from squall.build.kit import POINT
from squall.wire.values import Step

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from squall.build.base import HostRunner, StepResult
    from squall.build.layers import Layer
    from squall.build.machine import Machine

#: As in Debian's own slim images; licences stay.
_NO_DOCS = (
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
)
#: A mirror that cannot be reached must be noticed soon: there is another base to fall back to.
_IMPATIENT = ('Acquire::Retries "1";', 'Acquire::http::Timeout "15";', 'Acquire::https::Timeout "15";')

#: mmdebstrap mounts /dev and more below its target; killed, it must not leave them on the host.
_PRIVATE = ("unshare", "--mount", "--propagation", "private", "--")

#: Nothing of the machine stays: not its mirrors and apt options, not its name and resolvers.
_CLEAN = (
    'rm -rf "$1/etc/resolv.conf" "$1/etc/hostname" "$1/etc/apt/sources.list" "$1"/etc/apt/sources.list.d/* '
    f'"$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/run/* && mkdir -p "$1{POINT}"'
)


class DebianSlim(BaseSystem):
    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.title = f"debian_slim ({machine.apt.suite}, by mmdebstrap)"
        self.python = f"/usr/bin/python{machine.python}"

    @property
    def step(self) -> Step:
        machine = self._machine
        identity = {
            "suite": machine.apt.suite,
            "python": machine.python,
            "architecture": machine.architecture,
        }
        return Step("debian_slim", {"by": "mmdebstrap", **identity})

    async def make(self, layer: Layer, host: HostRunner, log: Callable[[bytes], None]) -> StepResult:
        return await host.debian_base(layer.fs, self._machine.apt.suite, log)


def bootstrap(machine: Machine, target: Path) -> int:
    """Make it, as root; files that only the making needs lie beside `target`. Gives an exit code."""
    sources, options = target.parent / "sources.list", target.parent / "apt.conf"
    sources.write_text(machine.apt.sources_list(_KeyFiles(target.parent)), encoding="utf-8")
    options.write_text("\n".join([*_options(machine), ""]), encoding="utf-8")
    # Killed, it leaves its temporary files behind: beside `target` they go with the rest.
    code = _run(("env", f"TMPDIR={target.parent}", *_argv(machine.apt.suite, target, sources, options)))
    # A container's /dev is its own.
    return code or _run(("find", str(target / "dev"), "-xdev", "-mindepth", "1", "-delete"))


def _options(machine: Machine) -> tuple[str, ...]:
    bundle = machine.pip.ca_bundle
    ca = (f'Acquire::https::CAInfo "{bundle}";',) if bundle else ()
    return (*_IMPATIENT, *machine.apt.options, *ca)


def _run(argv: tuple[str, ...]) -> int:
    return subprocess.run(argv, stdin=subprocess.DEVNULL, check=False).returncode


class _KeyFiles:
    """Where apt finds a key on the host: at its own path, or, given as text, in a file of ours."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: dict[str, Path] = {}

    def __call__(self, key: str) -> str:
        if "BEGIN PGP" not in key:
            return ",".join(key.replace(",", " ").split())
        if key not in self._written:
            self._written[key] = self._folder / f"key-{len(self._written)}.asc"
            self._written[key].write_text(key.strip() + "\n", encoding="utf-8")
        return str(self._written[key])


def _argv(suite: str, target: Path, sources: Path, options: Path) -> tuple[str, ...]:
    return (
        *_PRIVATE,
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        "--format=directory",
        "--include=python3,ca-certificates",
        "--skip=cleanup/run",  # it would take the mount point
        f"--aptopt={options}",
        *(f"--dpkgopt={option}" for option in _NO_DOCS),
        f"--customize-hook={_CLEAN}",
        suite,
        str(target),
        str(sources),
    )

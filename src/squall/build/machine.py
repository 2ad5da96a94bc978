"""Reads what this machine says about packages: pip's and apt's settings, its distribution, its Pythons."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from squall.build import aptconfig, pipconfig, process

if TYPE_CHECKING:
    from collections.abc import Mapping

    from squall.build.aptconfig import AptSettings
    from squall.build.pipconfig import PipSettings

#: Seconds that a question to apt or to an interpreter may take.
ASK_S = 20.0


@dataclass(frozen=True)
class Machine:
    """`python` is the minor version, as "3.11", of the distribution's own Python; empty if unknown."""

    pip: PipSettings
    apt: AptSettings
    python: str = ""
    architecture: str = os.uname().machine


async def read(environ: Mapping[str, str] | None = None, root: Path = Path("/")) -> Machine:
    """The settings of this process and this machine, as they are now."""
    environ = os.environ if environ is None else environ
    home = environ.get("HOME", "/")
    pip = pipconfig.read(environ, read_text, home)
    apt = aptconfig.settings(
        _sources(root),
        aptconfig.codename(read_text(str(root / "etc/os-release")) or ""),
        await ask("apt-config", "dump", "Acquire"),
        _keyrings(root),
    )
    python = ""
    if apt.suite:
        python = aptconfig.candidate_python(await ask("apt-cache", "policy", "python3"), apt.suite)
    return Machine(pip, apt, python)


async def ask(*argv: str) -> str:
    """What a program prints; nothing when it is not there, fails or hangs."""
    said: list[bytes] = []
    try:
        env = {**os.environ, "LC_ALL": "C"}
        result = await asyncio.wait_for(process.run(argv, said.append, env=env), ASK_S)
    except asyncio.TimeoutError:
        return ""
    return b"".join(said).decode(errors="replace") if result.exit_code == 0 else ""


async def pythons(minor: str, search: str) -> list[str]:
    """Interpreters of this minor version on the path `search` that do work (shims may not), in order."""
    folders = dict.fromkeys(folder for folder in search.split(":") if folder)
    names = (shutil.which(f"python{minor}", path=folder) for folder in folders)
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return [name for name in names if name and (await ask(name, "-c", code)).strip() == minor]


def read_text(path: str) -> str | None:
    """The text of a file that we may read; None for any other."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _sources(root: Path) -> list[tuple[str, str]]:
    folder = root / "etc/apt/sources.list.d"
    paths = [root / "etc/apt/sources.list", *sorted(folder.glob("*.list")), *sorted(folder.glob("*.sources"))]
    return [(path.name, text) for path in paths if (text := read_text(str(path)))]


def _keyrings(root: Path) -> list[str]:
    parts = root / "etc/apt/trusted.gpg.d"
    paths = [root / "etc/apt/trusted.gpg", *sorted(parts.glob("*.gpg")), *sorted(parts.glob("*.asc"))]
    return [str(path) for path in paths if path.is_file()]

"""Base systems: where an image's first layer comes from on this machine, in the order to try."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from squall.build.base import BuildError
from squall.build.bases.base import BaseSystem
from squall.build.bases.debian import DebianSlim
from squall.build.bases.host import HostCopy

if TYPE_CHECKING:
    from squall.build.machine import Machine

__all__ = ["BaseSystem", "choose"]


async def choose(machine: Machine, python: str) -> list[BaseSystem]:
    """The bases that can have this Python minor version ("" for any). Raises BuildError when none can."""
    release, version = machine.apt.suite, machine.python
    can_bootstrap = bool(release and version and shutil.which("mmdebstrap"))
    if can_bootstrap and python not in {"", version}:
        raise BuildError(
            f"an image with Python {python} cannot be made here: {release}, this machine's "
            f"release, has {version}; use Image.debian_slim(python_version={version!r})"
        )
    found: list[BaseSystem] = [DebianSlim(machine)] if can_bootstrap else []
    host = await HostCopy.find(python)
    if host is not None:
        found.append(host)
    if not found:
        raise BuildError(
            f"an image with Python {python or '3'} cannot be made here: mmdebstrap or Debian "
            "sources are missing, and the host has no such Python; apt-get install mmdebstrap"
        )
    return found

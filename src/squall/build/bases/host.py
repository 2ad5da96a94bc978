"""The host as a base: a copy of its /usr, its interpreter and a few files of /etc, if nothing better is had.

Tenants of such an image see which programs the host has, so it is for machines with one tenant.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from squall.build import machine
from squall.build.bases.base import BaseSystem
from squall.build.kit import POINT
from squall.wire.values import Step

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from squall.build.base import HostRunner, StepResult
    from squall.build.layers import Layer

#: $1 is the target; any more are directories outside of /usr, each copied to its own path. What /etc gives is
#: named one by one: nothing that is secret or about the host.
_SCRIPT = rf"""
set -eu
target=$1
shift
umask 022
mkdir -p "$target"
cd "$target"
mkdir -p dev etc home mnt opt proc root run .{POINT} srv sys tmp usr/share var/lib var/cache var/log var/tmp
chmod 700 root
chmod 1777 tmp var/tmp
copy() {{ cp -a --reflink=auto -- "$@"; }}
for name in bin sbin lib lib32 lib64 libx32; do
    if [ -L "/$name" ] || [ -d "/$name" ]; then copy "/$name" .; fi
done
for name in bin sbin lib lib32 lib64 libx32 libexec include local; do
    if [ -L "/usr/$name" ] || [ -d "/usr/$name" ]; then copy "/usr/$name" usr; fi
done
for path in /usr/share/*; do
    case ${{path##*/}} in
        doc | man | info | locale | help | gtk-doc) ;;
        *) copy "$path" usr/share ;;
    esac
done
for name in alternatives apt/trusted.gpg.d bash.bashrc ca-certificates ca-certificates.conf debconf.conf \
    debian_version deluser.conf adduser.conf dpkg ethertypes group host.conf ld.so.cache ld.so.conf \
    ld.so.conf.d localtime login.defs mime.types nsswitch.conf os-release passwd profile protocols python3 \
    rpc services shells skel ssl/certs ssl/openssl.cnf terminfo; do
    if [ -e "/etc/$name" ]; then
        mkdir -p "etc/$(dirname "$name")"
        copy "/etc/$name" "etc/$name"
    fi
done
if [ -d /var/lib/dpkg ]; then copy /var/lib/dpkg var/lib; fi
for path in "$@"; do
    mkdir -p ".$(dirname "$path")"
    copy "$path" ".$path"
done
"""


class HostCopy(BaseSystem):
    """`own_python`: with the interpreter that runs us, which the copy of /usr may lack."""

    def __init__(self, python: str, *, own_python: bool = False) -> None:
        self.title = f"a copy of this host's /usr (Python: {python})"
        self.python = python
        self._own_python = own_python

    @classmethod
    async def find(cls, minor: str) -> HostCopy | None:
        """With an interpreter of this minor version ("" for our own): one in /usr, else the one we run on."""
        own = f"{sys.version_info[0]}.{sys.version_info[1]}"
        found = await machine.pythons(minor or own, "/usr/local/bin:/usr/bin")
        if found:
            return cls(found[0])
        if minor not in {"", own}:
            return None
        return cls.own()

    @classmethod
    def own(cls) -> HostCopy:
        """With the interpreter that runs us."""
        return cls(os.path.realpath(sys.executable), own_python=True)

    @property
    def step(self) -> Step:
        return Step("debian_slim", {"by": "host", "python": self.python})

    async def make(self, layer: Layer, host: HostRunner, log: Callable[[bytes], None]) -> StepResult:
        log(b"Copying the host's /usr without its documentation; such an image is for one tenant.\n")
        return await host.host_base(layer.fs, log, own_python=self._own_python)


def copy(target: Path, *, own_python: bool) -> int:
    """Make it, as root. Gives an exit code."""
    prefix = os.path.realpath(sys.base_prefix)
    outside = [prefix] if own_python and not f"{prefix}/".startswith("/usr/") else []
    command = ["/bin/sh", "-c", _SCRIPT, "host", str(target), *outside]
    return subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode

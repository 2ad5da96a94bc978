"""What the supervisor takes from and gives back to the host: cgroup, limits, orphans, package settings."""

from __future__ import annotations

import configparser
import ctypes
import os
import resource
import site
import sys
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

if TYPE_CHECKING:
    from collections.abc import Mapping

_PR_SET_CHILD_SUBREAPER = 36
#: Options of pip that name places or ways to reach them; all others are the user's own business.
_PIP_OPTIONS: tuple[str, ...] = (
    "index-url",
    "extra-index-url",
    "find-links",
    "constraint",
    "cert",
    "client-cert",
    "trusted-host",
)
_PIP_OPTIONS += ("proxy", "no-index", "timeout")
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")
_PLACES: tuple[str, ...] = ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT")
_PLACES += (
    "UV_FIND_LINKS",
    "UV_INDEX_URL",
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_CONSTRAINT",
)


def settle() -> None:
    """Leave the caller's cgroup, allow many descriptors, inherit the orphans of one's children."""
    _leave_cgroups()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _leave_cgroups() -> None:
    """Into the root of each hierarchy: the caller's may be limited, frozen or end with its login."""
    if os.geteuid() != 0:
        return
    for mount in _cgroup_mounts():
        with suppress(OSError), open(os.path.join(mount, "cgroup.procs"), "w", encoding="ascii") as file:
            file.write(str(os.getpid()))


def _cgroup_mounts() -> list[str]:
    with suppress(OSError), open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        lines = [line.partition(" - ") for line in file.read().splitlines()]
        # Only what shows a hierarchy's root; inside a container it is that of the container.
        return [
            left.split()[4]
            for left, _, right in lines
            if right.startswith("cgroup") and left.split()[3] == "/"
        ]
    return []


def orphans(known: set[int]) -> list[int]:
    """Children of this process that it did not start itself."""
    found: list[int] = []
    with suppress(OSError), open("/proc/thread-self/children", encoding="ascii") as file:
        found = [int(pid) for pid in file.read().split()]
    return [pid for pid in found if pid not in known]


def pip_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Pip's configuration files as environment variables: the agent's user cannot read a home's files."""
    parser = configparser.RawConfigParser()
    with suppress(OSError, configparser.Error, UnicodeDecodeError):
        parser.read(_pip_files(environ), encoding="utf-8")
    found: dict[str, str] = {}
    for option in _PIP_OPTIONS:
        name = f"PIP_{option.upper().replace('-', '_')}"
        for section in ("install", "global"):
            if name not in environ and parser.has_option(section, option):
                found.setdefault(name, " ".join(parser.get(section, option).split()))
    return found


def _pip_files(environ: Mapping[str, str]) -> list[str]:
    """In the order in which later ones win, as `pip config debug` tells it."""
    home = environ.get("HOME") or os.path.expanduser("~")
    config = environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    named = environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    directories = [os.path.join(d, "pip") for d in environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":") if d]
    files = [os.path.join(d, "pip.conf") for d in [*directories, "/etc"]]
    files += [os.path.join(home, ".pip", "pip.conf"), os.path.join(config, "pip", "pip.conf")]
    files += [os.path.join(sys.prefix, "pip.conf")]
    return files + ([named] if named else [])


def shown_directories(environ: Mapping[str, str]) -> list[str]:
    """What of the host the launcher may show to containers, read-only, if the agent asks for it.

    Squall itself, cloudpickle and uv, the base system of the host image, certificates, local package indexes.
    """
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    programs = os.path.dirname(sys.executable)  # uv is beside it
    places = [package, *site.getsitepackages(), programs, "/usr", "/etc/ssl", sys.base_prefix]
    places += [environ[name] for name in _CERTIFICATES if environ.get(name)]
    for name in _PLACES:
        local = [p for value in environ.get(name, "").split() if (p := _local_path(value))]
        # The files of an index often lie beside its pages: "simple" and "files".
        places += [os.path.dirname(p.rstrip("/")) if p.rstrip("/").endswith("/simple") else p for p in local]
    directories = [p if os.path.isdir(p) else os.path.dirname(p) for p in places]
    return list(dict.fromkeys(os.path.realpath(d) for d in directories if os.path.isdir(d) and d != "/"))


def _local_path(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme == "file":
        return url2pathname(parts.path)
    return value if value.startswith("/") else ""

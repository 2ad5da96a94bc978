"""What this machine offers as a node: `python -m squall.node.doctor --state DIR` prints it as JSON.

A program of its own, so that it can be asked without a daemon. Each question has an answer within seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import shutil
import ssl
import sys
import tempfile
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from squall import filesystem
from squall.build import kit, machine
from squall.build.base import BuildError
from squall.checkup import Check
from squall.node import resources
from squall.runtime import gpus
from squall.runtime.cgroups import Cgroups
from squall.runtime.driver import DriverError
from squall.runtime.launcher import trees
from squall.runtime.network import NetworkError, resolv_conf
from squall.runtime.network.firewall import find_nft
from squall.runtime.network.resolvers import NONE_USABLE
from squall.runtime.probe import Choice, choose
from squall.runtime.process import LOSSES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from squall.build.machine import Machine

#: Seconds that a mirror or an index may take to answer.
REACH_S = 2.0
#: Less is too little for a Debian and a few packages (GiB).
ROOM_GIB = 2
PYPI = "https://pypi.org/simple/"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="squall.node.doctor", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="the daemon's state directory")
    given = parser.parse_args(arguments)
    print(json.dumps([dataclasses.asdict(check) for check in checks(given.state)]))
    return 0


def checks(state: Path) -> Iterator[Check]:
    yield _kernel()
    yield Check("Machine", "ok", f"{len(os.sched_getaffinity(0))} cores, {resources.memory_mib()} MiB")
    choice = _choice()
    yield from _driver(choice)
    if choice is not None and choice.name == "namespaces":
        yield _layers()
        yield _control_groups()
        yield _network()
        yield _resolvers()
    yield _gpus()
    yield _room(state)
    yield from _programs()
    yield from _reach(asyncio.run(machine.read()))


def _kernel() -> Check:
    name = os.uname()
    return Check(
        "Kernel", "ok", f"{name.sysname} {name.release}, {name.machine}, Python {sys.version.split()[0]}"
    )


def _choice() -> Choice | None:
    try:
        with tempfile.TemporaryDirectory(prefix="squall-doctor-") as folder:
            return choose(os.environ.get("SQUALL_DRIVER"), Path(folder))
    except (DriverError, OSError):
        return None


def _driver(choice: Choice | None) -> Iterator[Check]:
    if choice is None:
        found = f"{os.environ.get('SQUALL_DRIVER')}: it does not work here"
        yield Check("Driver", "failed", found, "unset SQUALL_DRIVER")
    elif choice.name == "namespaces":
        yield Check("Driver", "ok", "namespaces: each container is isolated by the kernel")
    else:
        remedy = "run the daemon as root of a machine, which may be a virtual one"
        yield Check("Driver", "lost", f"process: {choice.reason}", remedy)
        yield from (Check("Lost by it", "lost", loss) for loss in LOSSES)


def _layers() -> Check:
    if trees.takes_descriptors():
        return Check("Layers", "ok", "overlay, layers by descriptor")
    return Check("Layers", "ok", "overlay, layers by path (Linux 6.15 and newer take descriptors)")


def _control_groups() -> Check:
    found = Cgroups.detect(f"squall-doctor-{os.getpid()}")
    if found is None:
        return Check(
            "Control groups",
            "lost",
            "none: no limits of CPU, memory and processes",
            "mount /sys/fs/cgroup writable",
        )
    found.close()
    version = " and ".join(sorted({f"version {h.version}" for h in found.hierarchies if h.controllers}))
    names = ", ".join(sorted(found.controllers))
    if found.losses:
        return Check(
            "Control groups",
            "lost",
            f"{version}: {names}. {' '.join(found.losses)}",
            "enable what is missing",
        )
    return Check("Control groups", "ok", f"{version}: {names}")


def _network() -> Check:
    try:
        return Check("Network", "ok", f"of containers' own, filtered by {find_nft()}")
    except NetworkError as error:
        return Check("Network", "failed", str(error), "apt-get install nftables")


def _resolvers() -> Check:
    if resolv_conf() != NONE_USABLE:
        return Check("Names", "ok", "containers ask the host's resolvers")
    return Check(
        "Names",
        "lost",
        "containers resolve no names: the host's resolvers are on its loopback only",
        "name an upstream resolver in /run/systemd/resolve/resolv.conf or /etc/resolv.conf",
    )


def _gpus() -> Check:
    found = gpus.found()
    if not found:
        return Check("GPUs", "ok", "none that NVIDIA's driver knows")
    listed = ", ".join(f"{gpu.type} (/dev/nvidia{gpu.minor})" for gpu in found)
    missing = [gpu.minor for gpu in found if not Path(f"/dev/nvidia{gpu.minor}").exists()]
    if missing or not Path("/dev/nvidia-uvm").exists():
        return Check("GPUs", "lost", f"{listed}: device nodes are missing", "nvidia-modprobe -u -c 0")
    return Check("GPUs", "ok", listed)


def _room(state: Path) -> Check:
    existing = next(folder for folder in (state, *state.parents) if folder.exists())
    if why := filesystem.refusal(str(existing)):
        return Check("State", "failed", f"{state}: the directory {why}", "set SQUALL_STATE to a local one")
    if not os.access(existing, os.W_OK):
        return Check("State", "failed", f"{state} cannot be written", "set SQUALL_STATE to another directory")
    free = shutil.disk_usage(existing).free / 2**30
    if free < ROOM_GIB:
        return Check("State", "lost", f"{state}: {free:.1f} GiB are free", "make room, or set SQUALL_STATE")
    return Check("State", "ok", f"{state}, {free:.0f} GiB free")


def _programs() -> Iterator[Check]:
    if shutil.which("mmdebstrap") is None:
        yield Check(
            "mmdebstrap",
            "lost",
            "missing: images are copies of this host's /usr, for one tenant",
            "apt-get install mmdebstrap",
        )
    else:
        yield Check("mmdebstrap", "ok", "images begin with a Debian of their own")
    try:
        yield Check("uv", "ok", kit.find_uv())
    except BuildError as error:
        yield Check("uv", "lost", str(error), "pip install uv")


def _reach(settings: Machine) -> Iterator[Check]:
    """The places that packages come from; asked at the same time."""
    places = [("Python index", settings.pip.index_url or PYPI)]
    places += [("Debian mirror", source.uri) for source in settings.apt.sources[:1]]
    certificates = settings.pip.ca_bundle or None
    with ThreadPoolExecutor() as pool:
        yield from pool.map(
            lambda place: reach(place[0], place[1], dict(settings.pip.proxies), certificates), places
        )


def reach(name: str, url: str, proxies: dict[str, str], certificates: str | None = None) -> Check:
    """Whether somebody answers there. A file is there or not."""
    shown = _without_password(url)
    if urlsplit(url).scheme not in ("http", "https"):
        return Check(name, "ok", f"{shown} (of this machine)")
    schemes = {
        key.split("_")[0].lower(): value for key, value in proxies.items() if key.lower().endswith("_proxy")
    }
    context = ssl.create_default_context(cafile=certificates)
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler(schemes or None), urllib.request.HTTPSHandler(context=context)
    )
    try:
        request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - http or https, seen above
        with opener.open(request, timeout=REACH_S):
            return Check(name, "ok", shown)
    except urllib.error.HTTPError as error:
        if error.code < 500 and error.code != 407:
            return Check(name, "ok", shown)  # somebody is there; not every index answers for its root
        reason = f"it answers {error.code} {error.reason}"
    except OSError as error:
        reason = str(getattr(error, "reason", error)) or type(error).__name__
    return Check(
        name, "lost", f"{shown}: {reason}", "builds cannot fetch packages: check the network and its proxy"
    )


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return url if "@" not in parts.netloc else parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


if __name__ == "__main__":
    sys.exit(main())

"""What the launcher is started with: where it keeps things, whom it obeys, what it may show to containers."""

from __future__ import annotations

import argparse
import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from squall.runtime.network.config import DEFAULT_SUBNET, NetworkConfig

#: Forces what older kernels need, in tests: names separated by commas.
FORCE_FALLBACK = "SQUALL_FORCE_FALLBACK"

DEFAULT_UID_FIRST = 1_000_000
DEFAULT_UID_LAST = 1_000_000_000


@dataclass(frozen=True)
class Config:
    """`state` is the launcher's alone; `socket` is where the agent of user `owner_uid` finds it.

    `base_maker` is the module to run, as root, for an agent that needs a base system; empty for none.
    `host_root` is where devices and the GPU driver's files are looked for (tests have one of their own).
    """

    state: Path
    socket: Path
    owner_uid: int
    readable: tuple[str, ...]
    writable: tuple[str, ...]
    uid_first: int = DEFAULT_UID_FIRST
    uid_last: int = DEFAULT_UID_LAST
    memory_mib: int = 0
    addresses: str = DEFAULT_SUBNET
    refuse: tuple[str, ...] = ()
    no_network: bool = False
    base_maker: str = ""
    host_root: Path = Path("/")

    @property
    def key(self) -> str:
        """Short and stable for a state directory: names the cgroups and links of this launcher."""
        return hashlib.sha256(str(self.state.resolve()).encode()).hexdigest()[:8]

    @cached_property
    def network(self) -> NetworkConfig:
        """Raises `NetworkError`."""
        return NetworkConfig(
            subnet=self.addresses,
            refuse=self.refuse,
            table=f"squall_{self.key}",
            link_prefix=f"sq{self.key[:6]}",
        )


def parse(arguments: list[str]) -> Config:
    parser = argparse.ArgumentParser(prog="squall.runtime.launcher", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="directory of the launcher alone")
    parser.add_argument("--socket", type=Path, required=True, help="where the agent connects")
    parser.add_argument("--owner-uid", type=int, required=True, help="the agent's uid")
    parser.add_argument("--readable", action="append", default=[], help="a directory containers may be shown")
    parser.add_argument("--writable", action="append", default=[], help="one they may also write to")
    parser.add_argument("--uid-first", type=int, default=DEFAULT_UID_FIRST)
    parser.add_argument("--uid-last", type=int, default=DEFAULT_UID_LAST)
    parser.add_argument("--memory-mib", type=int, default=total_memory_mib(), help="what the node has")
    parser.add_argument(
        "--addresses", default=DEFAULT_SUBNET, help="IPv4 network that containers get addresses from"
    )
    parser.add_argument("--refuse", action="append", default=[], help="a network containers may not reach")
    parser.add_argument("--no-network", action="store_true", help="containers have their loopback only")
    parser.add_argument("--base-maker", default="", help="the module that makes base systems")
    parser.add_argument("--host-root", type=Path, default=Path("/"), help="where GPUs are looked for")
    given = parser.parse_args(arguments)
    lists = {name: tuple(getattr(given, name)) for name in ("readable", "writable", "refuse")}
    return Config(**{**vars(given), **lists})


def total_memory_mib() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (1024 * 1024)


def forced_fallbacks() -> frozenset[str]:
    return frozenset(name for name in os.environ.get(FORCE_FALLBACK, "").split(",") if name)

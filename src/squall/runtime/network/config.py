"""What an operator may choose about the containers' network, and the names that we give to what is ours."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import cached_property

#: Of the range for benchmarks (RFC 2544), which no real network should use; its lower half is what some VPN
#: clients hand out.
DEFAULT_SUBNET = "198.19.0.0/16"

#: Names of interfaces have 15 characters at most, and ours end in a number of up to five digits.
MAX_PREFIX = 10

#: What needs no asking: it is this machine's surroundings, among them the metadata service of clouds.
LINK_LOCAL = "169.254.0.0/16"


class NetworkError(Exception):
    """The containers' network cannot be set up; the message is one line for a user."""


@dataclass(frozen=True)
class NetworkConfig:
    """Checked when made: raises `NetworkError`.

    `subnet` gives containers their addresses (a /30 at least). Launchers on one host may share it. `refuse`
    lists networks that containers may not reach, beyond the defaults: the host's own addresses, link-local
    ones, other containers. `table` names our nftables table, and `link_prefix` starts the names of our
    interfaces; two launchers on one host need different ones. `pool_size` bounds the idle networks that are
    kept for the next container of their workspace.
    """

    subnet: str = DEFAULT_SUBNET
    refuse: tuple[str, ...] = ()
    table: str = "squall"
    link_prefix: str = "squall"
    pool_size: int = 64

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_]{0,30}", self.table):
            raise NetworkError(f"{self.table!r} is no name for a table of nftables")
        if not re.fullmatch(rf"[a-zA-Z][a-zA-Z0-9-]{{0,{MAX_PREFIX - 1}}}", self.link_prefix):
            raise NetworkError(f"{self.link_prefix!r} cannot start the name of an interface")
        if self.network.num_addresses < 4:
            raise NetworkError(f"{self.subnet} is too small a network for containers; give a /30 or larger")
        if self.network.num_addresses > 1 << 16:
            raise NetworkError(f"{self.subnet} is too large a network for containers; give a /16 or smaller")
        for text in self.refuse:
            _network(text)

    @cached_property
    def network(self) -> ipaddress.IPv4Network:
        network = _network(self.subnet)
        if isinstance(network, ipaddress.IPv6Network):
            raise NetworkError(f"{self.subnet} is IPv6; containers get IPv4 addresses")
        return network

    @property
    def gateway(self) -> str:
        """What containers route to. No interface of the host has it: neighbours are fixed, without ARP."""
        return str(self.network[1])

    @property
    def slots(self) -> range:
        """The numbers of addresses that containers can have."""
        return range(2, self.network.num_addresses - 1)

    def address(self, slot: int) -> str:
        return str(self.network[slot])

    def link(self, slot: int) -> str:
        return f"{self.link_prefix}{slot}"

    @property
    def alias(self) -> str:
        """Marks an interface as ours, besides its name."""
        return f"squall:{self.table}"

    @property
    def refused(self) -> tuple[str, ...]:
        """All IPv4 networks that containers may not reach. (IPv6 has no way out at all.)"""
        extra = (_network(text) for text in self.refuse)
        return (LINK_LOCAL, str(self.network), *(str(n) for n in extra if n.version == 4))


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise NetworkError(f"{text!r} is no network ({error}); write it like 10.0.0.0/8") from None

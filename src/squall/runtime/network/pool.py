"""The networks that are in use, and those that wait for the next container of their workspace.

A network namespace is reused for the same workspace only. A container leaves nothing behind in it: its
processes and sockets are gone, and it had no capability to change addresses, routes or filters.
"""

from __future__ import annotations

import ipaddress
import itertools
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from squall.runtime.network import firewall, resolvers
from squall.runtime.network.config import NetworkConfig, NetworkError
from squall.runtime.network.links import connect
from squall.runtime.network.netlink import Link, Rtnetlink
from squall.runtime.network.rules import Policy, ruleset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from collections.abc import Set as AbstractSet

OUR_ALIASES = "squall:"

#: How long `teardown` lets the kernel remove interfaces by itself before it deletes the rest.
TEARDOWN_ROUNDS, TEARDOWN_POLL_S = 200, 0.01


@dataclass(frozen=True)
class Lease:
    """A network for one container: `fd` is the namespace, the pool's to close; `link` is the host's end."""

    fd: int
    address: str
    workspace: str
    slot: int
    link: str


class NetworkPool:
    """For a process of one thread, as root. `clean_stale`, then `setup`, before the first `acquire`."""

    def __init__(self, config: NetworkConfig) -> None:
        self._config = config
        self._leased: dict[int, Lease] = {}
        self._idle: dict[int, Lease] = {}  # in the order of their release
        self._next = config.slots.start
        self.losses: tuple[str, ...] = ()

    def setup(self) -> None:
        """Put the rules in force, then let the host forward. Raises `NetworkError`."""
        config = self._config
        firewall.find_nft()
        try:
            with Rtnetlink() as host:
                links, routes = {link.number: link for link in host.links()}, host.routes()
            for route in routes:
                self._refuse_overlap(route.destination, route.prefix_length, links.get(route.link))
            turned_on = firewall.was_off(config.table)
            turn_on = not firewall.is_forwarding()
            uplinks = {links[r.link].name for r in routes if r.prefix_length == 0 and r.link in links}
            names = resolvers.resolv_conf()
            policy = Policy(
                table=config.table,
                links=config.link_prefix,
                subnet=str(config.network),
                refused=_without_overlaps(config.refused),
                resolvers=tuple(resolvers.usable(names)),
                guarded=tuple(sorted(uplinks)) if turn_on or turned_on else (),
                forwarding_was_off=turn_on or turned_on,
            )
            firewall.load(ruleset(policy))
            if turn_on:
                firewall.set_forwarding(on=True)
        except OSError as error:
            raise NetworkError(f"cannot set up the containers' network: {error}") from error
        self.losses = tuple(_losses(names, firewall.blocking_chains(config.table)))

    def acquire(self, workspace: str, make_netns: Callable[[], int]) -> Lease:
        """A network for a container: a pooled one, else one made in the namespace that `make_netns` gives.

        Raises `NetworkError`, and what `make_netns` raises.
        """
        lease = next((x for x in reversed(self._idle.values()) if x.workspace == workspace), None)
        if lease is None:
            lease = self._make(workspace, make_netns())
        else:
            del self._idle[lease.slot]
        self._leased[lease.slot] = lease
        return lease

    def adopt(self, lease: Lease) -> None:
        """Take over a network that an earlier life gave to a container which still has it."""
        self._leased[lease.slot] = lease

    def release(self, lease: Lease) -> None:
        """Keep a network for its workspace; the one that waits longest goes when there are too many."""
        if self._leased.pop(lease.slot, None) is None:
            return
        self._idle[lease.slot] = lease
        if len(self._idle) > self._config.pool_size:
            # Its interfaces go with the namespace, in the kernel's own time: deleting them takes tens of
            # milliseconds. Until then, `_make` passes over its address.
            os.close(self._idle.pop(next(iter(self._idle))).fd)

    def teardown(self) -> None:
        """Remove all that is ours and put forwarding back as it was."""
        leases = (*self._leased.values(), *self._idle.values())
        for lease in leases:
            os.close(lease.fd)
        self._leased.clear()
        self._idle.clear()
        names = {lease.link for lease in leases}
        for _ in range(TEARDOWN_ROUNDS):
            if names.isdisjoint(self._links()):
                break
            time.sleep(TEARDOWN_POLL_S)  # the kernel removes all of them at once, much faster than one by one
        self._delete_links(keep=self._links().keys() - names)
        self._remove_rules()

    def clean_stale(self, keep: AbstractSet[str] = frozenset()) -> None:
        """Remove what an earlier life left: interfaces with our name and mark, and our rules.

        `keep` names the links (`Lease.link`) of containers that still run; the rules stay for them.
        """
        self._delete_links(keep)
        if not keep:
            self._remove_rules()

    def _make(self, workspace: str, netns: int) -> Lease:
        config = self._config
        try:
            with Rtnetlink() as host:
                for slot in self._free_slots():
                    address, link = config.address(slot), config.link(slot)
                    # Taken by another launcher on this host, or by a container that outlived the last one.
                    with suppress(FileExistsError):
                        connect(host, link, config.alias, netns, address, config.gateway)
                        self._next = slot + 1
                        return Lease(netns, address, workspace, slot, link)
            raise NetworkError(
                f"all addresses of {config.network} are in use; give containers a larger range"
            )
        except OSError as error:
            os.close(netns)
            raise NetworkError(f"cannot make a network for a container: {error}") from error
        except NetworkError:
            os.close(netns)
            raise

    def _free_slots(self) -> Iterator[int]:
        """Beginning after the last one given, so that an address is not used again at once."""
        slots = self._config.slots
        start = self._next if self._next in slots else slots.start
        order = itertools.chain(range(start, slots.stop), range(slots.start, start))
        return (s for s in order if s not in self._leased and s not in self._idle)

    def _links(self) -> dict[str, int]:
        """The interfaces of the host that are ours."""
        with Rtnetlink() as host:
            return {link.name: link.number for link in host.links() if self._is_ours(link)}

    def _delete_links(self, keep: AbstractSet[str]) -> None:
        with Rtnetlink() as host:
            for name, number in self._links().items():
                if name not in keep:
                    with suppress(OSError):  # it may have gone with its namespace
                        host.delete(number)

    def _remove_rules(self) -> None:
        config = self._config
        try:
            if not firewall.has_table(config.table):
                return
        except NetworkError:
            return  # no nft, so no rules of ours either
        restore = firewall.was_off(config.table)
        firewall.delete_table(config.table)
        if restore and not _somebody_else_forwards():
            firewall.set_forwarding(on=False)

    def _is_ours(self, link: Link) -> bool:
        config = self._config
        return link.kind == "veth" and link.name.startswith(config.link_prefix) and link.alias == config.alias

    def _refuse_overlap(self, destination: str, prefix_length: int, link: Link | None) -> None:
        if prefix_length == 0 or (link is not None and link.alias.startswith(OUR_ALIASES)):
            return
        if self._config.network.overlaps(ipaddress.IPv4Network((destination, prefix_length), strict=False)):
            where = link.name if link else "this host"
            raise NetworkError(
                f"{self._config.network} is in use already ({destination}/{prefix_length} on {where}): "
                "give containers another range of addresses"
            )


def _somebody_else_forwards() -> bool:
    """Whether the host has a bridge.

    A container engine or a hypervisor that came after us found forwarding on, and would lose it unawares.
    """
    with Rtnetlink() as host:
        return any(link.kind == "bridge" for link in host.links())


def _without_overlaps(networks: tuple[str, ...]) -> tuple[str, ...]:
    """A set of nftables may not have overlapping intervals."""
    collapsed = ipaddress.collapse_addresses(ipaddress.IPv4Network(n) for n in networks)
    return tuple(str(n) for n in collapsed)


def _losses(names: str, blocking: list[str]) -> list[str]:
    losses: list[str] = []
    if names == resolvers.NONE_USABLE:
        losses.append("Containers resolve no names: the host's resolvers are on its loopback only.")
    if blocking:
        losses.append(
            f"Containers may have no network: the host's firewall drops what is forwarded "
            f"({', '.join(blocking)}); allow traffic of our interfaces there."
        )
    return losses

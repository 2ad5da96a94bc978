"""A container's interface: a veth pair, one end in its network namespace, with fixed neighbours and routes.

Every pair has the same two hardware addresses, each pair being a wire of its own. The container's address is
a /32 and its gateway is reached by the wire alone; the host routes the /32 back by it.
"""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from squall.runtime.linux import processes
from squall.runtime.network.netlink import Rtnetlink

if TYPE_CHECKING:
    from collections.abc import Iterator

# Locally administered ones.
HOST_MAC = bytes.fromhex("025371000001")
CONTAINER_MAC = bytes.fromhex("025371000002")

CONTAINER_LINK = "eth0"


@contextmanager
def inside(netns: int) -> Iterator[None]:
    """Be in a network namespace for a moment. For a process of one thread."""
    own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        processes.setns(netns, processes.NEWNET)
        try:
            yield
        finally:
            processes.setns(own, processes.NEWNET)
    finally:
        os.close(own)


def connect(host: Rtnetlink, name: str, alias: str, netns: int, address: str, gateway: str) -> None:
    """Give a fresh network namespace its interface.

    Raises `OSError` and leaves nothing behind then; `FileExistsError` if the name or the address is taken.
    """
    host.create_pair(name, HOST_MAC, CONTAINER_LINK, CONTAINER_MAC, netns)
    link = socket.if_nametoindex(name)
    try:
        _configure_host(host, link, name, alias, address)
        _configure_container(netns, address, gateway)
        host.wait_running(link)
    except OSError:
        host.delete(link)
        raise


def _configure_host(host: Rtnetlink, link: int, name: str, alias: str, address: str) -> None:
    _set("ipv6", name, "disable_ipv6", "1")
    _set("ipv4", name, "rp_filter", "1")
    host.set_up(link, alias)
    host.add_neighbour(link, address, CONTAINER_MAC)
    host.add_route(link, address, 32)


def _configure_container(netns: int, address: str, gateway: str) -> None:
    with inside(netns):
        # IPv6 on loopback only: there is no route for it, and all addresses of it would need filters.
        _set("ipv6", CONTAINER_LINK, "disable_ipv6", "1")
        link = socket.if_nametoindex(CONTAINER_LINK)
        container = Rtnetlink()
    with container:
        container.set_up(1)  # lo is the first in every namespace
        container.add_address(link, address)
        container.set_up(link)
        container.add_neighbour(link, gateway, HOST_MAC)
        container.add_route(link, "0.0.0.0", 0, gateway)


def _set(family: str, link: str, key: str, value: str) -> None:
    path = f"/proc/sys/net/{family}/conf/{link}/{key}"
    if os.path.exists(path):  # a kernel may lack IPv6
        with open(path, "w", encoding="ascii") as file:
            file.write(value)

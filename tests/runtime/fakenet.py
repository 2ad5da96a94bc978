"""A host, an internet and a metadata service made of network namespaces: nothing real is touched.

`on_fake_host` runs a function in a child process whose network namespace stands for the host; all of it ends
with the process. The host reaches the internet by `wan0`.
"""

from __future__ import annotations

import os
import socket
import threading
import traceback
from typing import TYPE_CHECKING

from squall.runtime.linux import processes
from squall.runtime.network import firewall
from squall.runtime.network.links import inside
from squall.runtime.network.netlink import Rtnetlink

if TYPE_CHECKING:
    from collections.abc import Callable

HOST = "203.0.113.1"
INTERNET = "203.0.113.2"
METADATA = "169.254.169.254"
PRIVATE = "10.9.0.1"
PORT = 8000

MAC = bytes.fromhex("02537100ff01")
PEER_MAC = bytes.fromhex("02537100ff02")

#: Namespaces that `internet` made, for tests that act in one.
INTERNETS: list[int] = []


def on_fake_host(test: Callable[[], None]) -> None:
    """Run `test` there. What it raises fails the caller with its traceback."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(test, write)
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as answer:
        text = answer.read()
    os.waitpid(pid, 0)
    assert text == "passed", text


def _child(test: Callable[[], None], answer: int) -> None:
    text = "passed"
    try:
        processes.unshare(processes.NEWNET)
        with Rtnetlink() as host:
            host.set_up(1)
        firewall.set_forwarding(on=False)  # a new namespace begins with what the real host has
        test()
    except BaseException:
        text = traceback.format_exc()
    finally:
        os.write(answer, text.encode())
        os._exit(0)


def new_netns() -> int:
    """A network namespace beside the host's."""
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    processes.unshare(processes.NEWNET)
    made = os.open("/proc/self/ns/net", os.O_RDONLY)
    processes.setns(own, processes.NEWNET)
    os.close(own)
    return made


def container_netns() -> int:
    """Of another user namespace, as the launcher gets them from a zone. Raises OSError."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        _send_container_netns(theirs)
    theirs.close()
    with ours:
        text, fds, _, _ = socket.recv_fds(ours, 200, 1)
    os.waitpid(pid, 0)
    if not fds:
        raise OSError(text.decode())
    return fds[0]


def _send_container_netns(connection: socket.socket) -> None:
    try:
        processes.unshare(processes.NEWUSER | processes.NEWNET)
        socket.send_fds(connection, [b"x"], [os.open("/proc/self/ns/net", os.O_RDONLY)])
    except OSError as error:
        connection.send(str(error).encode())
    finally:
        os._exit(0)


def join(name: str, address: str, netns: int, peer_address: str) -> None:
    """A wire of its own from the host to another namespace, each the other's only neighbour."""
    with Rtnetlink() as host:
        host.create_pair(name, MAC, "eth0", PEER_MAC, netns)
        _attach(host, socket.if_nametoindex(name), address, peer_address, PEER_MAC)
    with inside(netns):
        peer = Rtnetlink()
        link = socket.if_nametoindex("eth0")
    with peer:
        peer.set_up(1)
        _attach(peer, link, peer_address, address, MAC)
    with Rtnetlink() as host:
        host.wait_running(socket.if_nametoindex(name))


def _attach(netlink: Rtnetlink, link: int, address: str, neighbour: str, mac: bytes) -> None:
    netlink.add_address(link, address)
    netlink.set_up(link)
    netlink.add_neighbour(link, neighbour, mac)
    netlink.add_route(link, neighbour, 32)


def internet() -> None:
    """Make the internet. It serves on a public, a private and the metadata service's address."""
    netns = new_netns()
    join("wan0", HOST, netns, INTERNET)
    with Rtnetlink() as host:
        host.add_route(socket.if_nametoindex("wan0"), "0.0.0.0", 0, INTERNET)
        host.add_route(socket.if_nametoindex("wan0"), METADATA, 32, INTERNET)
    with inside(netns):
        with Rtnetlink() as there:
            for address in (METADATA, PRIVATE):
                there.add_address(1, address)
        serve()
    INTERNETS.append(netns)


def serve(port: int = PORT) -> None:
    """Tell every caller who it is, on all addresses of the namespace that one is in."""
    server = socket.create_server(("0.0.0.0", port))
    threading.Thread(target=_serve, args=(server,), daemon=True).start()


def _serve(server: socket.socket) -> None:
    while True:
        connection, (address, _) = server.accept()
        with connection:
            connection.sendall(address.encode())


def ask(netns: int, address: str, port: int = PORT) -> str:
    """Who a server says that one is, asked from a namespace; or the name of the error."""
    with inside(netns):
        try:
            with socket.create_connection((address, port), timeout=10) as connection:
                return connection.recv(100).decode()
        except OSError as error:
            return type(error).__name__

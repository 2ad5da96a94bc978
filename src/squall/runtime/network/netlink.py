"""As little of rtnetlink as pairs of interfaces, addresses and routes need (rtnetlink(7), linux/if_link.h).

By hand, because a library that knows all of it takes longer to import than a container to start. A socket
belongs to the network namespace that it was opened in.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

# Messages.
_ERROR, _DONE = 2, 3
_NEWLINK, _DELLINK, _GETLINK, _NEWADDR, _NEWROUTE, _GETROUTE, _NEWNEIGH = 16, 17, 18, 20, 24, 26, 28

# Flags of requests.
_REQUEST, _ACK, _DUMP, _EXCLUSIVE, _CREATE = 0x1, 0x4, 0x300, 0x200, 0x400

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_LINK = struct.Struct("=BxHiII")  # family, type, index, flags, mask of flags to change
_ADDRESS = struct.Struct("=BBBBi")  # family, prefix length, flags, scope, index
_ROUTE = struct.Struct("=8BI")  # family, dst and src lengths, tos, table, protocol, scope, type; flags
_NEIGHBOUR = struct.Struct("=B3xiHBB")  # family, index, state, flags, type
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_NESTED = 0x8000

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_IFALIAS, _IFLA_NET_NS_FD = 1, 3, 18, 20, 28
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_UP, _RUNNING = 0x1, 0x40
_TABLE_MAIN, _PROTOCOL_STATIC, _UNICAST, _SCOPE_UNIVERSE, _SCOPE_LINK, _ONLINK = 254, 4, 1, 0, 253, 4
_PERMANENT = 0x80

_BUFFER = 1 << 18

# Usually it takes less than a millisecond.
_RUNNING_ROUNDS, _RUNNING_POLL_S = 400, 0.0005


class Link(NamedTuple):
    """An interface as the kernel lists it; `kind` is empty for hardware."""

    number: int
    name: str
    kind: str
    alias: str
    running: bool


class Route(NamedTuple):
    """An IPv4 route as the kernel lists it, of any table."""

    destination: str
    prefix_length: int
    link: int


class Rtnetlink:
    """A connection to the kernel. Methods raise `OSError` as it answers."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> Rtnetlink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def links(self) -> list[Link]:
        return [_parse_link(body) for body in self._dump(_GETLINK, _LINK.pack(0, 0, 0, 0, 0))]

    def link(self, number: int) -> Link:
        self._send(_GETLINK, _LINK.pack(0, 0, number, 0, 0), _ACK)
        return next(_parse_link(body) for body in list(self._answers()))

    def wait_running(self, number: int) -> None:
        """Wait until an interface passes packets.

        The end of a pair that was set up first does so a moment after the other one was: what it is given
        before is dropped, and a connection would hang for the second until TCP tries again.
        """
        for _ in range(_RUNNING_ROUNDS):
            if self.link(number).running:
                return
            time.sleep(_RUNNING_POLL_S)

    def routes(self) -> list[Route]:
        request = _ROUTE.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
        return [_parse_route(body) for body in self._dump(_GETROUTE, request)]

    def create_pair(self, name: str, mac: bytes, peer: str, peer_mac: bytes, peer_netns: int) -> None:
        """A veth pair: `name` here, `peer` in another network namespace."""
        there = _LINK.pack(0, 0, 0, 0, 0) + _text(_IFLA_IFNAME, peer) + _attribute(_IFLA_ADDRESS, peer_mac)
        there += _attribute(_IFLA_NET_NS_FD, struct.pack("=I", peer_netns))
        info = _text(_INFO_KIND, "veth") + _nested(_INFO_DATA, _nested(_VETH_PEER, there))
        here = _text(_IFLA_IFNAME, name) + _attribute(_IFLA_ADDRESS, mac) + _nested(_IFLA_LINKINFO, info)
        self._change(_NEWLINK, _LINK.pack(0, 0, 0, 0, 0) + here, _CREATE | _EXCLUSIVE)

    def set_up(self, link: int, alias: str = "") -> None:
        body = _LINK.pack(0, 0, link, _UP, _UP) + (_text(_IFLA_IFALIAS, alias) if alias else b"")
        self._change(_NEWLINK, body)

    def delete(self, link: int) -> None:
        self._change(_DELLINK, _LINK.pack(0, 0, link, 0, 0))

    def add_address(self, link: int, address: str, prefix_length: int = 32) -> None:
        packed = socket.inet_aton(address)
        body = _ADDRESS.pack(socket.AF_INET, prefix_length, 0, 0, link)
        body += _attribute(2, packed) + _attribute(1, packed)  # IFA_LOCAL, IFA_ADDRESS
        self._change(_NEWADDR, body, _CREATE | _EXCLUSIVE)

    def add_neighbour(self, link: int, address: str, mac: bytes) -> None:
        """Say once and for all which hardware address has an address."""
        body = _NEIGHBOUR.pack(socket.AF_INET, link, _PERMANENT, 0, 0)
        body += _attribute(1, socket.inet_aton(address)) + _attribute(2, mac)  # NDA_DST, NDA_LLADDR
        self._change(_NEWNEIGH, body, _CREATE | _EXCLUSIVE)

    def add_route(self, link: int, destination: str, prefix_length: int, gateway: str | None = None) -> None:
        """Route to a network by a link; by a gateway on it, which needs no route of its own."""
        scope, flags = (_SCOPE_UNIVERSE, _ONLINK) if gateway else (_SCOPE_LINK, 0)
        fixed = (prefix_length, 0, 0, _TABLE_MAIN, _PROTOCOL_STATIC, scope, _UNICAST)
        body = _ROUTE.pack(socket.AF_INET, *fixed, flags) + _attribute(_RTA_OIF, struct.pack("=i", link))
        if prefix_length:
            body += _attribute(_RTA_DST, socket.inet_aton(destination))
        if gateway:
            body += _attribute(_RTA_GATEWAY, socket.inet_aton(gateway))
        self._change(_NEWROUTE, body, _CREATE | _EXCLUSIVE)

    def _change(self, kind: int, body: bytes, flags: int = 0) -> None:
        self._send(kind, body, _ACK | flags)
        for _ in self._answers():
            pass

    def _dump(self, kind: int, body: bytes) -> list[bytes]:
        self._send(kind, body, _DUMP)
        return list(self._answers())

    def _send(self, kind: int, body: bytes, flags: int) -> None:
        self._sequence += 1
        header = _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | flags, self._sequence, 0)
        self._socket.send(header + body)

    def _answers(self) -> Iterator[bytes]:
        """The bodies of what answers the last request, up to its acknowledgement or end."""
        while True:
            data = self._socket.recv(_BUFFER)
            at = 0
            while at < len(data):
                length, kind, _, sequence, _ = _HEADER.unpack_from(data, at)
                body = data[at + _HEADER.size : at + length]
                at += _aligned(length)
                if sequence != self._sequence:
                    continue
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    _raise(body)
                    return
                yield body


def _raise(body: bytes) -> None:
    (code,) = struct.unpack_from("=i", body)
    if code:
        raise OSError(-code, os.strerror(-code))


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(_aligned(length) - length)


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode() + b"\0")


def _nested(kind: int, value: bytes) -> bytes:
    return _attribute(kind | _NESTED, value)


def _attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            break
        found[kind & ~_NESTED] = data[at + _ATTRIBUTE.size : at + length]
        at += _aligned(length)
    return found


def _string(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def _parse_link(body: bytes) -> Link:
    _, _, number, flags, _ = _LINK.unpack_from(body)
    found = _attributes(body[_LINK.size :])
    info = _attributes(found.get(_IFLA_LINKINFO, b""))
    texts = (found.get(_IFLA_IFNAME, b""), info.get(_INFO_KIND, b""), found.get(_IFLA_IFALIAS, b""))
    name, kind, alias = (_string(t) for t in texts)
    return Link(number, name, kind, alias, bool(flags & _RUNNING))


def _parse_route(body: bytes) -> Route:
    _, prefix_length, *_ = _ROUTE.unpack_from(body)
    found = _attributes(body[_ROUTE.size :])
    link = struct.unpack("=i", found[_RTA_OIF])[0] if _RTA_OIF in found else 0
    return Route(socket.inet_ntoa(found.get(_RTA_DST, bytes(4))), prefix_length, link)

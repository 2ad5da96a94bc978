"""Parcels: who holds them, how much a workspace may have, and what a peer cannot do on their socket."""

from __future__ import annotations

import array
import asyncio
import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from squall.client.parcels import Parcels as Client
from squall.runner.protocol import memfd
from squall.runner.protocol.spool import MemoryFile
from squall.server.names import Refusal
from squall.server.parcels import Parcels
from squall.server.transport.lines import Lines
from squall.wire import codec, parcels
from squall.wire.parcels import Answer, Ask, new_name
from squall.wire.values import Payload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KB = 1 << 10


def a_file(size: int = KB) -> int:
    return memfd.of([bytes(size)])


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


# ------------------------------------------------------------------------------------------------- the table


def test_a_parcel_lives_as_long_as_somebody_holds_it() -> None:
    table, name, fd = Parcels(10 * KB), new_name(), a_file()
    table.put("w", name, fd, "line")
    payload = Payload(blob=name)
    table.hold("w", payload, "input")
    table.release(name, "line")
    assert table.get("w", name) == fd
    table.let_go(payload, "somebody else")
    assert table.get("w", name) == fd
    table.let_go(payload, "input")
    assert not is_open(fd)
    assert len(table) == 0
    with pytest.raises(Refusal, match="no parcel"):
        table.get("w", name)


def test_a_workspace_sees_its_own_only() -> None:
    table, name = Parcels(10 * KB), new_name()
    table.put("w", name, a_file(), "line")
    with pytest.raises(Refusal) as refused:
        table.get("v", name)
    assert refused.value.code == "not_found"
    assert table.has("w", Payload(blob=name))
    assert not table.has("v", Payload(blob=name))
    table.hold("v", Payload(blob=name), "thief")
    table.release(name, "line")
    assert len(table) == 0
    with pytest.raises(Refusal):
        table.put("v", new_name().upper(), a_file(), "line")


def test_a_workspace_has_so_much_and_no_more() -> None:
    table, first = Parcels(10 * KB), new_name()
    table.put("w", first, a_file(6 * KB), "line")
    extra = a_file(5 * KB)
    with pytest.raises(Refusal, match="wait for some calls to end") as refused:
        table.put("w", new_name(), extra, "line")
    assert refused.value.code == "exhausted"
    assert not is_open(extra)
    table.put("v", new_name(), a_file(5 * KB), "line")
    table.release(first, "line")
    table.put("w", new_name(), a_file(5 * KB), "line")
    table.close()


def test_the_same_parcel_again_costs_nothing() -> None:
    table, name = Parcels(10 * KB), new_name()
    for holder in ("one", "two"):
        table.put("w", name, a_file(6 * KB), holder)
    with pytest.raises(Refusal, match="another one"):
        table.put("w", name, a_file(KB), "one")
    table.release(name, "one")
    assert table.has("w", Payload(blob=name))
    table.close()


@pytest.mark.parametrize("kind", ["unsealed", "half sealed", "empty", "disk", "pipe"])
def test_only_what_cannot_change(kind: str, tmp_path: Path) -> None:
    if kind == "disk":
        (tmp_path / "f").write_bytes(b"x")
        fd = os.open(tmp_path / "f", os.O_RDONLY)
    elif kind == "pipe":
        fd, other = os.pipe()
        os.close(other)
    elif kind == "empty":
        fd = memfd.of([])
    else:
        fd = memfd.create()
        os.write(fd, b"x")
        if kind == "half sealed":
            import fcntl

            fcntl.fcntl(fd, memfd.F_ADD_SEALS, memfd.SEAL_SHRINK | memfd.SEAL_GROW)
    with pytest.raises(Refusal, match="sealed memory file"):
        Parcels(10 * KB).put("w", new_name(), fd, "line")
    assert not is_open(fd)


@pytest.mark.parametrize("kind", ["file", "datagram", "unconnected", "network"])
def test_a_direct_calls_parcel_is_a_connected_stream(kind: str) -> None:
    unlike = {
        "datagram": (socket.AF_UNIX, socket.SOCK_DGRAM),
        "unconnected": (socket.AF_UNIX, socket.SOCK_STREAM),
        "network": (socket.AF_INET, socket.SOCK_STREAM),
    }
    fd = socket.socket(*unlike[kind]).detach() if kind in unlike else a_file()
    with pytest.raises(Refusal, match="stream socket"):
        Parcels(10 * KB).put("w", parcels.new_socket_name(), fd, "line")
    assert not is_open(fd)


def test_a_socket_is_no_memory_file() -> None:
    ours, theirs = socket.socketpair()
    with ours, pytest.raises(Refusal, match="sealed memory file"):
        Parcels(10 * KB).put("w", new_name(), theirs.detach(), "line")


def test_a_socket_is_taken_once_and_by_its_own_workspace() -> None:
    table, name = Parcels(10 * KB), parcels.new_socket_name()
    ours, theirs = socket.socketpair()
    table.put("w", name, theirs.detach(), "line")
    with pytest.raises(Refusal, match="no parcel"):
        table.take("v", name)
    os.close(table.take("w", name))
    with ours:
        assert ours.recv(1) == b"", "it was the last"
    with pytest.raises(Refusal, match="no parcel"):
        table.take("w", name)
    assert len(table) == 0


# ------------------------------------------------------------------------------------------------ the socket


@contextmanager
def listening(path: Path, table: Parcels, uids: frozenset[int]) -> Iterator[str]:
    lines = Lines(table, "default", uids)
    (path / "run").mkdir(mode=0o700)
    lines.listen(parcels.socket_path(str(path / "run" / "server.sock")))
    try:
        yield str(path / "run" / "server.sock")
    finally:
        lines.close()
        table.close()


def with_server(tmp_path: Path, work: Callable[[str], Any], table: Parcels, *, mine: bool = True) -> Any:
    """`work` in a thread beside a server, with the path of its socket."""

    async def scenario() -> Any:
        with listening(tmp_path, table, frozenset({os.geteuid()} if mine else ())) as path:
            return await asyncio.to_thread(work, path)

    return asyncio.run(scenario())


def test_there_and_back(tmp_path: Path) -> None:
    table = Parcels(1 << 20)
    data = os.urandom(100 * KB)

    def work(path: str) -> None:
        client, other = Client(path), Client(path)
        name = client.offer(MemoryFile(memfd.of([data]), len(data)))
        found = other.fetch(name)
        assert found is not None
        assert bytes(found) == data
        client.drop([name])
        assert client.fetch(name) is None, "nobody holds it any more"
        kept = client.offer(MemoryFile(memfd.of([data]), len(data)))
        client.again()
        assert other.fetch(kept) is not None, "the new connection holds it"
        client.close()
        other.close()

    with_server(tmp_path, work, table)


def test_who_goes_lets_go(tmp_path: Path) -> None:
    table = Parcels(1 << 20)

    def work(path: str) -> None:
        client, other = Client(path), Client(path)
        name = client.offer(MemoryFile(a_file(), KB))
        client.close()
        while other.fetch(name) is not None:
            """The server hears of it in a moment."""
        other.close()

    with_server(tmp_path, work, table)
    assert len(table) == 0


def test_too_much_is_no_parcel(tmp_path: Path) -> None:
    def work(path: str) -> None:
        client = Client(path)
        assert client.offer(MemoryFile(a_file(3 * KB), 3 * KB)) == ""
        assert client.offer(MemoryFile(a_file(KB), KB)) != ""
        client.close()

    with_server(tmp_path, work, Parcels(2 * KB))


def test_without_a_server_nothing_is_offered(tmp_path: Path) -> None:
    client = Client(str(tmp_path / "server.sock"))
    assert client.offer(MemoryFile(a_file(), KB)) == ""
    assert client.fetch(new_name()) is None
    assert Client("").offer(MemoryFile(a_file(), KB)) == ""


def test_others_cannot_come_in(tmp_path: Path) -> None:
    def work(path: str) -> None:
        assert Client(path).offer(MemoryFile(a_file(), KB)) == ""

    with_server(tmp_path, work, Parcels(1 << 20), mine=False)


def rights(*fds: int) -> list[tuple[int, int, array.array[int]]]:
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]


@pytest.mark.parametrize(
    ("packet", "files"),
    [
        (b"garbage", 0),
        (b"\x81" * 3000, 1),
        (codec.pack(Ask("get", 1, new_name())), 2),
        (codec.pack(Ask("put", 1, new_name())), 9),
        (codec.pack(Ask("get", 1, "pa-" + "x" * 8000)), 0),
    ],
    ids=["garbage", "nested", "files for a get", "too many files", "a long name"],
)
def test_who_talks_nonsense_is_cut_off(tmp_path: Path, packet: bytes, files: int) -> None:
    def work(path: str) -> None:
        before = len(os.listdir("/proc/self/fd"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
            peer.settimeout(20)
            peer.connect(parcels.socket_path(path))
            fds = [a_file() for _ in range(files)]
            peer.sendmsg([packet], rights(*fds) if fds else [])
            for fd in fds:
                os.close(fd)
            assert peer.recv(100) == b""
        client = Client(path)
        assert client.offer(MemoryFile(a_file(), KB)) != "", "others go on"
        client.close()
        assert len(os.listdir("/proc/self/fd")) <= before + 3

    with_server(tmp_path, work, Parcels(1 << 20))


@pytest.mark.parametrize(
    "ask",
    [
        Ask("put", 7, new_name()),
        Ask("get", 7, new_name()),
        Ask("get", 7, "../../etc/passwd"),
        Ask("burn", 7, new_name()),
    ],
)
def test_what_cannot_be_is_refused_in_words(tmp_path: Path, ask: Ask) -> None:
    def work(path: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
            peer.settimeout(20)
            peer.connect(parcels.socket_path(path))
            peer.send(codec.pack(ask))
            answer = codec.unpack(peer.recv(4096), Answer)
        assert answer.number == 7
        assert answer.code in ("invalid", "not_found")
        assert answer.message

    with_server(tmp_path, work, Parcels(1 << 20))

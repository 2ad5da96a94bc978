"""What a tenant's function tries in its container, and does not get: the whole system, by `.remote()`.

tests/runtime/test_escape.py tries more, one layer further down.
"""

from __future__ import annotations

import os
import platform
import socket
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import squall
from squall import exception
from squall.client.blocking import BlockingClient
from squall.client.connect import remote
from squall.client.core import Credentials
from squall.runtime.syscalls import TABLES
from squall.wire.control import WorkspaceCreate
from tests.e2e.apps import escapes
from tests.e2e.kit import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.kit import Daemon

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.timeout(300)]

NUMBERS = TABLES.get(platform.machine(), {})
UNREACHABLE = {"ECONNREFUSED", "ENETUNREACH", "EHOSTUNREACH", "ETIMEDOUT", "EACCES", "EPERM"}


@pytest.fixture(scope="module", autouse=True)
def running(isolated: Daemon) -> Iterator[None]:
    with escapes.app.run():
        yield


@pytest.fixture(scope="module")
def neighbours(isolated: Daemon) -> Iterator[None]:
    """The other workspace, by its token over TCP."""
    made = isolated.client().request("workspace.create", WorkspaceCreate("neighbours"))
    client = BlockingClient(remote(f"ws://{isolated.record.listen}"), Credentials(made.token))
    client.open(30)
    with escapes.neighbour.run(client=client):
        yield
    client.close()


def inside(expression: str) -> Any:
    return escapes.run.remote(f"result = {expression}")


def attempt(expression: str) -> str:
    """The name of the error that it meets in a container, or the repr of what it gives."""
    return str(inside(f"attempt(lambda: {expression})"))


def next_door(expression: str) -> Any:
    """In a container of the other workspace."""
    return escapes.run_next_door.remote(f"result = {expression}")


def _client_next_door() -> Any:
    assert escapes.neighbour.running is not None
    return escapes.neighbour.running.access.client


@contextmanager
def greeting(address: str) -> Iterator[int]:
    """A server of the host's that greets who comes; its port."""
    with socket.create_server((address, 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"hello")

        threading.Thread(target=serve, daemon=True).start()
        port = server.getsockname()[1]
        with socket.create_connection((address if address != "0.0.0.0" else "127.0.0.1", port)) as own:
            assert own.recv(10) == b"hello"
        yield port
        server.shutdown(socket.SHUT_RDWR)


def host_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("198.51.100.1", 9))
        return str(probe.getsockname()[0])


# -------------------------------------------------------------------------------------------------- the host


def test_the_hosts_files(isolated: Daemon, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o644)
    for path in (str(secret), os.path.expanduser("~/.cache"), isolated.state, "/boot/grub"):
        assert attempt(f"os.stat({path!r})") == "ENOENT"
    assert attempt("os.stat('/' + '../' * 40 + 'proc/1/root/../etc')") in {"EACCES", "EPERM"}
    assert attempt("os.listdir('/proc/1/cwd')") in {"EACCES", "EPERM"}


def test_the_hosts_processes() -> None:
    assert attempt(f"os.kill({os.getpid()}, 0)") == "ESRCH"
    seen = inside("[open(f'/proc/{p}/cmdline').read() for p in os.listdir('/proc') if p.isdigit()]")
    assert 1 <= len(seen) <= 3
    assert not [line for line in seen if "pytest" in line or "squall.server" in line]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("mount", "b'none', b'/mnt', b'tmpfs', 0, None"),
        ("umount2", "b'/proc', 2"),
        ("unshare", "0x10000000"),
        ("unshare", "0x00020000"),
        ("setns", "os.open('/proc/self/ns/net', 0), 0"),
        ("pivot_root", "b'/tmp', b'/tmp'"),
        ("ptrace", "16, 1, 0, 0"),
        ("bpf", "0, None, 0"),
        ("open_by_handle_at", "-100, None, 0"),
    ],
)
def test_powers_over_the_kernel(name: str, arguments: str) -> None:
    assert attempt(f"call({NUMBERS[name]}, {arguments})") == "EPERM"


def test_tracing_another_process() -> None:
    assert attempt("trace_child()") == "EPERM"
    assert attempt("open('/proc/1/mem', 'rb')") in {"EACCES", "EPERM"}
    assert attempt("os.readlink('/proc/1/root')") in {"EACCES", "EPERM"}


@pytest.mark.parametrize(
    "path",
    [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sysrq-trigger",
        "/sys/power/state",
    ],
)
def test_the_kernels_settings(path: str) -> None:
    got = attempt(f"os.write(os.open({path!r}, os.O_WRONLY), b'1')")
    assert got in {"EROFS", "EACCES", "ENOENT", "EPERM"}


def test_devices_and_raw_sockets() -> None:
    assert attempt("os.mknod('/tmp/disk', 0o60666, os.makedev(8, 0))") == "EPERM"
    assert attempt("open('/dev/mem', 'rb')") == "ENOENT"
    for family, kind in (("AF_INET", "SOCK_RAW"), ("AF_PACKET", "SOCK_RAW"), ("AF_VSOCK", "SOCK_STREAM")):
        got = attempt(f"socket.socket(socket.{family}, socket.{kind}, 1 if '{family}' == 'AF_INET' else 0)")
        assert got in {"EPERM", "EAFNOSUPPORT", "EACCES"}, family


@pytest.mark.parametrize("bound", ["127.0.0.1", "0.0.0.0"])
def test_the_hosts_servers(bound: str) -> None:
    with greeting(bound) as port:
        for address in ("'127.0.0.1'", repr(host_address()), "gateway()"):
            assert inside(f"reach({address}, {port})") in UNREACHABLE, address


def test_squall_itself(isolated: Daemon) -> None:
    host, _, port = isolated.record.listen.rpartition(":")
    assert inside(f"reach({host!r}, {port})") in UNREACHABLE
    assert inside(f"reach(gateway(), {port})") in UNREACHABLE
    for path in (
        isolated.record.socket,
        f"{isolated.state}/launcher.sock",
        f"{isolated.state}/server/db.sqlite",
    ):
        assert os.path.exists(path)
        assert attempt(f"os.stat({path!r})") == "ENOENT"
    assert inside("os.listdir('/run/squall')") == ["agent.sock"]
    assert attempt("open('/opt/squall/squall/__init__.py', 'a')") in {"EROFS", "EACCES"}
    assert not [name for name in inside("dict(os.environ)") if "TOKEN" in name]


# ------------------------------------------------------------------------------------------ other containers


def test_another_container() -> None:
    address, port = escapes.listen.remote()
    assert inside("own_address()") != address
    assert inside(f"reach({address!r}, {port})") in UNREACHABLE
    mark = inside("open('/tmp/mark', 'w').write('x') and open('/dev/shm/mark', 'w').write('x')")
    assert mark == 1
    assert inside("os.path.exists('/tmp/mark')") is True
    assert escapes.sees.remote("/tmp/mark") is escapes.sees.remote("/dev/shm/mark") is False


def test_another_workspace(neighbours: None, isolated: Daemon) -> None:
    assert next_door("os.listdir('/squall/source')")
    here, there = inside("open('/proc/self/uid_map').read()"), next_door("open('/proc/self/uid_map').read()")
    first, second = int(here.split()[1]), int(there.split()[1])
    assert abs(first - second) >= 65_536, "host users of their own"
    assert min(first, second) >= 100_000
    address, port = escapes.listen.remote()
    assert next_door(f"reach({address!r}, {port})") in UNREACHABLE
    trees = [str(p) for p in Path(isolated.state, "node", "sources").glob("*/*")]
    assert len({Path(tree).parent for tree in trees}) >= 2
    for path in trees:
        assert next_door(f"attempt(lambda: os.listdir({path!r}))") == "ENOENT"
        assert os.stat(path).st_mode & 0o002 == 0


def test_what_another_workspace_has_on_the_server(neighbours: None) -> None:
    function, call = escapes.app.function_ids["same"], escapes.same.spawn(5)
    assert call.get() == 5
    by_id = f"attempt(lambda: squall.Function.from_id({function!r}).remote(1))"
    assert next_door(by_id).startswith("NotFoundError: ")
    result = f"attempt(lambda: squall.FunctionCall.from_id({call.object_id!r}).get(timeout=20))"
    assert next_door(result).startswith("NotFoundError: ")
    assert inside(by_id) == "1"
    assert inside(result) == "5"
    client = _client_next_door()
    with pytest.raises(exception.NotFoundError):
        squall.Function.from_id(function, client=client).remote(1)
    with pytest.raises(exception.NotFoundError):
        squall.FunctionCall.from_id(call.object_id, client).get(timeout=20)


# ------------------------------------------------------------------------------------------------- resources


@pytest.mark.parametrize("kind", ["fork", "spawn"])
def test_a_fork_bomb_is_contained(isolated: Daemon, kind: str) -> None:
    before = isolated.child("node"), isolated.child("server"), isolated.child("launcher")
    try:
        made = escapes.bomb.remote(kind)
    except exception.RemoteError as error:
        assert any(told in str(error) for told in ("ran out of memory", "limit of processes"))  # noqa: PT017
    else:
        assert made <= 4096
    assert escapes.same.remote(3) == 3
    assert (isolated.child("node"), isolated.child("server"), isolated.child("launcher")) == before
    until(lambda: _sleepers() == 0, "its processes are gone", 120)


def _sleepers() -> int:
    """Processes `sleep 600` of an unprivileged user of a workspace."""
    return sum(map(_is_sleeper, Path("/proc").glob("[0-9]*/cmdline")))


def _is_sleeper(path: Path) -> bool:
    try:
        return path.read_bytes() == b"/bin/sleep\x00600\x00" and path.stat().st_uid >= 100_000
    except OSError:
        return False


# --------------------------------------------------------------------------------------- a runner turned bad

PRELUDE = (
    "from squall.runner import protocol\nfrom squall.runner.protocol import memfd\nn = running_number()\n"
)
HOSTILE = {
    "garbage": "send_frames(os.urandom(100_000))",
    "a million frames": (
        "frame = protocol.encode(protocol.YIELD, n, {'n': 0}, b'x') * 1000\nsend_frames(*[frame] * 1000)"
    ),
    "an answer for another": "send_frames(protocol.encode(protocol.OUTPUT, n + 1, {}, b''))",
    "a second greeting": "send_frames(protocol.encode(protocol.HELLO, 0, {'held': []}))",
    "a memory file that may shrink": (
        "fd = memfd.create(); memfd.write(fd, bytes(1 << 20))\n"
        "head = protocol.encode(protocol.OUTPUT, n, {'fd': True, 'size': 1 << 20})\n"
        "send_frames(head, descriptors=(fd,))\nos.ftruncate(fd, 0)"
    ),
    "a memory file that is too small": (
        "head = protocol.encode(protocol.OUTPUT, n, {'fd': True, 'size': 1 << 30})\n"
        "send_frames(head, descriptors=(memfd.of([bytes(1 << 20)]),))"
    ),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_a_function_that_speaks_to_the_agent_itself(isolated: Daemon, how: str) -> None:
    agent = isolated.child("node")
    slow = escapes.run.spawn("time.sleep(0.5); result = 'undisturbed'")
    with pytest.raises(exception.RemoteError, match="sent its agent what it may not"):
        escapes.hostile.remote(PRELUDE + HOSTILE[how])
    assert slow.get(timeout=60) == "undisturbed"
    assert escapes.same.remote(4) == 4
    assert isolated.child("node") == agent


def test_a_sealed_memory_file_cannot_be_pulled_away(isolated: Daemon) -> None:
    agent = isolated.child("node")
    source = PRELUDE + (
        "import pickle\nfd = memfd.of([pickle.dumps(bytes(3 << 20))])\nsize = os.fstat(fd).st_size\n"
        "head = protocol.encode(protocol.OUTPUT, n, {'fd': True, 'size': size})\n"
        "send_frames(head, descriptors=(fd,))\nos.ftruncate(fd, 0)"
    )
    assert escapes.hostile.remote(source) == bytes(3 << 20)
    assert escapes.same.remote(5) == 5
    assert isolated.child("node") == agent

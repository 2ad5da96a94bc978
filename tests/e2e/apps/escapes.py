"""What a hostile tenant runs: code as text, in a container. Only the standard library and Squall.

`attempt` gives what an expression gives, or the name of the error that it meets.
"""

from __future__ import annotations

import array
import ctypes
import errno
import os
import signal
import socket
import struct
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import squall

if TYPE_CHECKING:
    from collections.abc import Callable

app = squall.App("e2e-escapes")
#: For another workspace.
neighbour = squall.App("e2e-neighbour")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def call(number: int, *arguments: Any) -> str:
    """A raw system call."""
    given = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    if _libc.syscall(ctypes.c_long(number), *given) < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return "done"


def attempt(action: Callable[[], object]) -> str:
    try:
        return repr(action())
    except TimeoutError:
        return "ETIMEDOUT"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, repr(error))
    except squall.Error as error:
        return f"{type(error).__name__}: {error}"


def reach(host: str, port: int) -> str:
    return attempt(lambda: socket.create_connection((host, port), 2).recv(10))


def trace_child() -> str:
    """Attach to a process of one's own."""
    child = os.fork()
    if child == 0:
        time.sleep(30)
        os._exit(0)
    try:
        return call(101 if os.uname().machine == "x86_64" else 117, 16, child, 0, 0)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def own_address() -> str:
    """Of this container in its network. (Connecting a datagram socket sends nothing.)"""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("198.51.100.1", 9))
        return str(probe.getsockname()[0])


def gateway() -> str:
    with open("/proc/net/route", encoding="ascii") as routes:
        fields = next(line.split() for line in routes if line.split()[1] == "00000000")
    return socket.inet_ntoa(struct.pack("<I", int(fields[2], 16)))


def runners_socket() -> socket.socket:
    """The runner's connection to its agent, found among this process's descriptors."""
    for name in os.listdir("/proc/self/fd"):
        try:
            found = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        try:
            if found.family == socket.AF_UNIX and str(found.getpeername()).endswith("agent.sock"):
                return found
        except OSError:
            pass
        found.close()
    raise LookupError("no socket")


def running_number() -> int:
    """What the runner and its agent call this input, read out of the runner's own frames."""
    frame = sys._getframe()
    while "held" not in frame.f_locals:
        assert frame.f_back is not None
        frame = frame.f_back
    number: int = frame.f_locals["held"].number
    return number


def send_frames(*frames: bytes, descriptors: tuple[int, ...] = ()) -> None:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    with runners_socket() as agent:
        agent.sendmsg([frames[0]], rights)
        for frame in frames[1:]:
            agent.sendall(frame)


@app.function(scaledown_window=60)
def run(source: str) -> Any:
    """What `source` leaves in `result`."""
    space: dict[str, Any] = {**globals()}
    exec(source, space)
    return space["result"]


@neighbour.function(scaledown_window=60)
def run_next_door(source: str) -> Any:
    return run.local(source)


@app.function(scaledown_window=60)
def listen() -> tuple[str, int]:
    """Serve on this container's own address for as long as it lives."""
    server = socket.create_server(("0.0.0.0", 0))

    def serve() -> None:
        while True:
            connection, _ = server.accept()
            connection.sendall(b"hello")
            connection.close()

    threading.Thread(target=serve, daemon=True).start()
    port = server.getsockname()[1]
    assert reach(own_address(), port) == "b'hello'", "it can be reached from inside"
    return own_address(), port


@app.function(memory=(64, 256), cpu=(0.1, 1.0), max_containers=1)
def bomb(kind: str) -> int:
    """As many processes as there may be; each holds a little memory, or next to none."""
    made = 0
    while True:
        try:
            if kind == "spawn":
                os.posix_spawn("/bin/sleep", ["/bin/sleep", "600"], {})
            elif os.fork() == 0:
                held = bytearray(os.urandom(1 << 10)) * 1024
                time.sleep(600 + len(held))
        except OSError:
            return made
        made += 1


@app.function(max_containers=1)
def hostile(source: str) -> Any:
    exec(source, {**globals()})
    time.sleep(60)
    return "nobody minded"


@app.function()
def same(x: int) -> int:
    return x


@app.function()
def sees(path: str) -> bool:
    return os.path.exists(path)

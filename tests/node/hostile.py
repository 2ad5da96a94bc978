"""A runner from hell: started instead of the real one, it does what HOSTILE says.

Run as `hostile.py <path of the real runner>`; speaks to $SQUALL_SOCKET.
"""

from __future__ import annotations

import array
import os
import pathlib
import socket
import sys
import time

sys.path.insert(0, str(pathlib.Path(sys.argv[1]).parents[1]))

from squall.runner import protocol
from squall.runner.protocol import memfd

peer = socket.socket(socket.AF_UNIX)
peer.connect(os.environ["SQUALL_SOCKET"])


def send(kind: int, number: int = 0, header: dict[str, object] | None = None, payload: bytes = b"") -> None:
    peer.sendall(protocol.encode(kind, number, header, payload))


def send_with(fds: list[int], data: bytes) -> None:
    peer.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])


def ready() -> None:
    send(protocol.HELLO, 0, {"held": []})
    peer.recv(65536)
    send(protocol.READY)


def input_number() -> int:
    frame = None
    frames = protocol.Unframer()
    while frame is None:
        frames.feed(peer.recv(65536))
        frame = frames.next()
    return frame.input


def output_with(fd: int, size: int) -> None:
    ready()
    number = input_number()
    send_with([fd], protocol.encode(protocol.OUTPUT, number, {"fd": True, "size": size}))


def garbage() -> None:
    peer.sendall(os.urandom(100_000))


def garbage_later() -> None:
    ready()
    peer.sendall(os.urandom(100_000))


def deep_header() -> None:
    ready()
    text = b'{"a":' + b"[" * 100_000
    peer.sendall(protocol._HEAD.pack(13 + len(text), protocol.OUTPUT, 1, len(text)) + text)


def huge_frame() -> None:
    ready()
    peer.sendall(b"\x7f\xff\xff\xff" + bytes(1000))


def unasked_output() -> None:
    ready()
    send(protocol.OUTPUT, 7)


def two_outputs() -> None:
    ready()
    number = input_number()
    send(protocol.OUTPUT, number, {}, b"x")
    send(protocol.OUTPUT, number, {}, b"x")


def begun_unasked() -> None:
    ready()
    send(protocol.BEGUN, 0, {"ins": [input_number()]})


def begun_nonsense() -> None:
    ready()
    input_number()
    send(protocol.BEGUN, 0, {"ins": ["1", True, None]})


def million_frames() -> None:
    ready()
    number = input_number()
    frame = protocol.encode(protocol.YIELD, number, {"n": 0}, b"x") * 1000
    for _ in range(1000):
        peer.sendall(frame)


def million_hellos() -> None:
    hello = protocol.encode(protocol.HELLO, 0, {"held": []}) * 1000
    for _ in range(1000):
        peer.sendall(hello)


def claims() -> None:
    send(protocol.HELLO, 0, {"held": [[1, "fc-of-somebody:0", 1]]})


def unsealed() -> None:
    fd = memfd.create()
    memfd.write(fd, bytes(1 << 20))
    output_with(fd, 1 << 20)


def not_a_memfd() -> None:
    fd = os.open(sys.executable, os.O_RDONLY)
    output_with(fd, os.fstat(fd).st_size)


def wrong_size() -> None:
    output_with(memfd.of([bytes(1 << 20)]), 1 << 30)


def empty_memfd() -> None:
    output_with(memfd.of([]), 0)


def no_descriptor() -> None:
    ready()
    send(protocol.OUTPUT, input_number(), {"fd": True, "size": 5})


def many_descriptors() -> None:
    ready()
    fd = os.open("/dev/null", os.O_RDONLY)
    for _ in range(100):
        send_with([fd] * 16, b"\0")


def too_many_at_once() -> None:
    ready()
    send_with([os.open("/dev/null", os.O_RDONLY)] * 200, b"\0")


def shrinking() -> None:
    """Seals it, as it must, and then tries to pull it away under the agent."""
    fd = memfd.of([bytes(3 << 20)])
    output_with(fd, 3 << 20)
    try:
        os.ftruncate(fd, 0)
    except PermissionError:
        print("shrinking refused", flush=True)
    time.sleep(60)


def silent() -> None:
    time.sleep(60)


def deaf() -> None:
    """Never reads again, whatever is sent."""
    ready()
    time.sleep(60)


globals()[os.environ["HOSTILE"]]()
time.sleep(60)

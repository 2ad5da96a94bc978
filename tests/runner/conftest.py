"""A real runner in a process of its own, and a blocking agent that talks to it."""

from __future__ import annotations

import array
import os
import pickle
import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from squall.runner import protocol
from squall.runner.protocol import memfd, spool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SRC = Path(__file__).resolve().parents[2] / "src"
RUNNER = SRC / "squall" / "runner"
TIMEOUT = 20.0


class Agent:
    """The agent's side of one container, one step at a time."""

    def __init__(self, folder: Path, python: str = sys.executable) -> None:
        self.folder = folder
        self.path = str(folder / "agent.sock")
        self.python = python
        self.source = folder / "source"
        self.source.mkdir()
        self.process: subprocess.Popen[bytes] | None = None
        self.connection: socket.socket | None = None
        self.alarm: socket.socket | None = None
        self.number = 0
        self.descriptors: list[int] = []
        self.listen()

    def listen(self) -> None:
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        self.listener.settimeout(TIMEOUT)

    def start(self, **environment: str) -> protocol.Frame:
        """Start the runner; its HELLO."""
        self.process = subprocess.Popen(
            [self.python, str(RUNNER)],
            env={**os.environ, "SQUALL_SOCKET": self.path, "SQUALL_IMAGE_ID": "im-test", **environment},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        return self.accept()

    def accept(self) -> protocol.Frame:
        self.connection, _ = self.listener.accept()
        self.connection.settimeout(TIMEOUT)
        self.frames = protocol.Unframer()
        hello = self.receive()
        assert hello.kind == protocol.HELLO
        return hello

    def configure(
        self, qualname: str, module: str = "work", payload: bytes = b"", **more: Any
    ) -> protocol.Frame:
        """CONFIG, and the answer."""
        self.order(qualname, module, payload, **more)
        return self.receive()

    def order(self, qualname: str, module: str = "work", payload: bytes = b"", **more: Any) -> None:
        """CONFIG."""
        if self.alarm is not None:
            self.alarm.close()
        self.alarm, end = socket.socketpair()
        header = {
            "module": module,
            "qualname": qualname,
            "serialized": False,
            "paths": [str(self.source)],
            "generator": False,
            "name": qualname,
            "cancellation": "squall.exception:InputCancellation",
            "limit": 8 << 20,
            "alarm": True,
            **more,
        }
        with end:
            self.send_with([end.fileno()], protocol.encode(protocol.CONFIG, 0, header, payload))

    def load(self, code: str, qualname: str, **more: Any) -> None:
        """Start a runner with this function of this code, up to READY."""
        (self.source / "work.py").write_text(code)
        self.start()
        answer = self.configure(qualname, **more)
        assert answer.kind == protocol.READY, answer

    def send_with(self, descriptors: list[int], data: bytes) -> None:
        assert self.connection is not None
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
        sent = self.connection.sendmsg([data], [rights])
        if sent < len(data):  # even of nothing, a runner that has ended already would be a broken pipe
            self.connection.sendall(data[sent:])

    def send(self, *frames: bytes) -> None:
        assert self.connection is not None
        self.connection.sendall(b"".join(frames))

    def input(self, *args: Any, header: dict[str, Any] | None = None, **kwargs: Any) -> int:
        """Send an input; its number."""
        self.number += 1
        described = {"in": f"fc-1:{self.number}", "a": 1, "call": "fc-1", **(header or {})}
        self.send(protocol.encode(protocol.INPUT, self.number, described, pickle.dumps((args, kwargs))))
        return self.number

    def cancel(self, number: int) -> None:
        assert self.alarm is not None
        self.alarm.sendall(protocol.ALARM.pack(number))

    def interrupt(self, number: int) -> protocol.Frame:
        """Cancel as the agent does, which repeats its alarm until there is an answer; the answer."""
        assert self.connection is not None
        deadline = time.monotonic() + TIMEOUT
        self.cancel(number)
        while not select.select([self.connection], [], [], 0.1)[0] and time.monotonic() < deadline:
            self.cancel(number)
        return self.receive()

    def receive(self) -> protocol.Frame:
        assert self.connection is not None
        while (frame := self.frames.next()) is None:
            data, descriptors, _, _ = socket.recv_fds(self.connection, 1 << 16, 4)
            self.descriptors += descriptors
            assert data, self.errors()
            self.frames.feed(data)
        return frame

    def result(self) -> Any:
        """The next output's value."""
        frame = self.receive()
        assert (frame.kind, frame.header.get("s", "ok")) == (protocol.OUTPUT, "ok"), frame
        return spool.load(self.payload(frame))

    def call(self, *args: Any, **kwargs: Any) -> Any:
        self.input(*args, **kwargs)
        return self.result()

    def payload(self, frame: protocol.Frame) -> bytes:
        if not frame.header.get("fd"):
            return frame.payload
        fd = self.descriptors.pop(0)
        try:
            assert memfd.frozen_size(fd) == frame.header["size"]
            return os.pread(fd, frame.header["size"], 0)
        finally:
            os.close(fd)

    def stop(self) -> tuple[int, bytes, bytes]:
        """STOP; exit code and what the process printed."""
        self.send(protocol.encode(protocol.STOP))
        return self.end()

    def end(self) -> tuple[int, bytes, bytes]:
        assert self.process is not None
        stdout, stderr = self.process.communicate(timeout=TIMEOUT)
        return self.process.returncode, stdout, stderr

    def errors(self) -> str:
        assert self.process is not None
        self.process.kill()
        return self.process.communicate(timeout=TIMEOUT)[1].decode()

    def close(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            self.process.communicate(timeout=TIMEOUT)
        for end in (self.connection, self.alarm, self.listener):
            if end is not None:
                end.close()
        for fd in self.descriptors:
            os.close(fd)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    agent = Agent(tmp_path)
    yield agent
    agent.close()


@pytest.fixture
def make_agent(tmp_path: Path) -> Iterator[Callable[[str], Agent]]:
    """Agents for other interpreters."""
    agents: list[Agent] = []

    def make(python: str) -> Agent:
        folder = tmp_path / str(len(agents))
        folder.mkdir()
        agents.append(Agent(folder, python))
        return agents[-1]

    yield make
    for agent in agents:
        agent.close()

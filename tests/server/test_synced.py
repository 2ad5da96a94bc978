"""What the server has acknowledged was synced to disk before: seen in its system calls, by strace."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from squall.client.blocking import BlockingClient
from squall.client.core import Credentials
from squall.client.transport import Endpoint
from squall.wire import control
from squall.wire.values import InputItem, Payload
from tests.server.fakes import IMAGE, RECIPE, spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.timeout(120)

#: Found in the arguments of a call, in the database's log, and in nothing else.
MARK = b"to-be-kept-0f2a77"
CALLS = "read,recvfrom,recvmsg,write,writev,sendto,sendmsg,pwrite64,fsync,fdatasync"


class SystemCall(NamedTuple):
    """One that has returned; `begun` and `ended` are lines of the log."""

    begun: int
    ended: int
    name: str
    text: str


def can_trace() -> bool:
    strace = shutil.which("strace")
    if strace is None:
        return False
    return (
        subprocess.run([strace, "-o", os.devnull, "true"], check=False, capture_output=True).returncode == 0
    )


@pytest.fixture
def traced(tmp_path: Path) -> Iterator[tuple[BlockingClient, Callable[[], list[SystemCall]]]]:
    """A client of a server under strace; what the server did is asked for after its end."""
    if not can_trace():
        pytest.skip("needs strace, and the right to trace a child")
    log, socket = tmp_path / "strace.log", str(tmp_path / "server.sock")
    strace = ["strace", "-f", "-y", "-s", "16384", "-e", f"trace={CALLS}", "-o", str(log)]
    server = [sys.executable, "-m", "squall.server", "--state", str(tmp_path / "state"), "--socket", socket]
    process = subprocess.Popen([*strace, *server], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert any("listening on" in line for line in process.stderr)
        client = BlockingClient(Endpoint(socket, "", path=socket), Credentials())
        client.open(30)

        def end() -> list[SystemCall]:
            client.close()
            os.kill(child(process.pid), signal.SIGTERM)
            process.communicate(timeout=60)
            return list(parsed(log.read_text(errors="replace").splitlines()))

        yield client, end
    finally:
        if process.poll() is None:
            os.kill(child(process.pid), signal.SIGKILL)  # not strace: what it traces would live on, untraced
        process.communicate()


def child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def parsed(lines: list[str]) -> Iterator[SystemCall]:
    """Calls of several threads are cut in two where another one's comes in between."""
    open_calls: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(lines):
        thread, _, rest = line.partition(" ")
        if rest.endswith("<unfinished ...>"):
            open_calls[thread] = number, rest.removesuffix("<unfinished ...>")
            continue
        begun, head = number, ""
        if resumed := re.match(r"\s*<\.\.\. \w+ resumed>", rest):
            begun, head = open_calls.pop(thread)
            rest = rest[resumed.end() :]
        text = (head + rest).strip()
        name = text.partition("(")[0]
        if name.isidentifier():
            yield SystemCall(begun, number, name, text)


def check(calls: list[SystemCall], acknowledgement: str) -> None:
    """It came in, was written to the log, the log was synced, and then the acknowledgement began to leave."""
    mark = MARK.decode()
    came = next(c for c in calls if mark in c.text and c.name in {"read", "recvfrom", "recvmsg"})
    wrote = [c for c in calls if mark in c.text and c.name == "pwrite64" and "db.sqlite-wal" in c.text]
    sends = [c for c in calls if c.name in {"write", "writev", "sendto", "sendmsg"} and c.begun > came.begun]
    left = next(c for c in sends if acknowledgement in c.text)
    assert wrote, "it is not in the database's log"
    assert came.ended < wrote[0].begun
    synced = [
        c for c in calls
        if c.name in {"fsync", "fdatasync"} and "db.sqlite-wal" in c.text and c.text.endswith("= 0")
    ]  # fmt: skip
    assert any(wrote[-1].ended < c.begun and c.ended < left.begun for c in synced), "acknowledged unsynced"


def publish(client: BlockingClient, **fields: Any) -> control.AppPublished:
    name = "demo"
    target = name if fields.get("deploy") else client.request("app.create", control.AppCreate(name)).id
    published = client.request(
        "app.publish", control.AppPublish(target, [spec("f")], {IMAGE: RECIPE}, **fields)
    )
    assert isinstance(published, control.AppPublished)
    return published


def test_a_spawned_call(traced: tuple[BlockingClient, Callable[[], list[SystemCall]]]) -> None:
    client, end = traced
    function = publish(client).functions["f"]
    call = client.open_call(function, "unary", durable=True)
    call.send([InputItem(0, Payload(MARK, size=len(MARK)))], last=True)
    call.accepted(1, 30)
    check(end(), call.id)


def test_a_deployment(traced: tuple[BlockingClient, Callable[[], list[SystemCall]]]) -> None:
    client, end = traced
    published = publish(client, deploy=True, tag=MARK.decode())
    check(end(), published.functions["f"])

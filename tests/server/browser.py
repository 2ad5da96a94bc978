"""A headless Chromium, driven over a pipe by the DevTools protocol: JSON objects, a zero byte behind each."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

FLAGS = (
    "--headless",
    "--no-sandbox",  # it cannot make one as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    # Chromium's own protection of the local network: the server must not need it.
    "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests",
    "--remote-debugging-pipe",
)
#: The browser has its pipe at descriptors 3 and 4; run as `python -c _START READ WRITE PROGRAM ...`.
_START = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3]]
for number, fd in enumerate(ends, 3):
    os.dup2(fd, number)
    os.close(fd)
os.execv(sys.argv[3], sys.argv[3:])
"""
#: Longer than anything here takes, in seconds.
PATIENCE = 60.0


class Browser:
    """One at a time asks, and reads until the answer is there; events are not looked at."""

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write = read, write
        self._number = 0
        self._data = b""

    def evaluate(self, url: str, expression: str) -> Any:
        """What the promise of this expression gives on a new page at `url`."""
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._ask("Page.enable", session)
        moved = self._ask("Page.navigate", session, url=url)
        assert "errorText" not in moved, moved
        self._until(lambda m: m.get("method") == "Page.loadEventFired" and m.get("sessionId") == session)
        answer = self._ask(
            "Runtime.evaluate", session, expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        self._ask("Target.closeTarget", targetId=target)
        return answer["result"].get("value")

    def _ask(self, method: str, session: str = "", **params: Any) -> dict[str, Any]:
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        answer = self._until(lambda m: m.get("id") == number)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def _until(self, wanted: Any) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while True:
            while (end := self._data.find(b"\0")) >= 0:
                message, self._data = json.loads(self._data[:end]), self._data[end + 1 :]
                if wanted(message):
                    return dict(message)
            assert select.select([self._read], [], [], deadline - time.monotonic())[0], "Chromium is silent"
            data = os.read(self._read, 1 << 16)
            assert data, "Chromium has ended"
            self._data += data


@contextmanager
def browser(profile: Path, *flags: str) -> Iterator[Browser]:
    """With an empty profile in this new folder; gone, with all its processes, at the end."""
    # Killed, it leaves its lock there; a short path, for that is a socket.
    with tempfile.TemporaryDirectory(prefix="browser-") as scratch:
        yield from _browse(profile, scratch, flags)


def _browse(profile: Path, scratch: str, flags: tuple[str, ...]) -> Iterator[Browser]:
    assert CHROMIUM is not None
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    command = [CHROMIUM, *FLAGS, *flags, f"--user-data-dir={profile}"]
    process = subprocess.Popen(
        [sys.executable, "-c", _START, str(theirs_in), str(theirs_out), *command],
        pass_fds=(theirs_in, theirs_out),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(profile), "TMPDIR": scratch},
        start_new_session=True,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Browser(ours_in, ours_out)
    finally:
        os.close(ours_in)
        os.close(ours_out)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)

"""A second node of the same server: work is spread over both, and goes on when one is lost in a moment.

Both are on this host, with state directories of their own; to each other they are as strange as two machines.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from squall.wire.control import TokenNew
from tests.e2e.apps import places
from tests.e2e.kit import PATIENCE_S, lend_base, until
from tests.house import leaks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.kit import Daemon

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


class SecondNode:
    """`squall node`, which is a supervisor with a launcher and an agent."""

    def __init__(self, daemon: Daemon, state: Path, token: str) -> None:
        self.state = state
        self._daemon = daemon
        variables = {"SQUALL_STATE": str(state), "SQUALL_TOKEN": token}
        variables["SQUALL_SERVER_URL"] = f"http://{daemon.record.listen}"
        self._environ = {**daemon.environ(), **variables}
        self._log = (state.parent / "node.log").open("ab")

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "squall", "node"],
            env=self._environ, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
            start_new_session=True,
        )  # fmt: skip
        until(lambda: len(self.connected()) == 2, "a second node that is connected")

    def connected(self) -> list[str]:
        return [node.id for node in self._daemon.status().nodes if node.state == "connected"]

    def kill(self) -> None:
        """All of it at once, as if somebody had pulled the plug."""
        while found := [pid for pid in _pids() if self._owns(pid)]:
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if self.process.poll() is None:
                self.process.wait(PATIENCE_S)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(PATIENCE_S)
        self._log.close()

    def _owns(self, pid: int) -> bool:
        with suppress(OSError):
            folder = Path(f"/proc/{pid}")
            words = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            return os.fsencode(self.state) in words and (folder / "stat").read_text().split()[2] != "Z"
        return False


def _pids() -> list[int]:
    return [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]


@contextmanager
def second_node(daemon: Daemon, folder: Path) -> Iterator[SecondNode]:
    """After the block nothing of it is left."""
    before = leaks.snapshot()
    state = folder / "second"
    lend_base(state)
    token = daemon.client().request("token.new", TokenNew(role="node")).token
    node = SecondNode(daemon, state, token)
    try:
        node.start()
        yield node
    finally:
        node.stop()
    found = leaks.wait_for_leaks(before, (str(state),))
    shutil.rmtree(state)
    assert found == [], "the second node left something on the host"


def test_two_nodes_share_the_work_and_one_may_be_lost(
    isolated: Daemon, impatient: Daemon, tmp_path: Path
) -> None:
    cores = os.cpu_count() or 1
    count = 12 * cores
    with second_node(impatient, tmp_path) as node, places.app.run():
        other = next(n.id for n in impatient.status().nodes if n.id not in _here(impatient))

        with ThreadPoolExecutor() as pool:
            results = pool.submit(lambda: list(places.where.map(range(count), [0.5] * count)))
            until(lambda: _ready(impatient, other), "containers on the second node", PATIENCE_S * 2)
            node.kill()
            assert [number for number, _ in results.result(PATIENCE_S * 3)] == list(range(count))
        assert other not in node.connected()

        node.start()  # with what its last life left lying about
        until(lambda: other in node.connected(), "the node that is back")


def _here(daemon: Daemon) -> str:
    return (Path(daemon.state) / "node" / "node-id").read_text()


def _ready(daemon: Daemon, node: str) -> bool:
    return any(c.node == node and c.state == "ready" and c.running for c in daemon.containers("where"))

"""A real server and real nodes, one of them behind a bad network."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from squall.client.blocking import BlockingClient
from squall.client.core import Credentials
from squall.client.transport import Endpoint
from squall.sdk import modes
from squall.wire.control import Empty, TokenNew
from tests.e2e.kit import until
from tests.house.slowness import SLOWNESS
from tests.network.app import app
from tests.network.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from squall.client.api import Client

#: Seconds.
LEASE = 3.0 * SLOWNESS
HEARTBEAT = 0.2


class Fleet:
    """Processes are ended in `close`. The node "far" is behind the relay, "near" is not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "server.sock"
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._run(
            "server", "squall.server", "--state", str(folder / "server"), "--socket", str(self.socket),
            "--listen", self.address, "--lease", str(LEASE), "--heartbeat", str(HEARTBEAT),
        )  # fmt: skip
        until(self.socket.exists, "the server listens")
        self.relay = Relay(folder / "relay.sock", self.socket)
        self.admin = BlockingClient(Endpoint(str(self.socket), "", path=str(self.socket)), Credentials())
        until(self._opens, "the server answers")
        self.token = self.admin.request("token.new", TokenNew()).token

    def start(self, name: str) -> None:
        server = self.relay.path if name == "far" else self.socket
        self._run(
            name, "squall.node", "--state", str(self.folder / name), "--server", f"unix:{server}",
            "--driver", "process", "--node-id", f"no-{name}",
        )  # fmt: skip
        until(lambda: f"no-{name}" in self.nodes(), f"node {name} is here")

    def end(self, name: str) -> None:
        process = self._processes.pop(name)
        process.send_signal(signal.SIGTERM)
        process.wait(60 * SLOWNESS)

    def nodes(self) -> set[str]:
        return {node.id for node in self.admin.request("status", Empty()).nodes}

    def close(self) -> None:
        self.relay.heal()
        for name in [*self._processes][::-1]:
            self.end(name)
        self.admin.close()
        self.relay.close()

    def _opens(self) -> bool:
        try:
            self.admin.open(10)
        except Exception:
            return False
        return True

    def _run(self, name: str, module: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            command = [sys.executable, "-m", module, *arguments]
            environ = {k: v for k, v in os.environ.items() if not k.startswith("SQUALL_")}
            self._processes[name] = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environ
            )


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    """With the node "far"; the SDK uses its server, and the app runs."""
    if sys.platform != "linux":
        pytest.skip("nodes need Linux")
    for name in [name for name in os.environ if name.startswith("SQUALL_")]:
        monkeypatch.delenv(name)
    clients: dict[str, Client] = {}
    monkeypatch.setattr(modes, "_clients", clients)
    made = Fleet(tmp_path)
    try:
        monkeypatch.setenv("SQUALL_SERVER_URL", f"ws://{made.address}")
        monkeypatch.setenv("SQUALL_TOKEN", made.token)
        made.start("far")
        with app.run():
            yield made
    finally:
        used: Any
        for used in clients.values():
            used.close()
        made.close()

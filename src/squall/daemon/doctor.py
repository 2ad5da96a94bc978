"""What `squall doctor` says of this machine: its server, and what it offers as a node."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from squall import config
from squall.checkup import Check
from squall.client import daemon_record
from squall.client.blocking import BlockingClient
from squall.client.connect import way
from squall.exception import Error

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Seconds that a server may take to answer; and all questions to this machine together.
SERVER_S, MACHINE_S = 2.0, 120.0


def examine(state: str) -> Iterator[Check]:
    """Each as it is found out. A machine whose server is elsewhere need not be a node."""
    if config.load().server_url:
        yield from _server(config.load().server_url)
        return
    yield from _machine(state)
    yield _daemon(state)


def _server(url: str) -> Iterator[Check]:
    client = BlockingClient(*way(start=False))
    try:
        client.open(SERVER_S)
        yield Check("Server", "ok", f"{url}: workspace {client.workspace}, environment {client.environment}")
    except Error as error:
        yield Check("Server", "failed", f"{url}: {error}", "check SQUALL_SERVER_URL and SQUALL_TOKEN")
    finally:
        client.close()


def _machine(state: str) -> Iterator[Check]:
    if sys.platform != "linux":
        yield Check(
            "Node", "failed", f"containers need Linux, and this is {sys.platform}", "set SQUALL_SERVER_URL"
        )
        return
    command = [sys.executable, "-m", "squall.node.doctor", "--state", state]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=MACHINE_S, check=False
        )
        yield from (Check(**entry) for entry in json.loads(done.stdout))
    except subprocess.TimeoutExpired:
        yield Check(
            "Node",
            "failed",
            f"the examination took longer than {MACHINE_S:g} s",
            "see what hangs on this host",
        )
    except ValueError:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        remedy = (
            "pip install 'squall[server]'" if "ModuleNotFoundError" in lines[-1] else "report this as a bug"
        )
        yield Check("Node", "failed", f"the parts of a node do not work: {lines[-1]}", remedy)


def _daemon(state: str) -> Check:
    running = daemon_record.read(state)
    if running is None:
        return Check("Daemon", "ok", "it does not run; the first `squall run` starts it")
    losses = "".join(f" {loss}" for loss in running.losses)
    found = f"{running.version}, driver {running.driver}, process {running.process.pid}.{losses}"
    return Check("Daemon", "lost" if running.losses else "ok", found)

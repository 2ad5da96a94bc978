"""One daemon for most of these tests, with the best driver that the host allows."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.kit import IMPATIENT, Daemon

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    if sys.platform != "linux":
        pytest.skip("the daemon needs Linux")
    with Daemon(tmp_path_factory.mktemp("e2e"), arguments=_listening()).life() as daemon:
        yield daemon


@pytest.fixture
def impatient(daemon: Daemon, tmp_path: Path) -> Iterator[Daemon]:
    """One of its own, with short leases. (The common one is there first: it has the base system made.)"""
    del daemon
    own = Daemon(tmp_path / "impatient", arguments=_listening(), settings=IMPATIENT)
    with own.life() as daemon, daemon.environment():
        yield daemon


def _listening() -> tuple[str, ...]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    return "--idle-exit", "900", "--listen", address


@pytest.fixture(scope="module")
def here(daemon: Daemon) -> Iterator[Daemon]:
    """The SDK of the test's own process uses that daemon."""
    with daemon.environment():
        yield daemon


@pytest.fixture(scope="session")
def isolation_is_possible() -> bool:
    """Whether this host lets root make namespaces and control groups: found out without our own code."""
    if os.geteuid() != 0 or not shutil.which("nft"):
        return False
    command = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--net", "--fork", "--mount-proc"]
    made = subprocess.run([*command, "true"], check=False, capture_output=True)
    groups = Path("/sys/fs/cgroup")
    return made.returncode == 0 and any(os.access(p, os.W_OK) for p in (groups, groups / "memory"))


@pytest.fixture(scope="module")
def isolated(here: Daemon) -> Daemon:
    """Where containers are containers."""
    if here.record.driver != "namespaces":
        why = "; ".join(here.record.losses) or f"uid {os.geteuid()}"
        pytest.skip(f"needs the namespaces driver, and this host has {here.record.driver}: {why}")
    return here

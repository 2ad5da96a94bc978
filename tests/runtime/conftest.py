"""A launcher for the tests of this folder that need one."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from squall.runtime.probe import probe_namespaces
from tests.runtime.box import Box

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def can_make_namespaces() -> bool:
    """Found out without our own code, so that a fault of ours does not look like a poor host."""
    command = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "--pid",
        "--net",
        "--fork",
        "--mount-proc",
        "true",
    ]
    with suppress(OSError):
        return os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
    return False


@pytest.fixture(scope="session")
def namespaces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for launchers; skips, with the reason, where they cannot work."""
    directory = tmp_path_factory.mktemp("launchers")
    reason = probe_namespaces(directory)
    if reason is not None and can_make_namespaces():
        pytest.fail(f"the host has what the namespaces driver needs, yet: {reason}")
    if reason is not None:
        pytest.skip(f"needs the namespaces driver: {reason}")
    return directory


@pytest.fixture(scope="session")
def shared_box(namespaces: Path) -> Iterator[Box]:
    box = Box(namespaces / "shared")
    yield box
    box.close()


@pytest.fixture
def box(shared_box: Box) -> Box:
    """The launcher that most tests share; each test has containers and layers of its own."""
    return shared_box


@pytest.fixture
def own_box(namespaces: Path, request: pytest.FixtureRequest) -> Iterator[Box]:
    """A launcher of one test's own, to be mistreated. The test closes it, or it is closed."""
    box = Box(namespaces / request.node.name.replace("[", "-").replace("]", "")[:60], ["--no-network"])
    yield box
    if not box.loop.is_closed():
        box.close()

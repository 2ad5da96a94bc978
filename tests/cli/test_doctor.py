"""`squall doctor`, as its user sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.client import elsewhere

if TYPE_CHECKING:
    from pathlib import Path


def doctor(
    tmp_path: Path, *options: str, program: tuple[str, ...] = ("-m", "squall"), **variables: str
) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SQUALL_")}
    environ = {
        **kept,
        "SQUALL_STATE": str(tmp_path / "state"),
        "PIP_INDEX_URL": "file:///nowhere",
        **variables,
    }
    command = [sys.executable, *program, "doctor", *options]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=100, check=False)


def test_json(tmp_path: Path) -> None:
    done = doctor(tmp_path, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = {check["name"]: check for check in json.loads(done.stdout)}
    assert found["Daemon"]["found"] == "it does not run; the first `squall run` starts it"
    assert found["Driver"]["found"].partition(":")[0] in ("namespaces", "process")


def test_what_is_lost_and_what_to_do(tmp_path: Path) -> None:
    lines = doctor(tmp_path, SQUALL_DRIVER="process").stdout.splitlines()
    at = lines.index("lost    Driver: process: it was chosen")
    assert lines[at + 1] == "        -> run the daemon as root of a machine, which may be a virtual one"


def test_a_server_elsewhere_that_is_not_there(tmp_path: Path) -> None:
    done = doctor(tmp_path, SQUALL_SERVER_URL="http://127.0.0.1:1")
    assert done.returncode == 1
    assert done.stdout.startswith("failed  Server: http://127.0.0.1:1: ")
    assert done.stdout.endswith("-> check SQUALL_SERVER_URL and SQUALL_TOKEN\n")


def test_other_systems_are_no_nodes(tmp_path: Path) -> None:
    done = doctor(tmp_path, program=(elsewhere.__file__, "darwin"))
    assert done.returncode == 1
    assert "failed  Node: containers need Linux, and this is darwin\n" in done.stdout

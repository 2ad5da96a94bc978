"""A client on macOS or Windows uses a server on Linux over TCP; tests/client/elsewhere.py simulates them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from squall.wire.control import TokenNew
from tests.client import elsewhere
from tests.e2e.kit import PATIENCE_S

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.kit import Daemon

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

PROGRAM = """
import asyncio
import squall
from parts.deep import helper

app = squall.App("e2e-elsewhere")


@app.function()
def double(x: int) -> int:
    print("doubling", str(x)[:9])
    return helper.twice(x)


@app.function()
def count(n: int):
    yield from range(n)


@app.function()
def fail() -> None:
    raise KeyError("lost")


@app.local_entrypoint()
def main(x: int = 4) -> None:
    print("remote", double.remote(x), len(double.remote("y" * 3_000_000)))
    print("map", list(double.map(range(5))))
    print("generator", list(count.remote_gen(3)))
    print("aio", asyncio.run(wait()))
    print("spawn", double.spawn(5).get())
    try:
        fail.remote()
    except KeyError as error:
        print("error", error)


async def wait() -> list[int]:
    return await asyncio.gather(*(double.remote.aio(n) for n in range(3)))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "parts" / "deep").mkdir(parents=True)
    (folder / "parts" / "deep" / "helper.py").write_text("def twice(x):\n    return x * 2\n")
    (folder / "program.py").write_text(PROGRAM)
    return folder


def run(system: str, folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SQUALL_")}
    return subprocess.run(
        [sys.executable, elsewhere.__file__, system, *arguments],
        cwd=folder, env={**kept, **variables}, capture_output=True, text=True, timeout=PATIENCE_S,
        check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_a_program_runs_over_tcp(here: Daemon, project: Path, system: str) -> None:
    token = here.client().request("token.new", TokenNew()).token
    server = {"SQUALL_SERVER_URL": f"http://{here.record.listen}", "SQUALL_TOKEN": token}
    done = run(system, project, "run", "program.py", "--x", "21", **server)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if " | " not in line] == [
        "remote 42 6000000",
        "map [0, 2, 4, 6, 8]",
        "generator [0, 1, 2]",
        "aio [0, 2, 4]",
        "spawn 10",
        "error 'lost'",
    ]
    assert "doubling 21" in done.stdout + done.stderr
    listed = run(system, project, "container", "list", **server)
    assert listed.returncode == 0, listed.stderr
    shell = run(system, project, "shell", "-c", "/bin/sh -c 'echo inside; exit 3'", **server)
    assert (shell.returncode, shell.stdout) == (3, "inside\n"), shell.stderr


def test_windows_has_no_terminals_for_containers(here: Daemon, project: Path) -> None:
    token = here.client().request("token.new", TokenNew()).token
    server = {"SQUALL_SERVER_URL": f"http://{here.record.listen}", "SQUALL_TOKEN": token}
    done = run("win32", project, "container", "exec", "--pty", "ct-1", "true", **server)
    assert done.returncode == 1
    assert done.stderr == "squall: --pty needs a terminal of Linux or macOS: use --no-pty.\n"


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_the_embedded_server_says_that_it_needs_linux(tmp_path: Path, project: Path, system: str) -> None:
    done = run(system, project, "run", "program.py", SQUALL_STATE=str(tmp_path / "state"))
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1].startswith("squall: ")
    assert "The embedded server needs Linux: set SQUALL_SERVER_URL and SQUALL_TOKEN" in done.stderr
    assert "Traceback" not in done.stderr

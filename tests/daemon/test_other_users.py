"""Another user of the machine gets neither at the embedded socket nor at what lies in the state directory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from squall.client import embedded
from squall.client.blocking import BlockingClient
from squall.client.connect import local
from squall.client.core import Credentials
from squall.wire.control import TokenNew

if TYPE_CHECKING:
    from collections.abc import Iterator

SETPRIV = shutil.which("setpriv")
#: The venv of the tests may be in a home that is closed to others.
PYTHON = shutil.which("python3", path="/usr/bin:/bin") or sys.executable

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform != "linux", reason="the daemon needs Linux"),
    pytest.mark.skipif(
        sys.platform == "linux" and os.geteuid() != 0, reason="only root can become another user"
    ),
    pytest.mark.skipif(SETPRIV is None, reason="setpriv (util-linux) is not installed"),
]

APP = """
import squall

app = squall.App("secret")
PLAN = "the plans of the villa"

@app.function()
def f(x):
    print(PLAN)
    return x
"""

#: Tries each of the paths on stdin; tells which it could connect to, list, read or change.
INTRUDER = """
import json, os, socket, stat, sys

def enter(path):
    kind = os.lstat(path).st_mode
    if stat.S_ISSOCK(kind):
        for type in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
            with socket.socket(socket.AF_UNIX, type) as s:
                try:
                    s.connect(path)
                    return
                except ConnectionError:
                    pass
                except OSError as error:
                    if error.errno != 91:  # EPROTOTYPE: it is of the other type
                        raise
        return
    if stat.S_ISDIR(kind):
        os.listdir(path)
    for flags in (os.O_RDONLY, os.O_WRONLY):
        try:
            os.close(os.open(path, flags))
            return
        except IsADirectoryError:
            pass
        except PermissionError:
            continue
    raise PermissionError

entered = []
for path in json.load(sys.stdin):
    try:
        enter(path)
        entered.append(path)
    except OSError:
        pass
print(json.dumps(entered))
"""


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    """Of a daemon with a token, an app's sources and logs; in a folder open to all, as /var/lib is."""
    folder = Path(tempfile.mkdtemp(prefix="squall-other-users-"))
    folder.chmod(0o755)
    state = folder / "state"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SQUALL_")}
    environ = {**clean, "SQUALL_STATE": str(state), "SQUALL_DRIVER": "process"}
    (folder / "secret_app.py").write_text(APP)
    command = [sys.executable, "-m", "squall", "run", f"{folder}/secret_app.py::f", "--x", "7"]
    try:
        subprocess.run(command, env=environ, check=True, timeout=100, capture_output=True)
        admin = BlockingClient(local(str(state), start=False), Credentials())
        admin.open(30)
        admin.request("token.new", TokenNew())
        admin.close()
        yield state
    finally:
        embedded.stop(str(state))
        shutil.rmtree(folder)


def entered(paths: list[str], *become: str) -> set[str]:
    done = subprocess.run(
        [*become, PYTHON, "-I", "-c", INTRUDER],
        input=json.dumps(paths), capture_output=True, text=True, timeout=60, check=True, cwd="/",
    )  # fmt: skip
    return set(json.loads(done.stdout))


def test_nobody_else_gets_at_the_state(state: Path) -> None:
    everything = [str(path) for path in (state, *state.rglob("*"))]
    secrets = {
        str(path)
        for path in map(Path, everything)
        if path.is_file() and path.stat().st_size and b"the plans of the villa" in path.read_bytes()
    }
    assert {Path(path).relative_to(state).parts[:2] for path in secrets} >= {
        ("node", "sources"),
        ("server", "blobs"),
    }
    closed = {
        embedded.socket_path(str(state)),
        str(state / "server" / "db.sqlite"),
        str(state / "logs" / "server.log"),
    }
    assert entered(everything) >= closed | secrets

    assert SETPRIV is not None
    nobody = (SETPRIV, "--reuid=65534", "--regid=65534", "--clear-groups")
    # Who runs here is no secret.
    assert entered(everything, *nobody) <= {str(state / "daemon.json"), str(state / "children.json")}

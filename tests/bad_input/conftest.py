"""Desks: the real command line and a real daemon of the test's own, where a user does something wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

import squall
from squall.client import daemon_record, embedded
from squall.client.blocking import BlockingClient
from squall.client.connect import local
from squall.client.core import Credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from squall.client.daemon_record import Process

GOOD = """
    import squall
    app = squall.App("good")

    @app.function()
    def increment(x: int) -> int:
        return x + 1

    @app.local_entrypoint()
    def main(x: int = 1):
        print("result", increment.remote(x))
    """

#: What an environment may have of its own, and a desk must not.
SETTINGS = ("SERVER_URL", "TOKEN", "IS_REMOTE", "TRACEBACK", "SOCKET", "CONFIG", "STATE", "ENVIRONMENT")


#: Python tells files by size and second of their last change, and tests write many within one.
STILL = {"PYTHONDONTWRITEBYTECODE": "1"}


@dataclass(frozen=True)
class Said:
    """What a command wrote, and its exit status."""

    out: str
    err: str
    code: int


class Desk:
    """Commands run in `folder` with the state directory `state`, which may be missing or bad."""

    def __init__(self, folder: Path, state: str = "") -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.state = state or str(folder / "state")
        self.file("good.py", GOOD)

    def file(self, name: str, source: str) -> str:
        (self.folder / name).write_text(textwrap.dedent(source))
        return name

    def app(self, source: str, name: str = "bad.py") -> str:
        return self.file(name, 'import squall\napp = squall.App("bad")\n' + textwrap.dedent(source))

    def environ(self, **more: str) -> dict[str, str]:
        own = {k: v for k, v in os.environ.items() if k not in {f"SQUALL_{s}" for s in SETTINGS}}
        return {**own, "SQUALL_STATE": self.state, "SQUALL_DRIVER": "process", **STILL, **more}

    def popen(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "squall", *arguments],
            cwd=self.folder,
            env=self.environ(**environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def squall(self, *arguments: str, **environ: str) -> Said:
        with self.popen(*arguments, **environ) as process:
            out, err = process.communicate(timeout=100)
        assert squall.__path__[0] not in err, "a traceback of ours"
        return Said(out, err, process.returncode)

    def ok(self, *arguments: str, **environ: str) -> str:
        said = self.squall(*arguments, **environ)
        assert said.code == 0, said
        return said.out

    def refused(self, *arguments: str, code: int = 1, **environ: str) -> str:
        """The one line on stderr, without its `squall: `."""
        said = self.squall(*arguments, **environ)
        assert said.code == code, said
        assert said.err.count("\n") == 1, said.err
        assert said.err.startswith("squall: "), said.err
        return said.err.removeprefix("squall: ").rstrip("\n")

    def works(self) -> None:
        """A good call still does what it should."""
        assert "result 2\n" in self.ok("run", "good.py")

    def child(self, name: str) -> Process:
        return next(c for c in daemon_record.read_children(self.state) if c.name == name)

    def stop(self) -> None:
        embedded.stop(self.state)


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """One whose daemon, if it starts any, is its own."""
    desk = Desk(tmp_path / "desk")
    yield desk
    desk.stop()


@pytest.fixture(scope="session")
def busy_desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One whose daemon runs and has a good app deployed."""
    desk = Desk(tmp_path_factory.mktemp("busy") / "desk")
    try:
        desk.ok("deploy", "good.py")
        yield desk
    finally:
        desk.stop()


@pytest.fixture
def user(busy_desk: Desk) -> Iterator[Desk]:
    """Somebody at the busy desk: whatever they do, afterwards a good call works."""
    yield busy_desk
    client = BlockingClient(local(busy_desk.state, start=False), Credentials())
    client.open(20)
    assert squall.Function.from_name("good", "increment", client=client).remote(1) == 2
    client.close()

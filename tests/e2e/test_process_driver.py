"""Without isolation: the process driver runs the same calls, and says what is lost."""

from __future__ import annotations

import signal
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from squall import exception
from tests.e2e.apps import calls
from tests.e2e.kit import Daemon, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


IMAGE = """
import squall

app = squall.App("image", image=squall.Image.debian_slim().run_commands("exit 7"))


@app.function()
def f():
    pass


@app.local_entrypoint()
def main():
    f.remote()
"""


@pytest.fixture(scope="module", autouse=True)
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    own = Daemon(tmp_path_factory.mktemp("process"), "process")
    with own.life() as world, world.environment(), calls.app.run():
        yield world


def test_it_says_so(world: Daemon) -> None:
    assert world.record.driver == "process"
    assert "no isolation" in world.squall("daemon", "status").stdout


def test_calls() -> None:
    assert calls.where.remote()[2] is False
    assert calls.echo.remote(b"x" * (5 << 20))[0] == (b"x" * (5 << 20),)
    assert list(calls.double.map(range(50))) == [2 * x for x in range(50)]
    assert list(calls.count.remote_gen(100)) == list(range(100))
    assert calls.quadruple.remote(2) == 8
    assert calls.environment.remote("COLOUR") == "green"
    assert calls.double.spawn(4).get(timeout=60) == 8


def test_failures() -> None:
    with pytest.raises(calls.UnluckyError, match="unlucky 3"):
        calls.risky.remote(3)
    with pytest.raises(exception.RemoteError, match="exited with code 3"):
        calls.leave.remote("_exit")
    with pytest.raises(exception.FunctionTimeoutError):
        calls.slow.remote(600)


def test_commands_of_images(world: Daemon, tmp_path: Path) -> None:
    """They run on the machine itself, and one that fails says so."""
    (tmp_path / "image.py").write_text(IMAGE, "utf-8")
    failed = world.squall("run", "-q", "image.py", cwd=tmp_path, code=1).stderr.splitlines()
    told = "squall: step 1 of 1 (run_commands exit 7) failed with exit code 7; the process driver runs"
    assert failed[-1].startswith(told)


@pytest.mark.parametrize("name", ["server", "node"])
def test_a_killed_part(world: Daemon, name: str) -> None:
    results = calls.double.map(range(20), [0] * 20, [0.1] * 20)
    begun = list(islice(results, 3))
    old = world.child(name)
    old.signal(signal.SIGKILL)
    until(lambda: world.child(name) != old, f"another {name}")
    assert [*begun, *results] == [2 * x for x in range(20)]

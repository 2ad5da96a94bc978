"""Base systems that the launcher has made for an agent: what comes of it, and what it cannot be used for."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from squall.runtime.driver import DriverError
from squall.runtime.launcher import jobs, messages
from tests.runtime.box import Box, drain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.root

#: Stands in for the program that makes base systems. The release says what it does.
MAKER = """
import json, os, subprocess, sys, time
kind, target, *rest = sys.argv[1:]
print(json.dumps([kind, *rest, sorted(n for n in os.environ if n.startswith("SQUALL_"))]), flush=True)
os.mkdir(target)
open(target + "/file", "w").close()
if rest[0:1] == ["hangs"]:
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    with open(os.environ["MAKER_NOTE"], "a") as note:
        note.write("hangs\\n")
    while not os.path.exists(os.environ["MAKER_NOTE"] + ".go"):
        time.sleep(0.01)
sys.exit(3 if rest[0:1] == ["fails"] else 0)
"""


class Maker:
    """A launcher whose maker is the one above."""

    def __init__(self, box: Box, note: Path) -> None:
        self.box = box
        self.note = note
        self.outputs: list[int] = []

    def folder(self, name: str) -> Path:
        path = self.box.layers / name
        path.mkdir()
        return path

    def make(self, target: Path, suite: str = "bookworm") -> int:
        return self.box.do(self.box.runtime.debian_base(str(target), suite, self.outputs.append))

    def hanging(self, target: Path) -> asyncio.Task[int]:
        """One that is at work and does not end."""
        making = self.box.runtime.debian_base(str(target), "hangs", self.outputs.append)
        task = self.box.loop.create_task(making)
        self.until(self.note.exists)
        return task

    def until(self, condition: Callable[[], object]) -> None:
        async def wait() -> None:
            while not condition():  # noqa: ASYNC110 - it is other processes that bring it about
                await asyncio.sleep(0.01)

        self.box.do(wait())

    def at_work(self) -> list[str]:
        """What runs of the makers."""
        return [p.parent.name for p in Path("/proc").glob("[0-9]*/environ") if _names(p, str(self.note))]

    def nothing_is_left(self) -> bool:
        return not self.at_work() and not any((self.box.state / "bases").iterdir())


def _names(environ: Path, text: str) -> bool:
    try:
        found = text.encode() in environ.read_bytes()
        return found and "squall.runtime.launcher" not in environ.with_name("cmdline").read_text()
    except OSError:
        return False


@pytest.fixture
def maker(
    namespaces: Path, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Maker]:
    (tmp_path / "fake_maker.py").write_text(MAKER)
    note = tmp_path / "note"
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("MAKER_NOTE", str(note))
    monkeypatch.setenv("SQUALL_TOKEN", "sq-secret")
    name = request.node.name.replace("[", "-").replace("]", "")[:60]
    box = Box(namespaces / f"jobs-{name}", ["--no-network", "--base-maker", "fake_maker"])
    maker = Maker(box, note)
    monkeypatch.delenv("MAKER_NOTE")  # only the launcher and what it runs have it
    yield maker
    for fd in maker.outputs:
        os.close(fd)
    if not box.loop.is_closed():
        box.close()


def test_a_base_appears_whole_and_belongs_to_root(maker: Maker) -> None:
    target = maker.folder("good") / "fs"
    assert maker.make(target) == 0
    assert (target / "file").exists()
    assert (target.stat().st_uid, target.stat().st_mode & 0o777) == (0, 0o755)
    assert json.loads(drain(maker.outputs.pop())) == ["debian", "bookworm", []]
    own = maker.box.runtime.host_base(f"{target}-2", maker.outputs.append, own_python=True)
    assert maker.box.do(own) == 0
    assert json.loads(drain(maker.outputs.pop())) == ["host", "--own-python", []]
    maker.until(maker.nothing_is_left)


def test_a_failure_leaves_nothing(maker: Maker) -> None:
    folder = maker.folder("failing")
    assert maker.make(folder / "fs", "fails") == 3
    assert list(folder.iterdir()) == []
    maker.until(maker.nothing_is_left)


@pytest.mark.parametrize("operation", ["debian_base", "host_base", "remove"])
def test_places_that_are_not_the_agents_are_refused(maker: Maker, operation: str, tmp_path: Path) -> None:
    layers = maker.box.layers
    (layers / "link").symlink_to("/etc")
    outside = tmp_path / "outside"
    outside.mkdir()
    bad: list[Any] = [
        f"{outside}/fs", "/etc/cron.d", "/fs", "/", "", "fs", None, 7, f"{layers}/link/fs",
        f"{layers}/../{outside.name}/fs", f"{layers}/base/../../x", f"{layers}/./x", f"{layers}//x",
        f"{layers}/x/", f"{layers}/..", f"/{layers}/x", f"{layers}/no/such/place", f"{layers}/a\0b",
        f"{layers}/\ud800", str(layers), str(layers.parent), f"/proc/self/root{layers}/x", "/usr/share/doc",
    ]  # fmt: skip
    for path in bad:
        fields = {"path": path, "suite": "bookworm", "own_python": False}
        with pytest.raises(DriverError) as caught:
            maker.box.do(maker.box.runtime._ask(operation, **fields))
        assert "\n" not in str(caught.value)
        assert "fault" not in str(caught.value)
    assert list(outside.iterdir()) == []
    assert maker.nothing_is_left()
    assert maker.make(maker.folder("still-works") / "fs") == 0


def test_wrong_words_are_refused(maker: Maker) -> None:
    path = str(maker.folder("words") / "fs")
    suites: list[Any] = [
        "-x", "--mirror=http://evil", "", "a b", "Bookworm", "bookworm;id", "bookworm\n", "../x", 7, None,
        ["a"], "x" * 33,
    ]  # fmt: skip
    words: list[Any] = ["yes", 1, None, ["--own-python"], "/root"]
    asked: list[tuple[str, dict[str, Any]]] = [("debian_base", {"suite": suite}) for suite in suites]
    asked += [("host_base", {"own_python": word}) for word in words]
    for operation, fields in asked:
        with pytest.raises(DriverError):
            maker.box.do(maker.box.runtime._ask(operation, path=path, **fields))
    assert maker.nothing_is_left()


def test_a_link_at_the_place_is_not_followed(maker: Maker, tmp_path: Path) -> None:
    folder, elsewhere = maker.folder("trap"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / "fs").symlink_to(elsewhere)
    raw = maker.box.runtime._job  # where the driver does not resolve the link
    with pytest.raises(DriverError, match="cannot be put in its place"):
        maker.box.do(raw("debian_base", maker.outputs.append, path=str(folder / "fs"), suite="bookworm"))
    assert list(elsewhere.iterdir()) == []
    maker.until(maker.nothing_is_left)


def test_a_place_that_is_swapped_meanwhile_leads_nowhere_else(maker: Maker, tmp_path: Path) -> None:
    folder, elsewhere = maker.folder("swapped"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    task = maker.hanging(folder / "fs")
    moved = folder.rename(maker.box.layers / "moved")
    folder.symlink_to(elsewhere)
    Path(f"{maker.note}.go").touch()
    assert maker.box.do(asyncio.wait_for(task, 30)) == 0
    assert list(elsewhere.iterdir()) == []
    assert [p.name for p in moved.iterdir()] == ["fs"]


def test_what_is_cancelled_ends_with_all_its_processes(maker: Maker) -> None:
    folder = maker.folder("cancelled")
    task = maker.hanging(folder / "fs")
    assert len(maker.at_work()) >= 3  # its init, the program, and a daemon of that
    task.cancel()
    maker.until(maker.nothing_is_left)
    assert list(folder.iterdir()) == []


def test_another_agent_cannot_end_it_and_its_own_end_does(maker: Maker) -> None:
    task = maker.hanging(maker.folder("mine") / "fs")
    number = next(iter(maker.box.runtime._jobs))
    other = maker.box.connect()
    for job in (number, 1, None, "x", [1]):
        maker.box.do(other._ask("cancel_job", job=job))
    other.disconnect()
    maker.box.do(maker.box.runtime.usage("nobody"))  # the launcher has seen the other one go
    assert len(maker.at_work()) >= 3
    maker.box.runtime.disconnect()
    maker.until(maker.nothing_is_left)
    with pytest.raises(DriverError):
        maker.box.do(asyncio.wait_for(task, 30))
    maker.box.runtime = maker.box.connect()


def test_it_ends_with_the_launcher(maker: Maker) -> None:
    task = maker.hanging(maker.folder("orphaned") / "fs")
    maker.box.process.kill()
    maker.box.process.wait()
    maker.until(lambda: not maker.at_work())
    with pytest.raises(DriverError):
        maker.box.do(asyncio.wait_for(task, 30))
    maker.box.runtime.disconnect()
    maker.box.boot()
    maker.until(maker.nothing_is_left)


def test_one_agent_cannot_start_any_number(maker: Maker) -> None:
    folder = maker.folder("many")
    tasks = [maker.hanging(folder / str(n)) for n in range(jobs.AT_ONCE)]
    with pytest.raises(DriverError, match="too many"):
        maker.make(folder / "more")
    for task in tasks:
        task.cancel()
    maker.until(maker.nothing_is_left)


def test_one_who_does_not_read_delays_nobody(maker: Maker) -> None:
    """A raw agent that never reads its answers' pipe, nor anything else."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
        with messages.reachable(maker.box.socket) as name:
            silent.connect(name)
        request = {"id": 1, "op": "debian_base", "path": f"{maker.folder('silent')}/fs", "suite": "hangs"}
        messages.send(silent, request)
        maker.until(maker.note.exists)
        began = time.monotonic()
        assert maker.make(maker.folder("loud") / "fs") == 0
        assert time.monotonic() - began < 30
    maker.until(maker.nothing_is_left)


def test_without_a_maker_it_is_one_line(own_box: Box) -> None:
    with pytest.raises(DriverError, match="without a program that makes base systems"):
        own_box.do(own_box.runtime.debian_base(f"{own_box.layers}/fs", "bookworm", os.close))

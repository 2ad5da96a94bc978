"""A newer client finds an older daemon at work: it is let end what is under way, and replaced."""

from __future__ import annotations

import json
import signal
import threading
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from squall import FunctionCall
from squall.client import embedded
from tests.e2e.apps import calls
from tests.e2e.kit import Daemon, until
from tests.house.source import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture
def world(daemon: Daemon, tmp_path: Path) -> Iterator[Daemon]:
    """A daemon of its own. (The common one is there first: it has the base system made.)"""
    del daemon
    with Daemon(tmp_path).life() as world, world.environment():
        yield world


def make_older(world: Daemon) -> None:
    """Its record says that it speaks an earlier protocol."""
    path = Path(world.state, "daemon.json")
    record = json.loads(path.read_bytes())
    path.write_text(json.dumps({**record, "protocol": record["protocol"] - 1}))


def connect_anew(world: Daemon) -> bool:
    embedded.ensure(world.state)
    return world.record.process.alive()


def test_what_is_under_way_comes_home_and_what_waits_goes_on(world: Daemon) -> None:
    with calls.app.run():
        values: Any = calls.slowly.remote_gen(40, 0.05)
        results = calls.double.map(range(12), [0] * 12, [0.2] * 12)
        got = [*islice(values, 2)]
        begun = [next(results)]
        spawned = [calls.task.spawn(0.5) for _ in range(10)]
        old, servers = world.record.process, {world.child("server").pid}
        make_older(world)
        upgrade = threading.Thread(target=world.squall, args=("run", str(ROOT / "examples" / "hello.py")))
        upgrade.start()
        assert [*got, *values] == list(range(40)), (
            "not cut off: it would have been if its container had ended"
        )
        assert [*begun, *results] == [2 * x for x in range(12)]
        upgrade.join(120)
        assert not old.alive()
        assert world.child("server").pid not in servers
        assert all(call.get(timeout=120) for call in spawned)


def test_it_ends_when_what_is_under_way_has_ended(world: Daemon) -> None:
    with calls.app.run():
        waiting = calls.wait.spawn(3.0)
        until(lambda: [c for c in world.containers("wait") if c.running], "it is at work")
        old = world.record.process
        old.signal(signal.SIGUSR1)
        assert waiting.get(timeout=120) == "waited"
        until(lambda: not old.alive(), "the daemon has ended")
    assert connect_anew(world), "the next client starts another"


def test_detached_calls_go_on_when_their_program_has_ended(world: Daemon, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import time\nimport squall\napp = squall.App('detached')\n\n"
        "@app.function()\ndef f(x):\n    time.sleep(3)\n    return 2 * x\n\n"
        "@app.local_entrypoint()\ndef main():\n    print('call', f.spawn(4).object_id)\n"
    )
    said = world.squall("run", "--detach", str(program)).stdout
    call: Any = FunctionCall.from_id(said.split("call ")[1].split()[0])
    assert call.get(timeout=120) == 8
    until(lambda: world.status().apps == 0, "the app ends with its last call")
    said = world.squall("run", str(program)).stdout
    cancelled: Any = FunctionCall.from_id(said.split("call ")[1].split()[0])
    with pytest.raises(BaseException, match=r"stopped|cancelled"):
        cancelled.get(timeout=120)

"""A running input is interrupted from outside, wherever user code is; a waiting one never begins."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from squall.runner import protocol

if TYPE_CHECKING:
    from tests.runner.conftest import Agent

BUSY = "def f(busy):\n    print('go', flush=True)\n    while busy:\n        pass\n    return 'fine'\n"
SLEEP = (
    "import time\ndef f(busy):\n    print('go', flush=True)\n    time.sleep(60 * busy)\n    return 'fine'\n"
)
LOCK = (
    "import threading\nlock = threading.Lock()\nlock.acquire()\n"
    "def f(busy):\n    print('go', flush=True)\n    busy and lock.acquire()\n    return 'fine'\n"
)
ASYNC = (
    "import asyncio\nasync def f(busy):\n    print('go', flush=True)\n"
    "    await asyncio.sleep(60 * busy)\n    return 'fine'\n"
)
SWALLOW = (
    "import time\ndef f(busy):\n    print('go', flush=True)\n"
    "    try:\n        time.sleep(60 * busy)\n    except Exception:\n        pass\n    return 'fine'\n"
)


def has_begun(agent: Agent) -> None:
    assert agent.process is not None
    assert agent.process.stdout is not None
    assert agent.process.stdout.readline() == b"go\n"


@pytest.mark.parametrize(
    "code", [BUSY, SLEEP, LOCK, ASYNC, SWALLOW], ids=["loop", "sleep", "lock", "async", "swallow"]
)
def test_cancels_running_code(agent: Agent, code: str) -> None:
    agent.load(code, "f")
    number = agent.input(1)
    has_begun(agent)
    agent.cancel(number)
    frame = agent.receive()
    assert (frame.kind, frame.input, frame.header["s"]) == (protocol.OUTPUT, number, "cancelled")
    assert agent.call(0) == "fine"


def test_user_code_sees_input_cancellation(agent: Agent) -> None:
    code = (
        "import time, squall\ndef f():\n    try:\n        print('go', flush=True)\n        time.sleep(60)\n"
        "    except squall.exception.InputCancellation:\n        return 'seen'\n"
    )
    agent.load(code, "f")
    number = agent.input()
    has_begun(agent)
    agent.cancel(number)
    assert agent.result() == "seen"


def test_a_waiting_input_never_begins(agent: Agent) -> None:
    agent.load(SLEEP, "f")
    first, second, third = agent.input(1), agent.input(0), agent.input(0)
    has_begun(agent)
    agent.cancel(second)
    agent.cancel(first)
    statuses = {(f := agent.receive()).input: f.header.get("s", "ok") for _ in range(3)}
    assert statuses == {first: "cancelled", second: "cancelled", third: "ok"}


def test_a_cancellation_that_comes_too_late_hits_nobody(agent: Agent) -> None:
    agent.load(SLEEP, "f")
    number = agent.input(0)
    assert agent.result() == "fine"
    agent.cancel(number)
    for _ in range(20):
        assert agent.call(0) == "fine"


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_generator_waiting_for_credit(agent: Agent, kind: str) -> None:
    code = (
        f"{kind} f():\n    try:\n        yield 1\n        yield 2\n"
        f"    finally:\n        print('closed', flush=True)\n"
    )
    agent.load(code, "f")
    number = agent.input(header={"c": 1})
    assert agent.receive().kind == protocol.YIELD
    agent.cancel(number)
    header = agent.receive().header
    assert (header["s"], header["n"]) == ("cancelled", 1)
    assert agent.stop()[1] == b"closed\n"


def test_never_in_the_runners_own_code(agent: Agent) -> None:
    """A storm of cancellations around quick inputs: each gets exactly one answer, in order."""
    agent.load("def f():\n    sum(range(200))\n", "f")
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        number = agent.input()
        agent.cancel(number)
        frame = agent.receive()
        assert (frame.kind, frame.input) == (protocol.OUTPUT, number)
        assert frame.header.get("s", "ok") in {"ok", "cancelled"}

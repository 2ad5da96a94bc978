"""A running input is interrupted from outside, wherever user code is; a waiting one never begins."""

from __future__ import annotations

import pickle
import select
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

#: Begins to wait (`call(*args)`) at the one moment at which a signal is lost on it: after the kernel has
#: delivered it, and before Python had a chance to run its handler.
LATE = """
import asyncio, ctypes, itertools, signal, time
libc = ctypes.PyDLL(None)
def wait_late(call, *args):
    number = ctypes.c_uint64(1 << (signal.SIGURG - 1))
    libc.pthread_sigmask(signal.SIG_BLOCK, ctypes.byref(number), None)
    print("go", flush=True)
    while signal.SIGURG not in signal.sigpending():
        time.sleep(0.001)
    unblock = (signal.SIG_UNBLOCK, ctypes.byref(number), None)
    # One C function calls both: nothing of Python runs in between.
    both = itertools.chain(
        itertools.starmap(libc.pthread_sigmask, [unblock]), itertools.starmap(call, [args])
    )
    return list(both)[1]
"""
LATE_SLEEP = LATE + "def f(busy):\n    busy and wait_late(time.sleep, 60)\n    return 'fine'\n"
LATE_ASYNC = (
    LATE
    + """
class Late:
    def __init__(self, epoll):
        self.epoll = epoll
    def __getattr__(self, name):
        return getattr(self.epoll, name)
    def poll(self, timeout, events):
        if timeout and timeout > 50:
            return wait_late(self.epoll.poll, timeout, events)
        return self.epoll.poll(timeout, events)
async def f(busy):
    selector = asyncio.get_running_loop()._selector
    if busy:
        selector._selector = Late(selector._selector)
        await asyncio.sleep(60)
    return "fine"
"""
)


def has_begun(agent: Agent) -> None:
    assert agent.process is not None
    assert agent.process.stdout is not None
    assert agent.process.stdout.readline() == b"go\n"


def has_said_more(agent: Agent) -> bool:
    """Within a tenth of a second."""
    assert agent.process is not None
    assert agent.process.stdout is not None
    return bool(select.select([agent.process.stdout], [], [], 0.1)[0])


@pytest.mark.parametrize(
    "code",
    [BUSY, SLEEP, LATE_SLEEP, LOCK, ASYNC, SWALLOW],
    ids=["loop", "sleep", "late sleep", "lock", "async", "swallow"],
)
def test_cancels_running_code(agent: Agent, code: str) -> None:
    agent.load(code, "f")
    number = agent.input(1)
    has_begun(agent)
    frame = agent.interrupt(number)
    assert (frame.kind, frame.input, frame.header["s"]) == (protocol.OUTPUT, number, "cancelled")
    assert agent.call(0) == "fine"


def test_one_alarm_is_enough_for_an_event_loop(agent: Agent) -> None:
    """Also when it comes just as the loop begins to wait."""
    agent.load(LATE_ASYNC, "f")
    number = agent.input(1)
    has_begun(agent)
    agent.cancel(number)
    assert agent.receive().header["s"] == "cancelled"
    assert agent.call(0) == "fine"


def test_a_repeated_alarm_interrupts_once(agent: Agent) -> None:
    code = (
        "import time\ndef f():\n    try:\n        print('go', flush=True)\n        time.sleep(60)\n"
        "    finally:\n        print('go', flush=True)\n        time.sleep(0.5)\n"
        "        print('whole', flush=True)\n"
    )
    agent.load(code, "f")
    number = agent.input()
    has_begun(agent)
    while not has_said_more(agent):
        agent.cancel(number)
    for _ in range(20):
        agent.cancel(number)
        time.sleep(0.01)
    assert agent.receive().header["s"] == "cancelled"
    assert agent.stop()[1] == b"go\nwhole\n"


def test_user_code_sees_input_cancellation(agent: Agent) -> None:
    code = (
        "import time, squall\ndef f():\n    try:\n        print('go', flush=True)\n        time.sleep(60)\n"
        "    except squall.exception.InputCancellation:\n        return 'seen'\n"
    )
    agent.load(code, "f")
    number = agent.input()
    has_begun(agent)
    frame = agent.interrupt(number)
    assert pickle.loads(frame.payload) == "seen"


def test_a_waiting_input_never_begins(agent: Agent) -> None:
    agent.load(SLEEP, "f")
    first, second, third = agent.input(1), agent.input(0), agent.input(0)
    has_begun(agent)
    agent.cancel(second)
    answers = [agent.interrupt(first), agent.receive(), agent.receive()]
    statuses = {f.input: f.header.get("s", "ok") for f in answers}
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
    header = agent.interrupt(number).header
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


#: Is cancelled while the runner imports asyncio for it: the import goes on once the signal was there.
TEARING = """
import os, signal, sys, time
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "asyncio.base_futures":
            sys.meta_path.remove(self)
            print("importing", flush=True)
            while signal.SIGURG not in seen:
                time.sleep(0.001)
seen = []
async def f(busy):
    return "fine"
def watch():
    was = signal.getsignal(signal.SIGURG)
    signal.signal(signal.SIGURG, lambda number, frame: (was(number, frame), seen.append(number)))
def g(busy):
    if busy:
        watch()
        sys.meta_path.insert(0, Finder())
    return f(busy)
"""


def test_the_import_of_asyncio_is_not_torn(agent: Agent) -> None:
    agent.load(TEARING, "g")
    number = agent.input(True)
    assert agent.process is not None
    assert agent.process.stdout is not None
    assert agent.process.stdout.readline() == b"importing\n"
    agent.cancel(number)
    assert agent.receive().header["s"] == "cancelled"
    assert agent.call(False) == "fine"

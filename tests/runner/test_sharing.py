"""Inputs side by side: threads, tasks, generators, cancellation of one of several, batches; a real runner."""

from __future__ import annotations

import pickle
import time
from typing import TYPE_CHECKING, Any

import pytest

from squall.runner import protocol

if TYPE_CHECKING:
    from tests.runner.conftest import Agent

#: All must be there at once, or none goes on.
MEET = {
    "sync": (
        "import threading, squall\nbarrier = threading.Barrier(4)\n"
        "def f(x):\n    barrier.wait(20)\n    return x, squall.current_input_id()\n"
    ),
    "async": (
        "import asyncio, squall\nhere = []\n"
        "async def f(x):\n    here.append(x)\n"
        "    while len(here) < x // 4 * 4 + 4:\n        await asyncio.sleep(0.001)\n"
        "    return x, squall.current_input_id()\n"
    ),
}
LOOP = {
    "sync": (
        "import os, time\ndef f(busy):\n    os.write(1, b'go\\n')\n"
        "    while busy:\n        time.sleep(0.001)\n    return 'fine'\n"
    ),
    "async": (
        "import asyncio\nasync def f(busy):\n    print('go', flush=True)\n"
        "    await asyncio.sleep(60 * busy)\n    return 'fine'\n"
    ),
}
kinds = pytest.mark.parametrize("kind", ["sync", "async"])
GROUP = "def f(x):\n    return [(y, len(x)) for y in x]\n"
AGROUP = "import asyncio\nasync def f(x):\n    await asyncio.sleep(0)\n    return [(y, len(x)) for y in x]\n"


def have_begun(agent: Agent, count: int) -> None:
    assert agent.process is not None
    assert agent.process.stdout is not None
    assert [agent.process.stdout.readline() for _ in range(count)] == [b"go\n"] * count


def answers(agent: Agent, count: int) -> dict[int, Any]:
    """Values, or headers of what is no value, by number; BEGUN is passed over."""
    found: dict[int, Any] = {}
    while len(found) < count:
        frame = agent.receive()
        if frame.kind == protocol.BEGUN:
            continue
        assert frame.kind == protocol.OUTPUT, frame
        assert frame.input not in found
        value = pickle.loads(agent.payload(frame)) if frame.header.get("s", "ok") == "ok" else frame.header
        found[frame.input] = value
    return found


@kinds
def test_side_by_side_each_with_its_own_id(agent: Agent, kind: str) -> None:
    agent.load(MEET[kind], "f", max_inputs=4)
    numbers = [agent.input(x) for x in range(8)]
    assert answers(agent, 8) == {n: (x, f"fc-1:{n}") for x, n in enumerate(numbers)}
    assert agent.stop()[0] == 0


def test_no_more_than_max_inputs(agent: Agent) -> None:
    code = (
        "import threading, time\nlock = threading.Lock()\nnow = most = 0\n"
        "def f():\n    global now, most\n"
        "    with lock:\n        now += 1\n        most = max(most, now)\n"
        "    time.sleep(0.02)\n    with lock:\n        now -= 1\n    return most\n"
    )
    agent.load(code, "f", max_inputs=3)
    for _ in range(12):
        agent.input()
    assert max(answers(agent, 12).values()) == 3


def test_threads_are_used_again(agent: Agent) -> None:
    agent.load("import threading\ndef f():\n    return threading.get_ident()\n", "f", max_inputs=8)
    assert len({agent.call() for _ in range(20)}) == 1


@kinds
def test_cancels_one_of_several(agent: Agent, kind: str) -> None:
    agent.load(LOOP[kind], "f", max_inputs=3)
    numbers = [agent.input(1) for _ in range(3)]
    have_begun(agent, 3)
    agent.cancel(numbers[1])
    frame = agent.receive()
    assert (frame.input, frame.header["s"]) == (numbers[1], "cancelled")
    assert agent.call(0) == "fine"  # the others hold their places still
    agent.cancel(numbers[0])
    agent.cancel(numbers[2])
    assert {a["s"] for a in answers(agent, 2).values()} == {"cancelled"}


def test_user_code_in_a_thread_sees_input_cancellation(agent: Agent) -> None:
    code = (
        "import time, squall\ndef f():\n    try:\n        print('go', flush=True)\n"
        "        while True:\n            time.sleep(0.001)\n"
        "    except squall.exception.InputCancellation:\n        return 'seen'\n"
    )
    agent.load(code, "f", max_inputs=2)
    number = agent.input()
    have_begun(agent, 1)
    agent.cancel(number)
    assert agent.result() == "seen"


@kinds
def test_a_waiting_input_never_begins(agent: Agent, kind: str) -> None:
    agent.load(LOOP[kind], "f", max_inputs=2)
    first, second, third = agent.input(1), agent.input(1), agent.input(1)
    have_begun(agent, 2)
    agent.cancel(third)
    assert answers(agent, 1)[third]["s"] == "cancelled"
    for number in (first, second):
        agent.cancel(number)
    assert {a["s"] for a in answers(agent, 2).values()} == {"cancelled"}
    assert agent.stop()[1] == b""


def test_cancelled_before_it_arrives(agent: Agent) -> None:
    agent.load(LOOP["sync"], "f", max_inputs=2)
    agent.cancel(1)
    number = agent.input(1)
    assert answers(agent, 1)[number]["s"] == "cancelled"


@kinds
def test_a_storm_of_cancellations(agent: Agent, kind: str) -> None:
    """Each input gets exactly one answer, and nobody else is hit."""
    quick = {"sync": "def f():\n    sum(range(2000))\n    return 1\n"}
    quick["async"] = "import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    return 1\n"
    agent.load(quick[kind], "f", max_inputs=4)
    for _ in range(60):
        numbers = [agent.input() for _ in range(8)]
        for number in numbers[::2]:
            agent.cancel(number)
        found = answers(agent, 8)
        assert all(found[n] == 1 for n in numbers[1::2])
        assert all(found[n] == 1 or found[n]["s"] == "cancelled" for n in numbers[::2])
    code, _, errors = agent.stop()
    assert (code, errors) == (0, b"")


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_generators_side_by_side_within_their_credit(agent: Agent, kind: str) -> None:
    agent.load(f"{kind} f(x):\n    for n in range(3):\n        yield x, n\n", "f", max_inputs=2)
    numbers = [agent.input(x, header={"c": 2}) for x in "ab"]
    seen: dict[int, list[Any]] = {n: [] for n in numbers}
    for _ in range(4):
        frame = agent.receive()
        assert frame.kind == protocol.YIELD
        seen[frame.input].append(pickle.loads(frame.payload))
    for number in numbers:
        agent.send(protocol.encode(protocol.CREDIT, number, {"upto": 9}))
    ends: dict[int, tuple[str, int]] = {}
    while len(ends) < 2:
        frame = agent.receive()
        if frame.kind == protocol.YIELD:
            seen[frame.input].append(pickle.loads(frame.payload))
        else:
            ends[frame.input] = (frame.header["s"], frame.header["n"])
    assert ends == dict.fromkeys(numbers, ("done", 3))
    assert list(seen.values()) == [[(x, n) for n in range(3)] for x in "ab"]


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_cancels_a_generator_that_waits_for_credit(agent: Agent, kind: str) -> None:
    code = (
        f"{kind} f():\n    try:\n        yield 1\n        yield 2\n"
        "    finally:\n        print('closed', flush=True)\n"
    )
    agent.load(code, "f", max_inputs=2)
    number = agent.input(header={"c": 1})
    assert agent.receive().kind == protocol.YIELD
    agent.cancel(number)
    header = agent.receive().header
    assert (header["s"], header["n"]) == ("cancelled", 1)
    assert agent.stop()[1] == b"closed\n"


@kinds
def test_exceptions_are_each_its_own(agent: Agent, kind: str) -> None:
    define = "def" if kind == "sync" else "async def"
    agent.load(f"{define} f(x):\n    return 1 / x\n", "f", max_inputs=2)
    bad, good = agent.input(0), agent.input(2)
    found = answers(agent, 2)
    assert found[good] == 0.5
    assert (found[bad]["s"], found[bad]["type"]) == ("exception", "ZeroDivisionError")
    assert "runner" not in found[bad]["tb"]


def test_what_a_thread_prints_comes_before_its_result(agent: Agent) -> None:
    agent.load("def f(x):\n    print('one of', x, end='')\n    return x\n", "f", max_inputs=2)
    assert agent.call(2) == 2
    assert agent.process is not None
    assert agent.process.stdout is not None
    assert agent.process.stdout.read(8) == b"one of 2"


def test_another_agent_hears_what_is_held(agent: Agent) -> None:
    agent.load(LOOP["sync"], "f", max_inputs=2)
    numbers = [agent.input(1) for _ in range(3)]
    have_begun(agent, 2)
    assert agent.connection is not None
    agent.connection.close()
    hello = agent.accept()
    assert [n for n, _, _ in hello.header["held"]] == numbers
    assert agent.configure("f", max_inputs=2).kind == protocol.READY
    for number in numbers:
        agent.cancel(number)
    assert {a["s"] for a in answers(agent, 3).values()} == {"cancelled"}


def test_tasks_go_on_while_no_agent_is_there(agent: Agent) -> None:
    """And what they have to say is said to the next one, in order."""
    code = (
        "import asyncio, os\nasync def f(x):\n    yield 'first'\n    while not os.path.exists('gone'):\n"
        "        await asyncio.sleep(0.002)\n    yield 'second'\n    open(f'done{x}', 'w').close()\n"
    )
    agent.load(code, "f", max_inputs=2)
    numbers = [agent.input(x, header={"c": 9}) for x in range(2)]
    assert [agent.receive().kind for _ in numbers] == [protocol.YIELD] * 2
    assert agent.connection is not None
    agent.listener.close()
    agent.connection.close()
    (agent.folder / "gone").touch()
    deadline = time.monotonic() + 20
    while not all((agent.folder / f"done{x}").exists() for x in range(2)):
        assert time.monotonic() < deadline, "the tasks stand still"
        time.sleep(0.01)
    agent.listen()
    assert [n for n, _, _ in agent.accept().header["held"]] == numbers
    frames = [agent.receive() for _ in range(4)]
    for number in numbers:
        mine = [f for f in frames if f.input == number]
        assert [f.kind for f in mine] == [protocol.YIELD, protocol.OUTPUT]
        assert pickle.loads(mine[0].payload) == "second"
        assert mine[1].header["n"] == 2
    assert agent.configure("f", max_inputs=2).kind == protocol.READY
    assert agent.stop()[0] == 0


# ---------------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("code", [GROUP, AGROUP], ids=["sync", "async"])
def test_a_batch_is_one_call(agent: Agent, code: str) -> None:
    agent.load(code, "f", batching={"": [4, 30.0]}, max_inputs=1)
    numbers = [agent.input(x) for x in "abcd"]
    begun = agent.receive()
    assert (begun.kind, begun.header) == (protocol.BEGUN, {"ins": numbers})
    assert answers(agent, 4) == {n: (x, 4) for n, x in zip(numbers, "abcd", strict=True)}


def test_the_first_waits_no_longer_than_it_should(agent: Agent) -> None:
    agent.load(GROUP, "f", batching={"": [100, 0.2]}, max_inputs=1)
    numbers = [agent.input(x) for x in "ab"]
    assert answers(agent, 2) == {n: (x, 2) for n, x in zip(numbers, "ab", strict=True)}


def test_batches_side_by_side(agent: Agent) -> None:
    code = "import threading\nbarrier = threading.Barrier(2)\ndef f(x):\n    barrier.wait(20)\n    return x\n"
    agent.load(code, "f", batching={"": [2, 30.0]}, max_inputs=2)
    numbers = [agent.input(x) for x in range(4)]
    assert answers(agent, 4) == {n: x for x, n in enumerate(numbers)}


def test_all_ways_to_pass_arguments(agent: Agent) -> None:
    code = "def f(a, /, b, c=3, *, d=4):\n    return list(zip(a, b, c, d))\n"
    agent.load(code, "f", batching={"": [3, 30.0]}, max_inputs=1)
    first, second, third = agent.input(1, 2), agent.input(1, b=7, d=8), agent.input(1, 2, 9)
    assert answers(agent, 3) == {first: (1, 2, 3, 4), second: (1, 7, 3, 8), third: (1, 2, 9, 4)}


def test_what_is_wrong_with_one_is_its_own(agent: Agent) -> None:
    code = "def f(x):\n    return [ValueError(y) if y == 3 else (lambda: y) if y == 4 else y for y in x]\n"
    agent.load(code, "f", batching={"": [5, 30.0]}, max_inputs=1)
    unpicklable = agent.number = agent.number + 1
    header = {"in": "fc-1:1", "a": 1, "call": "fc-1"}
    agent.send(protocol.encode(protocol.INPUT, unpicklable, header, b"no pickle"))
    surplus, fails, odd, good = agent.input(1, 2), agent.input(3), agent.input(4), agent.input(5)
    found = answers(agent, 5)
    assert found[good] == 5
    assert (found[unpicklable]["s"], found[unpicklable]["type"]) == ("failed", "DeserializationError")
    assert (found[surplus]["s"], found[surplus]["message"]) == (
        "exception",
        "f: too many positional arguments",
    )
    assert (found[fails]["s"], found[fails]["type"]) == ("exception", "ValueError")
    assert callable(found[odd]) or found[odd]["type"] == "SerializationError"


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("x[1:]", "returned a list of 1 for 2 inputs"),
        ("x[0]", "returned a int for 2 inputs"),
        ("tuple(x)", "returned a tuple for 2 inputs: return a list with one result for each"),
    ],
)
def test_a_result_that_is_no_list_of_as_many(agent: Agent, returned: str, message: str) -> None:
    agent.load(f"def f(x):\n    return {returned}\n", "f", batching={"": [2, 30.0]}, max_inputs=1)
    for x in range(2):
        agent.input(x)
    for header in answers(agent, 2).values():
        assert (header["s"], header["type"]) == ("failed", "InvalidError")
        assert message in header["message"]


def test_an_exception_of_the_call_is_everybodys(agent: Agent) -> None:
    agent.load("def f(x):\n    return 1 / 0\n", "f", batching={"": [2, 30.0]}, max_inputs=1)
    for x in range(2):
        agent.input(x)
    assert {h["type"] for h in answers(agent, 2).values()} == {"ZeroDivisionError"}


def test_a_batch_of_nothing_but_wrong_arguments_calls_nobody(agent: Agent) -> None:
    agent.load("def f(x):\n    raise SystemExit\n", "f", batching={"": [2, 30.0]}, max_inputs=1)
    for _ in range(2):
        agent.input()
    assert {h["type"] for h in answers(agent, 2).values()} == {"TypeError"}


@kinds
def test_cancelling_one_of_a_batch_drops_its_result(agent: Agent, kind: str) -> None:
    go = "    print('go', flush=True)\n    while not open('gate').read():\n        "
    code = {
        "sync": f"import time\ndef f(x):\n{go}time.sleep(0.001)\n    return x\n",
        "async": f"import asyncio\nasync def f(x):\n{go}await asyncio.sleep(0.001)\n    return x\n",
    }
    gate = agent.folder / "gate"
    gate.write_text("")
    agent.load(code[kind], "f", batching={"": [3, 30.0]}, max_inputs=1)
    first, second, third = (agent.input(x) for x in range(3))
    have_begun(agent, 1)
    agent.cancel(second)
    assert answers(agent, 1)[second]["s"] == "cancelled"
    gate.write_text("open")
    assert answers(agent, 2) == {first: 0, third: 2}


@kinds
def test_cancelling_a_whole_batch_interrupts_it(agent: Agent, kind: str) -> None:
    agent.load(LOOP[kind].replace("60 * busy", "60"), "f", batching={"": [2, 30.0]}, max_inputs=1)
    numbers = [agent.input(1) for _ in range(2)]
    have_begun(agent, 1)
    for number in numbers:
        agent.cancel(number)
    assert {h["s"] for h in answers(agent, 2).values()} == {"cancelled"}


def test_one_that_gathers_can_be_cancelled(agent: Agent) -> None:
    agent.load(GROUP, "f", batching={"": [2, 600.0]}, max_inputs=1)
    first = agent.input("a")
    agent.cancel(first)
    assert answers(agent, 1)[first]["s"] == "cancelled"
    numbers = [agent.input(x) for x in "bc"]
    assert answers(agent, 2) == {n: (x, 2) for n, x in zip(numbers, "bc", strict=True)}

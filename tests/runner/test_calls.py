"""Inputs through a real runner: results, exceptions, generators, async, large payloads."""

from __future__ import annotations

import os
import pickle
import time
from typing import TYPE_CHECKING

import pytest

from squall.runner import protocol
from squall.runner.protocol import memfd, spool

if TYPE_CHECKING:
    from tests.runner.conftest import Agent


def test_calls_a_function(agent: Agent) -> None:
    agent.load("def add(a, b=1):\n    return a + b\n", "add")
    assert agent.call(1) == 2
    assert agent.call(1, b=5) == 6


def test_many_inputs_at_once_come_back_in_order(agent: Agent) -> None:
    agent.load("def same(x):\n    return x\n", "same")
    frames = [protocol.encode(protocol.INPUT, n, {}, pickle.dumps(((n,), {}))) for n in range(500)]
    agent.send(*frames)
    assert [agent.result() for _ in range(500)] == list(range(500))


def test_prefers_what_the_decorator_wrapped(agent: Agent) -> None:
    code = "class Wrapped:\n    def __init__(self, f): self.raw_f = f\n@Wrapped\ndef f():\n    return 'raw'\n"
    agent.load(code, "f")
    assert agent.call() == "raw"


def test_async_function(agent: Agent) -> None:
    agent.load("import asyncio\nasync def f(x):\n    await asyncio.sleep(0)\n    return x * 2\n", "f")
    assert agent.call(4) == 8
    assert agent.call(5) == 10


def test_modules_of_the_script_are_main_too(agent: Agent) -> None:
    agent.load("class Point:\n    x = 3\ndef f(point):\n    return point().x\n", "f")
    agent.number += 1
    payload = b"\x80\x05" + b"c__main__\nPoint\n" + b"\x85}\x86."  # ((Point,), {})
    agent.send(protocol.encode(protocol.INPUT, agent.number, {}, payload))
    assert agent.result() == 3


def test_context_names_the_running_input(agent: Agent) -> None:
    code = (
        "import sys\ndef f():\n    c = sys.modules['squall.runner.context']\n"
        "    return c.input_id, c.call_id\n"
    )
    agent.load(code, "f")
    assert agent.call() == ("fc-1:1", "fc-1")


def test_exception_keeps_type_cause_and_the_users_frames(agent: Agent) -> None:
    code = (
        "class Odd(Exception):\n    pass\n"
        "def inner():\n    raise ValueError('no')\n"
        "def f():\n    try:\n        inner()\n"
        "    except ValueError as e:\n        raise Odd('yes', 7) from e\n"
    )
    (agent.source / "odd.py").write_text(code)
    agent.load("from odd import f\n", "f")
    agent.input()
    frame = agent.receive()
    assert frame.header["s"] == "exception"
    assert (frame.header["type"], frame.header["message"]) == ("Odd", "('yes', 7)")
    assert "in inner" in frame.header["tb"]
    assert "direct cause" in frame.header["tb"]
    assert "squall/runner" not in frame.header["tb"]
    assert b"odd" in frame.payload


def test_builtin_exception_round_trips_with_its_cause(agent: Agent) -> None:
    agent.load("def f():\n    raise KeyError('k') from ValueError('v')\n", "f")
    agent.input()
    error = pickle.loads(agent.receive().payload)
    assert (type(error), error.args) == (KeyError, ("k",))
    assert (type(error.__cause__), error.__cause__.args) == (ValueError, ("v",))


def test_exception_that_cannot_be_pickled_is_told_in_words(agent: Agent) -> None:
    code = (
        "class E(Exception):\n    def __init__(self, a, b):\n"
        "        super().__init__('only')\ndef f():\n    raise E(1, 2)\n"
    )
    agent.load(code, "f")
    agent.input()
    frame = agent.receive()
    assert (frame.payload, frame.header["type"], frame.header["message"]) == (b"", "E", "only")


@pytest.mark.parametrize("how", ["raise SystemExit(3)", "import sys; sys.exit(3)", "raise KeyboardInterrupt"])
def test_the_runner_survives_exits_of_user_code(agent: Agent, how: str) -> None:
    agent.load(f"def f(die):\n    if die:\n        {how}\n    return 'alive'\n", "f")
    agent.input(True)
    assert agent.receive().header["s"] == "exception"
    assert agent.call(False) == "alive"


def test_a_result_that_cannot_be_pickled_is_an_error_that_says_so(agent: Agent) -> None:
    agent.load("import threading\ndef f():\n    return threading.Lock()\n", "f")
    agent.input()
    header = agent.receive().header
    assert (header["s"], header["type"]) == ("failed", "SerializationError")
    assert "result of f" in header["message"]
    assert "\n" not in header["message"]


def test_a_generator_where_a_value_was_declared(agent: Agent) -> None:
    agent.load("def f():\n    yield 1\n", "f")
    agent.input()
    assert "declare the function as a generator" in agent.receive().header["message"]


def test_functions_come_back_by_cloudpickle(agent: Agent) -> None:
    agent.load("def f():\n    y = 3\n    return lambda x: x + y\n", "f")
    assert agent.call()(4) == 7


def test_arguments_that_do_not_load(agent: Agent) -> None:
    agent.load("def f(x):\n    return x\n", "f")
    agent.send(protocol.encode(protocol.INPUT, 1, {}, b"\x80\x05cnowhere_at_all\nX\n."))
    header = agent.receive().header
    assert (header["s"], header["type"]) == ("failed", "DeserializationError")
    assert "nowhere_at_all" in header["message"]


def test_large_payloads_go_in_sealed_memory_files(agent: Agent) -> None:
    agent.load("def f(data):\n    return data[::-1]\n", "f")
    data = os.urandom(1 << 20)
    fd = memfd.of([pickle.dumps(((data,), {}))])
    agent.send_with([fd], protocol.encode(protocol.INPUT, 1, {"fd": True, "size": os.fstat(fd).st_size}))
    os.close(fd)
    frame = agent.receive()
    assert frame.header["fd"] is True
    assert spool.load(agent.payload(frame)) == data[::-1]


def test_a_result_over_the_limit(agent: Agent) -> None:
    agent.load("def f():\n    return bytes(9 << 20)\n", "f")
    agent.input()
    header = agent.receive().header
    assert (header["s"], header["type"]) == ("failed", "RequestSizeError")


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_generators_stop_at_their_credit(agent: Agent, kind: str) -> None:
    agent.load(f"{kind} f(n):\n    for i in range(n):\n        print(i, flush=True)\n        yield i\n", "f")
    number = agent.input(5, header={"c": 2})
    assert [agent.receive().header["n"] for _ in range(2)] == [0, 1]
    assert agent.process is not None
    assert agent.process.stdout is not None
    assert agent.process.stdout.read(4) == b"0\n1\n"  # and no third one has begun
    agent.send(protocol.encode(protocol.CREDIT, number, {"upto": 4}))
    frames = [agent.receive() for _ in range(2)]
    assert [(f.kind, f.header["n"], pickle.loads(f.payload)) for f in frames] == [(20, 2, 2), (20, 3, 3)]
    agent.send(protocol.encode(protocol.CREDIT, number, {"upto": 64}))
    assert pickle.loads(agent.receive().payload) == 4
    end = agent.receive()
    assert (end.kind, end.header) == (protocol.OUTPUT, {"s": "done", "n": 5})


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_generator_that_raises_tells_how_many_values_it_gave(agent: Agent, kind: str) -> None:
    agent.load(f"{kind} f():\n    yield 1\n    raise ValueError('end')\n", "f")
    agent.input(header={"c": 64})
    assert agent.receive().kind == protocol.YIELD
    header = agent.receive().header
    assert (header["s"], header["n"], header["type"]) == ("exception", 1, "ValueError")


def test_prints_leave_before_the_result(agent: Agent) -> None:
    agent.load("def f():\n    print('grüße', end='')\n", "f")
    agent.call()
    assert agent.process is not None
    assert agent.process.stdout is not None
    assert os.read(agent.process.stdout.fileno(), 100) == "grüße".encode()


def test_a_forked_child_that_comes_back_says_nothing(agent: Agent) -> None:
    agent.load(
        "import os\ndef f():\n    pid = os.fork()\n    if pid: os.waitpid(pid, 0)\n    return 1\n", "f"
    )
    assert agent.call() == 1
    assert agent.call() == 1
    assert agent.stop()[0] == 0


def test_one_thread_only(agent: Agent) -> None:
    agent.load("import os\ndef f():\n    return len(os.listdir('/proc/self/task'))\n", "f")
    assert agent.call() == 1


@pytest.mark.parametrize("code", ["{}", "async {}", "{}\n    yield", "{}\n    raise ValueError"])
def test_traced_inputs_tell_their_times(agent: Agent, code: str) -> None:
    before = time.monotonic()
    agent.load(code.format("def f():\n    import time; time.sleep(0.01)"), "f")
    header = {"t": True, **({"c": 9} if "yield" in code else {})}
    agent.input(header=header)
    while (frame := agent.receive()).kind != protocol.OUTPUT:
        assert frame.kind == protocol.YIELD
    times = frame.header["t"]
    assert list(times) == ["received", "begin", "end", "sent"]
    assert [before, *times.values()] == sorted([before, *times.values()])
    assert times["end"] - times["begin"] >= 0.01


def test_an_input_that_is_not_traced_has_no_times(agent: Agent) -> None:
    agent.load("def f(): pass", "f")
    agent.input()
    assert "t" not in agent.receive().header


def test_stop_runs_exit_hooks(agent: Agent) -> None:
    agent.load("import atexit\natexit.register(print, 'bye')\ndef f(): pass\n", "f")
    code, stdout, _ = agent.stop()
    assert (code, stdout) == (0, b"bye\n")

"""The runner outlives its agent: it comes back on the same path with what it holds."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from squall.runner import protocol

if TYPE_CHECKING:
    from tests.runner.conftest import Agent

SLOW = (
    "import os, sys, time\ndef f(path):\n    print('go', flush=True)\n"
    "    while not os.path.exists(path): time.sleep(0.01)\n    return path\n"
)


def test_reconnects_with_the_input_it_runs(agent: Agent) -> None:
    agent.load(SLOW, "f")
    gate = str(agent.folder / "gate")
    number = agent.input(gate)
    assert agent.process is not None
    assert agent.process.stdout is not None
    agent.process.stdout.readline()
    assert agent.connection is not None
    agent.connection.close()
    agent.listener.close()
    open(gate, "w").close()
    agent.listen()
    assert agent.accept().header["held"] == [[number, "fc-1:1", 1]]
    answers = [agent.receive(), agent.configure("f")]
    assert [(a.kind, a.input) for a in answers] == [(protocol.OUTPUT, number), (protocol.READY, 0)]
    assert agent.call(gate) == gate


def test_it_is_ready_once_for_each_agent(agent: Agent) -> None:
    """The first one dies while the function is loaded; the second asks by itself."""
    code = "import os, time\nprint('go', flush=True)\nwhile not os.path.exists({!r}): time.sleep(0.01)\n"
    gate = str(agent.folder / "gate")
    (agent.source / "work.py").write_text(code.format(gate) + "def f():\n    return 1\n")
    agent.start()
    agent.order("f")
    assert agent.process is not None
    assert agent.process.stdout is not None
    agent.process.stdout.readline()
    assert agent.connection is not None
    agent.connection.close()
    agent.listener.close()
    agent.listen()
    open(gate, "w").close()
    agent.accept()
    assert agent.configure("f").kind == protocol.READY
    assert agent.call() == 1


@pytest.mark.parametrize("slots", [1, 2])
def test_what_one_agent_cancelled_is_nothing_to_the_next(agent: Agent, slots: int) -> None:
    """Which counts its inputs anew."""
    agent.load("def f(x):\n    return x\n", "f", max_inputs=slots)
    assert agent.call(1) == 1
    agent.cancel(agent.number + 2)
    assert agent.connection is not None
    agent.connection.close()
    agent.listener.close()
    agent.listen()
    agent.accept()
    agent.configure("f", max_inputs=slots)
    agent.number = 0
    for x in range(4):
        assert agent.call(x) == x


def test_an_idle_runner_reconnects_and_is_ready_again(agent: Agent) -> None:
    agent.load("def f(x):\n    return x\n", "f")
    assert agent.call(1) == 1
    assert agent.connection is not None
    agent.connection.close()
    agent.listener.close()
    agent.listen()
    assert agent.accept().header["held"] == []
    assert agent.configure("f").kind == protocol.READY
    assert agent.call(2) == 2
    number = agent.input(3)
    agent.cancel(number)  # the new alarm works
    assert agent.receive().input == number


def test_a_long_socket_path(agent: Agent) -> None:
    folder = agent.folder / ("x" * 120)
    folder.mkdir()
    os.symlink(agent.path, folder / "agent.sock")
    (agent.source / "work.py").write_text("def f():\n    return 1\n")
    agent.path = str(folder / "agent.sock")
    agent.start()
    assert agent.configure("f").kind == protocol.READY

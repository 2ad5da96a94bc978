"""What the agent believes of an answer to a chunk, and whose doing the end of its container was."""

from __future__ import annotations

import os
import pickle
import signal
from typing import TYPE_CHECKING, Any

import pytest

from squall.node import chunks
from squall.node.direct import Page
from squall.node.inputs import Attempt
from squall.node.journal import Journal
from squall.runner import protocol
from squall.runner.protocol import BadFrame, direct
from squall.wire import messages as m
from squall.wire.values import Payload
from tests.node.fake_server import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.node.conftest import Node, Run

ERROR = {"s": "exception", "type": "E", "message": "m", "tb": "t"}


def attempt(count: int = 3, verdict: str = "") -> Attempt:
    made = Attempt(1, m.NodeInput("fc-1:10", 1, Payload(), "fc-1", timeout=5.0), count=count)
    made.verdict = verdict
    return made


def test_a_part_of_a_chunk_may_be_done() -> None:
    found = chunks.covered(attempt(), {"sizes": [1, 2], "parts": [[1, ERROR]]}, 3)
    assert (found.count, found.offset, found.sizes) == (2, 0, [1, 2])
    assert [(p.offset, p.outcome.status) for p in found.parts or ()] == [(1, "exception")]


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"sizes": []},
        {"sizes": [1, 1, 1, 0]},
        {"sizes": [1, 1]},
        {"sizes": [4, -1]},
        {"sizes": [3.0]},
        {"sizes": [True, 2]},
        {"sizes": [3], "parts": 5},
        {"sizes": [3], "parts": [[1, ERROR]]},
        {"sizes": [3], "parts": [[-1, ERROR]]},
        {"sizes": [1, 2], "parts": [[True, ERROR]]},
        {"sizes": [1, 2], "parts": [[0, ERROR], [0, ERROR]]},
        {"sizes": [3], "parts": [[0, {"s": "ok"}]]},
        {"sizes": [3], "parts": [[0, {}]]},
        {"sizes": [3], "parts": [[0, {"s": "done"}]]},
        {"sizes": [3], "parts": [[0]]},
    ],
)
def test_nonsense(header: dict[str, Any]) -> None:
    with pytest.raises(BadFrame):
        chunks.covered(attempt(), header, 3)


def test_the_input_that_was_interrupted_ran_too_long() -> None:
    header = {"sizes": [3, 0], "parts": [[1, {"s": "cancelled"}]], "ran": 5.1}
    found = chunks.covered(attempt(verdict="timeout"), header, 3)
    assert found.count == 2
    assert [(p.offset, p.outcome.status) for p in found.parts or ()] == [(1, "timeout")]


def test_one_that_was_interrupted_for_its_predecessor_begins_anew() -> None:
    header = {"sizes": [3, 0], "parts": [[1, {"s": "cancelled"}]], "ran": 0.1}
    found = chunks.covered(attempt(verdict="timeout"), header, 3)
    assert (found.count, found.parts) == (1, None)


def test_one_that_ended_by_itself_in_its_time_has_its_result() -> None:
    found = chunks.covered(attempt(verdict="timeout"), {"sizes": [3], "ran": 0.1}, 3)
    assert (found.count, found.parts) == (1, None)


def test_one_that_did_not_react_ran_too_long_whatever_it_says() -> None:
    found = chunks.covered(attempt(verdict="timeout"), {"sizes": [3], "ran": 5.1}, 3)
    assert [p.outcome.status for p in found.parts or ()] == ["timeout"]


def test_whose_doing_the_end_was() -> None:
    dead = attempt()
    assert chunks.blamed(dead) is None, "the agent before us knew"
    dead.page = Page(0.0)
    theirs = dead.page.lend()
    for begun, offset in ((0, 0), (1, 0), (3, 2), (99, 2)):
        os.pwrite(theirs, direct.PAGE.pack(begun, 1.0, 0.0), 0)
        assert chunks.blamed(dead) == chunks.Covered(1, offset)
    os.pwrite(theirs, direct.PAGE.pack(3, 0.0, 0.0), 0)
    assert chunks.blamed(dead) is None, "none of them ran any more"
    os.close(theirs)


def test_the_journal_knows_how_many_inputs_a_chunk_has(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "inputs")
    journal.add(1, "fc-1:0", 2)
    journal.add(2, "fc-1:1", 3, 250)
    journal.close()
    again = Journal(tmp_path / "inputs")
    assert [(n.number, n.inputs) for n in again.noted()] == [(1, 1), (2, 250)]
    again.close()


ADD = "def f(x):\n    return x + 1\n"
DIES = "import os, signal\ndef f(x):\n    if x == 2:\n        os.kill(os.getpid(), {signal})\n    return x\n"


def assign(node: Node, container: str, count: int) -> None:
    parts = [pickle.dumps(((n,), {})) for n in range(count)]
    data = b"".join(parts)
    item = m.NodeInput("fc-c:10", 1, Payload(data, size=len(data)), "fc-c", sizes=[len(p) for p in parts])
    node.server.send(m.Assign(container, [item]))


def test_a_chunk_is_answered_as_one(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(ADD)
        assign(node, container, 5)
        output = (await node.server.output("fc-c:10")).output
        assert (output.index, output.count, output.outcome.status) == (10, 5, "ok")
        view, results = output.outcome.payload.data, []
        for size in output.sizes or ():
            results.append(pickle.loads(view[:size]))
            view = view[size:]
        assert results == [1, 2, 3, 4, 5]

    run(scenario)


def test_a_runner_that_takes_none_gets_none(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one of an older Squall, whom this agent has adopted."""
    from squall.node import conversation

    takes = conversation.Conversation._hello

    def hello(self: Any, frame: protocol.Frame, fd: int | None) -> None:
        del frame.header["chunks"]
        takes(self, frame, fd)

    monkeypatch.setitem(conversation._HANDLERS, protocol.HELLO, hello)

    async def scenario(node: Node) -> None:
        container = await node.container(ADD)
        assign(node, container, 5)
        output = (await node.server.output("fc-c:10")).output
        assert (output.index, output.count) == (10, 0)
        assert await node.call(container, 1) == 2

    run(scenario)


def test_the_input_that_crashed_it_is_named(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(DIES.format(signal=int(signal.SIGABRT)))
        assign(node, container, 5)
        output = (await node.server.output("fc-c:10")).output
        assert (output.index, output.count, output.outcome.status) == (12, 1, "failed")

    run(scenario)


def test_a_chunk_in_a_container_that_was_killed_is_the_servers(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(DIES.format(signal=int(signal.SIGKILL)))
        assign(node, container, 5)
        state = await node.ended(container)
        assert (state.reason, state.returned) == ("killed", [])
        await until(lambda: any(isinstance(x, m.InputsStarted) for x in node.server.messages))
        assert not any(isinstance(x, m.NodeOutputs) for x in node.server.messages)

    run(scenario)


def test_the_time_of_one_input_is_not_that_of_the_chunk(run: Run) -> None:
    code = "import time\ndef f(x):\n    time.sleep(60 if x == 2 else 0.04)\n    return x\n"

    async def scenario(node: Node) -> None:
        container = await node.container(code)
        parts = [pickle.dumps(((n,), {})) for n in range(4)]
        item = m.NodeInput(
            "fc-c:10", 1, Payload(b"".join(parts)), "fc-c", sizes=[len(p) for p in parts], timeout=1.0
        )
        node.server.send(m.Assign(container, [item]))
        output = (await node.server.output("fc-c:10")).output
        assert output.count == 3
        assert [(p.offset, p.outcome.status) for p in output.parts or ()] == [(2, "timeout")]

    run(scenario)

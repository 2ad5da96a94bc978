"""How inputs and containers end that do not end by themselves, and what becomes of what they had."""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING

import pytest

from squall.node import ends
from squall.node.ends import End
from squall.runtime.driver import DriverError
from squall.runtime.spec import ExitStatus
from squall.wire import messages as m

if TYPE_CHECKING:
    from tests.node.conftest import Node, Run


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "no space"), True),
        (OSError(errno.EDQUOT, "over quota"), True),
        (caused(DriverError("cannot run"), OSError(errno.ENOSPC, "x")), True),
        (DriverError("cannot make a root: No space left on device"), True),
        (OSError(errno.EACCES, "x"), False),
        (DriverError("cannot run"), False),
    ],
)
def test_a_full_disk_is_told_apart(error: Exception, full: bool) -> None:
    assert ends.is_full_disk(error) is full


SLEEP = (
    "import time\ndef f(seconds=60):\n    print('go', flush=True)\n"
    "    time.sleep(seconds)\n    return 'slept'\n"
)
DEAF = (
    "import time\ndef f():\n    while True:\n        try:\n"
    "            time.sleep(9)\n        except BaseException:\n"
    "            pass\n"
)


@pytest.mark.parametrize(
    ("status", "ordered", "reason"),
    [
        (ExitStatus(signal=9, oom=True), None, "oom"),
        (ExitStatus(signal=9, by_us=True), End("stopped", ""), "stopped"),
        (ExitStatus(signal=9), None, "killed"),
        (ExitStatus(signal=15), None, "killed"),
        (ExitStatus(signal=11), None, "signal"),
        (ExitStatus(signal=6), None, "signal"),
        (ExitStatus(code=0), None, "exit"),
        (ExitStatus(code=3, pids_hit=True), None, "exit"),
        (ExitStatus(code=1), End("import", ""), "import"),
    ],
)
def test_describes(status: ExitStatus, ordered: End | None, reason: str) -> None:
    end = ends.described(status, ordered, 512)
    assert end.reason == reason
    assert "\n" not in end.message


def test_timeout_of_an_input_that_reacts(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(SLEEP)
        outcome = (await node.server.output(node.assign(container, timeout=0.2))).output.outcome
        assert outcome.error is not None
        assert (outcome.status, outcome.error.type) == ("timeout", "FunctionTimeoutError")
        assert await node.call(container, 0) == "slept"

    run(scenario)


def test_timeout_of_an_input_that_does_not(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(DEAF)
        first, second = node.assign(container, timeout=0.2), node.assign(container)
        assert (await node.server.output(first)).output.outcome.status == "timeout"
        state = await node.ended(container)
        assert (state.state, state.reason, state.returned) == ("exited", "stopped", [(second, 1)])

    run(scenario)


def test_the_clock_of_a_waiting_input_does_not_run(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(SLEEP)
        node.assign(container, 0.4)
        second = node.assign(container, 0, timeout=0.2)
        assert (await node.server.output(second)).output.outcome.status == "ok"

    run(scenario)


def test_revokes_the_running_and_the_waiting(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container("def f(busy):\n    while busy:\n        pass\n    return 'fine'\n")
        inputs = [node.assign(container, busy) for busy in (1, 1, 1, 1, 0)]
        await node.server.expect(m.InputsStarted, inputs=[(inputs[0], 1)])
        node.server.send(m.Revoke(container, [(i, 1) for i in reversed(inputs[:4])]))
        for input_id in inputs[:4]:
            assert (await node.server.output(input_id)).output.outcome.status == "cancelled"
        assert (await node.server.output(inputs[4])).output.outcome.status == "ok"
        outputs = [i.input for x in node.server.messages if isinstance(x, m.NodeOutputs) for i in x.items]
        assert sorted(outputs) == sorted(inputs)  # each once

    run(scenario)


def test_recalls_only_what_has_not_begun(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(SLEEP)
        inputs = [node.assign(container, seconds) for seconds in (0.5, 60, 60, 0)]
        await node.server.expect(m.InputsStarted, inputs=[(inputs[0], 1)])
        node.server.send(m.Revoke(container, [(i, 1) for i in inputs[:3]], recall=True))
        for input_id in inputs[1:3]:
            assert (await node.server.output(input_id)).output.outcome.status == "cancelled"
        for input_id in (inputs[0], inputs[3]):
            assert (await node.server.output(input_id)).output.outcome.status == "ok"

    run(scenario)


def test_revoke_with_terminate_ends_the_container(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(SLEEP)
        input_id = node.assign(container)
        await node.server.expect(m.InputsStarted)
        node.server.send(m.Revoke(container, [(input_id, 1)], terminate=True))
        assert (await node.server.output(input_id)).output.outcome.status == "cancelled"
        assert (await node.ended(container)).reason == "stopped"

    run(scenario)


@pytest.mark.parametrize(
    ("how", "reason", "code", "signal"),
    [
        ("os._exit(3)", "exit", 3, None),
        ("os.kill(os.getpid(), 11)", "signal", None, 11),
        ("os.abort()", "signal", None, 6),
    ],
)
def test_a_container_that_dies_of_its_input(
    run: Run, how: str, reason: str, code: int | None, signal: int | None
) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(
            f"import os, time\ndef f():\n    time.sleep(0.1)\n    print('last')\n    {how}\n"
        )
        inputs = [node.assign(container) for _ in range(4)]
        outcome = (await node.server.output(inputs[0])).output.outcome
        assert outcome.error is not None
        assert (outcome.status, outcome.error.type) == ("failed", "RemoteError")
        state = await node.ended(container)
        assert (state.state, state.reason, state.exit_code, state.signal) == ("exited", reason, code, signal)
        assert state.returned == [(i, 1) for i in inputs[1:]]
        assert state.usage.cpu_seconds is not None
        assert b"last" in node.server.log(container)

    run(scenario)


def test_killed_from_outside_its_input_is_a_victim(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container("import os\ndef f():\n    os.kill(os.getpid(), 9)\n")
        first, second = node.assign(container), node.assign(container)
        state = await node.ended(container)
        assert (state.reason, state.returned) == ("killed", [(second, 1)])
        outputs = [i.input for x in node.server.messages if isinstance(x, m.NodeOutputs) for i in x.items]
        assert first not in outputs  # the server runs it again
        told = [x for x in node.server.messages if isinstance(x, (m.InputsStarted, m.ContainerState))]
        began = m.InputsStarted(container, [(first, 1)])
        assert began in told[: told.index(state)], "else it would not count as a run, and never stop"

    run(scenario)


def test_a_result_just_before_the_end_counts(run: Run) -> None:
    async def scenario(node: Node) -> None:
        code = (
            "import os, threading\ndef f():\n"
            "    threading.Timer(0.05, os._exit, [4]).start()\n"
            "    return 'made it'\n"
        )
        container = await node.container(code)
        assert await node.call(container) == "made it"
        assert (await node.ended(container)).exit_code == 4

    run(scenario)


def test_an_import_that_fails(run: Run) -> None:
    async def scenario(node: Node) -> None:
        order = node.order("import no_such_thing\n")
        node.server.send(order)
        input_id = node.assign(order.container)
        state = await node.ended(order.container)
        assert (state.state, state.reason) == ("failed", "import")
        assert 'add .pip_install("no_such_thing")' in state.message
        assert state.returned == [(input_id, 1)]
        assert b"no_such_thing" in node.server.log(order.container, 2)

    run(scenario)


def test_a_start_that_takes_too_long(run: Run) -> None:
    async def scenario(node: Node) -> None:
        order = node.order("import time\ntime.sleep(60)\n", startup_timeout=0.4)
        node.server.send(order)
        state = await node.ended(order.container)
        assert (state.state, state.reason) == ("failed", "startup_timeout")

    run(scenario)


def test_a_program_that_is_not_there(run: Run) -> None:
    async def scenario(node: Node) -> None:
        node.builder.pythons["bad"] = "/nowhere/python"
        order = node.order("def f(): pass\n", base="bad")
        node.server.send(order)
        state = await node.ended(order.container)
        assert state.state == "failed"
        assert "/nowhere/python" in state.message

    run(scenario)


def test_stop_at_once(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(SLEEP)
        node.assign(container)
        node.server.send(m.StopContainer(container))
        state = await node.ended(container)
        assert (state.state, state.reason) == ("exited", "stopped")
        assert not list(node.state.glob("containers/*"))

    run(scenario)


def test_stop_while_it_starts(run: Run) -> None:
    async def scenario(node: Node) -> None:
        order = node.order("import time\ntime.sleep(60)\n")
        node.server.send(order, m.StopContainer(order.container))
        assert (await node.ended(order.container)).reason == "stopped"

    run(scenario)


def test_drain_lets_the_running_input_finish(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container("import atexit\natexit.register(print, 'bye')\n" + SLEEP)
        first, second, third = (node.assign(container, 0.3) for _ in range(3))
        await node.server.expect(m.InputsStarted)
        node.server.send(m.StopContainer(container, drain=True, grace=10))
        assert (await node.server.output(first)).output.outcome.status == "ok"
        state = await node.ended(container)
        assert (state.reason, state.exit_code, state.returned) == ("stopped", 0, [(second, 1), (third, 1)])
        assert node.server.log(container).endswith(b"bye\n")

    run(scenario)


def test_drain_has_an_end(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(SLEEP)
        node.assign(container)
        await node.server.expect(m.InputsStarted)
        node.server.send(m.StopContainer(container, drain=True, grace=0.2))
        assert (await node.ended(container)).reason == "stopped"

    run(scenario)


def test_the_lease(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await node.container(SLEEP)
        node.assign(container)
        await node.server.expect(m.InputsStarted)
        await node.server.stop()
        for _ in range(200):
            if not list(node.state.glob("containers/*")):
                break
            await asyncio.sleep(0.05)
        assert not list(node.state.glob("containers/*"))

    def prepare(node: Node) -> None:
        node.server.lease = 0.6

    run(scenario, prepare)

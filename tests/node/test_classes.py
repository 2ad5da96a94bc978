"""Classes on a node: the object is made before READY, and has its last words before the container ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from squall.wire import messages as m
from squall.wire.values import ClassSpec, MethodSpec, ParameterSpec

if TYPE_CHECKING:
    from tests.node.conftest import Node, Run

CLASS = ClassSpec(
    {"run": MethodSpec(), "sleep": MethodSpec()},
    {"size": ParameterSpec("str"), "key": ParameterSpec("bytes", b"")},
    exits=True,
)
MODEL = """
import squall, sys, time
app = squall.App("a")

@app.cls()
class Model:
    size: str = squall.parameter()
    key: bytes = squall.parameter(default=b"")

    @squall.enter()
    def load(self):
        print("entered", self.size, flush=True)

    @squall.exit()
    def leave(self):
        print("left", self.size)

    @squall.method()
    def run(self, x):
        return self.size, self.key, x

    @squall.method()
    def sleep(self):
        print("sleeping", flush=True)
        time.sleep(60)
"""


async def model(node: Node, code: str = MODEL, **function: Any) -> str:
    values: dict[str, Any] = {"size": "large", "key": b"\xff"}
    return await node.container(code, "Model", class_=CLASS, parameters=values, **function)


async def logged(node: Node, container: str, text: bytes) -> None:
    while text not in node.server.log(container):
        await node.server.expect(m.NodeLogs, after=len(node.server.messages))


def test_a_method_of_an_object_with_parameters(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await model(node)
        output = await node.server.output(node.assign(container, 5, method="run"))
        assert output.output.outcome.status == "ok"
        assert b"large" in output.output.outcome.payload.data
        assert b"\xff" in output.output.outcome.payload.data
        node.server.send(m.StopContainer(container, drain=True))
        state = await node.ended(container)
        assert (state.reason, state.exit_code) == ("stopped", 0)
        assert node.server.log(container) == b"entered large\nleft large\n"

    run(scenario)


def test_an_app_that_is_stopped_interrupts_and_lets_objects_leave(run: Run) -> None:
    async def scenario(node: Node) -> None:
        container = await model(node)
        running, waiting = node.assign(container, method="sleep"), node.assign(container, 1, method="run")
        await logged(node, container, b"sleeping")
        node.server.send(m.StopContainer(container, drain=False))
        state = await node.ended(container)
        assert (state.reason, state.exit_code, state.returned) == ("stopped", 0, [(waiting, 1)])
        assert (await node.server.output(running)).output.outcome.status == "cancelled"
        assert node.server.log(container).endswith(b"left large\n")

    run(scenario)


def test_leaving_has_its_limit(run: Run) -> None:
    code = MODEL.replace('print("left", self.size)', 'print("leaving", flush=True); time.sleep(60)')

    async def scenario(node: Node) -> None:
        container = await model(node, code)
        began = asyncio.get_running_loop().time()
        node.server.send(m.StopContainer(container, drain=True))
        state = await node.ended(container)
        assert (state.reason, state.signal) == ("stopped", 9)
        assert 1.0 <= asyncio.get_running_loop().time() - began < 40
        assert b"leaving" in node.server.log(container)

    run(scenario, lambda node: node.settings.update(exit_grace=1.0))


def test_entering_belongs_to_the_start(run: Run) -> None:
    code = MODEL.replace('print("entered", self.size, flush=True)', "time.sleep(60)")

    async def scenario(node: Node) -> None:
        order = node.order(
            code, "Model", class_=CLASS, parameters={"size": "s"}, startup_timeout=1.0, timeout=90.0
        )
        node.server.send(order)
        state = await node.ended(order.container)
        assert (state.state, state.reason) == ("failed", "startup_timeout")

    run(scenario)


def test_an_object_that_cannot_be_entered(run: Run) -> None:
    code = MODEL.replace('print("entered", self.size, flush=True)', "raise ValueError('no weights')")

    async def scenario(node: Node) -> None:
        order = node.order(code, "Model", class_=CLASS, parameters={"size": "s"})
        node.server.send(order)
        state = await node.ended(order.container)
        assert (state.state, state.reason) == ("failed", "import")
        assert state.message == "@enter of Model failed: ValueError: no weights"
        assert b"raise ValueError('no weights')" in node.server.log(order.container)
        assert b"left" not in node.server.log(order.container)

    run(scenario)

"""Classes in a container: made with their parameters, entered before READY, left at STOP."""

from __future__ import annotations

import base64
import pickle
from typing import TYPE_CHECKING, Any

import cloudpickle
import pytest

from squall.runner import protocol

if TYPE_CHECKING:
    from tests.runner.conftest import Agent

MODEL = """
from __future__ import annotations
import asyncio, os, threading
import squall

app = squall.App("a")

class Base:
    def log(self, word):
        self.__dict__.setdefault("words", []).append(word)

    @squall.enter()
    def base_in(self):
        self.log("base in")

    @squall.exit()
    def base_out(self):
        print("base out", self.size)

@app.cls()
class Model(Base):
    size: str = squall.parameter(default="small")
    layers: int = squall.parameter(default=2)
    key: bytes = squall.parameter(default=b"")
    cache: dict = squall.parameter(init=False)

    @squall.enter()
    async def load(self):
        self.loop = asyncio.get_running_loop()
        self.log("in " + self.size)

    @squall.enter(snap=True)
    def early(self):
        self.log("snap")

    @squall.exit()
    async def out(self):
        print("out", asyncio.get_running_loop() is self.loop)

    @squall.method()
    def run(self, x):
        main = threading.current_thread() is threading.main_thread()
        return [self.size, self.layers, self.key, self.words, x, main]

    @squall.method()
    async def later(self, x):
        await asyncio.sleep(0)
        total = self.plain(x) + self.other.local(1) + await self.deeper(1)
        return total, asyncio.get_running_loop() is self.loop

    @squall.method()
    def other(self, x):
        return self.plain(x) + self.third(x)

    @squall.method()
    def third(self, x):
        return x

    @squall.method()
    async def deeper(self, x):
        return 10 * x

    @squall.method()
    def count(self, n):
        yield from range(n)

    def plain(self, x):
        return x + 100
"""


def bound(values: dict[str, Any]) -> Any:
    """A class with these values of its parameters, in a CONFIG."""
    return {"class": values}


PLAIN: Any = bound({})


def call(agent: Agent, method: str, *args: Any, **header: Any) -> Any:
    agent.input(*args, header={"m": method, **header})
    return agent.result()


def test_methods_of_an_entered_object(agent: Agent) -> None:
    values = {"size": "large", "layers": 7, "key": {"base64": base64.b64encode(b"\0\xff").decode()}}
    agent.load(MODEL, "Model", **bound(values))
    words = ["snap", "base in", "in large"]
    assert call(agent, "run", 5) == ["large", 7, b"\0\xff", words, 5, True]
    assert call(agent, "later", 1) == (101 + 102 + 10, True)
    code, stdout, stderr = agent.stop()
    assert (code, stdout.decode(), stderr) == (0, "base out large\nout True\n", b"")


def test_defaults_where_no_values_are_given(agent: Agent) -> None:
    agent.load(MODEL, "Model", **PLAIN)
    assert call(agent, "run", 5)[:3] == ["small", 2, b""]


def test_generators(agent: Agent) -> None:
    agent.load(MODEL, "Model", **PLAIN)
    agent.input(3, header={"m": "count", "c": 10})
    frames = [agent.receive() for _ in range(4)]
    assert [pickle.loads(f.payload) for f in frames[:3]] == [0, 1, 2]
    assert (frames[3].header["s"], frames[3].header["n"]) == ("done", 3)


def test_a_method_that_is_not_there(agent: Agent) -> None:
    agent.load(MODEL, "Model", **PLAIN)
    for method in ("nonsense", "plain", ""):
        agent.input(1, header={"m": method})
        answer = agent.receive().header
        assert (answer["s"], answer["type"]) == ("failed", "NotFoundError")
    assert call(agent, "third", 1) == 1


def test_a_serialized_class(agent: Agent) -> None:
    (agent.source / "work.py").write_text("")
    namespace: dict[str, Any] = {"__name__": "made_on_the_fly"}
    exec(MODEL.replace("@app.cls()\n", ""), namespace)
    from squall.sdk.blueprint import Blueprint

    payload = cloudpickle.dumps(Blueprint(namespace["Model"]))
    agent.start()
    answer = agent.configure("Model", serialized=True, payload=payload, **bound({"size": "s"}))
    assert answer.kind == protocol.READY, answer
    assert call(agent, "run", 1)[0] == "s"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "@squall.enter()\n    def go(self):\n        raise ValueError('no model')",
            "@enter of M failed: ValueError: no model",
        ),
        (
            "@squall.enter()\n    async def go(self):\n        raise ValueError('no model')",
            "ValueError: no model",
        ),
        (
            "def __init__(self):\n        raise ValueError('no model')",
            "making an object of M failed: ValueError",
        ),
    ],
)
def test_a_start_that_fails_tells_the_users_traceback(agent: Agent, body: str, said: str) -> None:
    code = f"import squall\napp = squall.App('a')\n@app.cls()\nclass M:\n    {body}\n"
    code += (
        "    @squall.exit()\n    def out(self): print('never')\n    @squall.method()\n    def f(self): pass\n"
    )
    (agent.source / "work.py").write_text(code)
    agent.start()
    frame = agent.configure("M", **PLAIN)
    assert frame.kind == protocol.FAILED
    assert said in frame.header["message"]
    assert type(pickle.loads(frame.payload)) is ValueError
    exit_code, stdout, stderr = agent.end()
    assert exit_code == 1
    assert "work.py" in stderr.decode()
    assert "squall/runner" not in stderr.decode()
    assert stdout == b""


def test_one_exit_that_fails_keeps_no_other_from_running(agent: Agent) -> None:
    code = """
import squall
app = squall.App("a")
@app.cls()
class M:
    @squall.exit()
    def first(self): raise ValueError("first")
    @squall.exit()
    def second(self): print("second", end="")
    @squall.method()
    def f(self): return 1
"""
    agent.load(code, "M", **PLAIN)
    assert call(agent, "f") == 1
    exit_code, stdout, stderr = agent.stop()
    assert (exit_code, stdout) == (0, b"second")
    assert "ValueError: first" in stderr.decode()


def test_what_is_no_class_of_an_app(agent: Agent) -> None:
    (agent.source / "work.py").write_text("class M: pass\n")
    agent.start()
    frame = agent.configure("M", **PLAIN)
    assert frame.kind == protocol.FAILED
    assert "not declared with @app.cls()" in frame.header["message"]


def test_the_runner_comes_back_without_a_second_start(agent: Agent) -> None:
    agent.load(MODEL, "Model", **PLAIN)
    words = call(agent, "run", 1)[3]
    assert agent.connection is not None
    agent.connection.close()
    agent.accept()
    assert agent.configure("Model", **PLAIN).kind == protocol.READY
    assert call(agent, "run", 1)[3] == words


def test_methods_side_by_side_on_one_object(agent: Agent) -> None:
    agent.load(MODEL, "Model", max_inputs=3, **PLAIN)
    words = call(agent, "run", 1)[3]
    assert words == ["snap", "base in", "in small"]
    numbers = [agent.input(n, header={"m": method}) for n, method in enumerate(("later", "third", "deeper"))]
    frames = [agent.receive() for _ in numbers]
    assert {f.input: pickle.loads(f.payload) for f in frames} == dict(
        zip(numbers, [(100 + 102 + 10, True), 1, 20], strict=True)
    )
    agent.input(1, header={"m": "nonsense"})
    assert agent.receive().header["type"] == "NotFoundError"
    code, stdout, _ = agent.stop()
    assert (code, stdout.decode()) == (0, "base out small\nout True\n")


def test_a_batched_method(agent: Agent) -> None:
    code = "import squall\napp = squall.App('a')\n@app.cls()\nclass M:\n    k: int = squall.parameter()\n"
    code += "    @squall.method()\n    @squall.batched(max_batch_size=2, wait_ms=60_000)\n"
    code += "    def f(self, x):\n        return [(self.k * n, len(x)) for n in x]\n"
    agent.load(code, "M", max_inputs=1, batching={"f": [2, 60.0]}, **bound({"k": 10}))
    for n in (1, 2):
        agent.input(n, header={"m": "f"})
    frames = [f for f in (agent.receive() for _ in range(3)) if f.kind == protocol.OUTPUT]
    assert [pickle.loads(f.payload) for f in frames] == [(10, 2), (20, 2)]

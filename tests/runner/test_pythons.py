"""The runner under every other Python that this machine has."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from squall.runner import protocol
from squall.runner.protocol import memfd

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.runner.conftest import Agent

CODE = """
import asyncio, time
def add(a, b=1):
    return a + b
async def later(x):
    await asyncio.sleep(0)
    return x
def count(n):
    yield from range(n)
def busy():
    while True:
        pass
def fail():
    raise KeyError("k") from ValueError("v")
def same(x):
    return x
"""


def python(minor: int) -> str:
    """One that works: a name on the PATH may be a mere shim."""
    for found in (shutil.which(f"python3.{minor}"), sys.executable):
        code = f"import sys; sys.exit(sys.version_info[:2] != (3, {minor}))"
        if found and subprocess.run([found, "-c", code], check=False, capture_output=True).returncode == 0:
            return found
    pytest.skip(f"there is no working python3.{minor} on this machine's PATH")


@pytest.mark.parametrize("minor", range(10, 15))
def test_works_under(minor: int, make_agent: Callable[[str], Agent]) -> None:
    path = python(minor)

    def ready(name: str) -> Agent:
        agent = make_agent(path)
        agent.load(CODE, name)
        return agent

    assert ready("add").call(1, b=2) == 3
    assert ready("later").call(5) == 5

    counting = ready("count")
    counting.input(3, header={"c": 64})
    assert [counting.receive().kind for _ in range(4)] == [protocol.YIELD] * 3 + [protocol.OUTPUT]

    failing = ready("fail")
    failing.input()
    error = pickle.loads(failing.receive().payload)
    assert isinstance(error.__cause__, ValueError)

    spinning = ready("busy")
    spinning.cancel(spinning.input())
    assert spinning.receive().header["s"] == "cancelled"

    large = ready("same")
    payload = pickle.dumps(((bytes(1 << 20),), {}), 4)
    fd = memfd.of([payload])
    large.send_with([fd], protocol.encode(protocol.INPUT, 1, {"fd": True, "size": len(payload)}))
    assert large.result() == bytes(1 << 20)
    assert large.stop()[0] == 0

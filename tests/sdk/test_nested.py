"""The same code inside a container: functions find each other, calls name their parent."""

from __future__ import annotations

import pickle
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

import squall
from squall.exception import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sdk.fake_client import FakeServer

CODE = """
@app.function()
def inner(x):
    return x + 1

@app.function()
def outer(x):
    return inner.remote(x) * 10
"""


@pytest.fixture
def module(load: Callable[..., Any], server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    """As loaded in a container of a published app."""
    local = load(CODE)
    local.app.deploy()
    server.container_app = local.app.app_id
    monkeypatch.setenv("SQUALL_IS_REMOTE", "1")
    return load(CODE)


def test_functions_of_the_app_are_found(module: Any, server: FakeServer) -> None:
    assert module.inner.remote(1) == 2
    assert list(module.inner.map([1, 2])) == [2, 3]
    assert module.outer.remote(1) == 20
    assert server.requests.count("app.get") == 1


def test_calls_name_the_input_that_made_them(
    module: Any, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ModuleType("squall.runner.context")
    context.current = lambda: ("fc-1:0", "fc-1")  # type: ignore[attr-defined]
    context.parent = lambda: "fc-1:0"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "squall.runner.context", context)
    module.inner.remote(1)
    assert next(iter(server.calls.values())).parent == "fc-1:0"
    assert (squall.current_input_id(), squall.current_function_call_id()) == ("fc-1:0", "fc-1")


def test_a_function_that_the_app_does_not_have(module: Any, server: FakeServer) -> None:
    app = squall.App("other")
    stranger = app.function()(_stranger)
    with pytest.raises(NotFoundError, match="no function _stranger"):
        stranger.remote()


def test_functions_and_calls_are_arguments(module: Any, server: FakeServer) -> None:
    inner = pickle.loads(pickle.dumps(module.inner))
    assert inner.remote(4) == 5
    call = pickle.loads(pickle.dumps(module.inner.spawn(1)))
    assert call.get() == 2


def test_where_it_runs(module: Any) -> None:
    assert not squall.is_local()


def test_outside_there_is_no_input() -> None:
    assert squall.current_input_id() is None


def _stranger() -> None:
    pass

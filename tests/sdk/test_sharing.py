"""@squall.concurrent and @squall.batched: what they note, what they refuse, and what the server is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import squall
from squall.exception import InvalidError
from squall.sdk import sharing
from squall.sdk.sharing import Sharing
from squall.wire.values import Batching, Concurrency

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sdk.fake_client import FakeServer


@squall.concurrent(max_inputs=10)
def plain(x: int) -> int:
    return x


def test_a_note_and_nothing_else() -> None:
    assert plain(3) == 3
    assert sharing.of(plain) == Sharing(10)
    assert sharing.of(plain).concurrency() == Concurrency(10, 10)
    assert sharing.of(print) == Sharing()


def test_both_in_any_order() -> None:
    both = Sharing(20, 5, 8, 100)

    @squall.concurrent(max_inputs=20, target_inputs=5)
    @squall.batched(max_batch_size=8, wait_ms=100)
    def one(x: list[int]) -> list[int]:
        return x

    @squall.batched(max_batch_size=8, wait_ms=100)
    @squall.concurrent(max_inputs=20, target_inputs=5)
    def two(x: list[int]) -> list[int]:
        return x

    assert sharing.of(one) == sharing.of(two) == both
    assert both.batching() == Batching(8, 0.1)


def test_a_class_notes_it_for_itself_alone() -> None:
    @squall.concurrent(max_inputs=3)
    class Above:
        pass

    class Below(Above):
        pass

    assert sharing.of(Above).max_inputs == 3
    assert sharing.of(Below) == Sharing()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "max_inputs=None is not possible: give a whole number from 1 to 1000"),
        ({"max_inputs": 0}, "max_inputs=0"),
        ({"max_inputs": 1001}, "max_inputs=1001"),
        ({"max_inputs": 4, "target_inputs": 5}, "target_inputs=5 is not possible: max_inputs=4 is less"),
        ({"max_inputs": 4, "target_inputs": 0}, "target_inputs=0"),
    ],
)
def test_concurrent_is_checked(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidError, match=message) as caught:
        squall.concurrent(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_batch_size": 4}, "wait_ms=None is not possible: give a whole number of milliseconds"),
        ({"wait_ms": 4}, "max_batch_size=None"),
        ({"max_batch_size": 1001, "wait_ms": 1}, "max_batch_size=1001"),
        ({"max_batch_size": 1, "wait_ms": 600_001}, "wait_ms=600001"),
        ({"max_batch_size": 1, "wait_ms": 1.5}, "wait_ms=1.5"),
    ],
)
def test_batched_is_checked(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidError, match=message):
        squall.batched(**arguments)


@pytest.mark.parametrize("name", ["concurrent", "batched"])
def test_parentheses(name: str) -> None:
    with pytest.raises(InvalidError, match=rf"write @squall.{name}\(.*\) with its numbers"):
        getattr(squall, name)(plain)


def test_what_cannot_share() -> None:
    batched = squall.batched(max_batch_size=2, wait_ms=1)

    def generator() -> Any:
        yield 1

    def variadic(*args: int) -> None:
        pass

    class Kind:
        def method(self) -> None:
            pass

    with pytest.raises(InvalidError, match="generator is a generator: it cannot be batched"):
        batched(generator)
    with pytest.raises(InvalidError, match=r"variadic takes \*args"):
        batched(variadic)
    with pytest.raises(InvalidError, match="right above the def"):
        batched(Kind)
    with pytest.raises(InvalidError, match="is for functions and classes, and not for 3"):
        batched(3)  # type: ignore[type-var]


def test_a_method_shares_with_its_whole_class() -> None:
    with pytest.raises(InvalidError, match="for the whole class: put it between"):
        squall.concurrent(max_inputs=2)(Method.method)


class Method:
    def method(self) -> None:
        pass


@pytest.mark.parametrize("name", ["concurrent(max_inputs=2)", "batched(max_batch_size=2, wait_ms=1)"])
def test_above_app_function_is_the_wrong_place(load: Callable[..., Any], name: str) -> None:
    with pytest.raises(InvalidError, match=r"put it below @app.function\(\)"):
        load(f"@squall.{name}\n@app.function()\ndef f(): pass\n")


@pytest.mark.parametrize("name", ["concurrent(max_inputs=2)", "batched(max_batch_size=2, wait_ms=1)"])
def test_not_together_with_a_single_use(load: Callable[..., Any], name: str) -> None:
    with pytest.raises(InvalidError, match="f: single_use_containers=True is one input a container"):
        load(f"@app.function(single_use_containers=True)\n@squall.{name}\ndef f(): pass\n")


def test_the_capacity_has_an_end(load: Callable[..., Any]) -> None:
    decorators = "@squall.concurrent(max_inputs=11)\n@squall.batched(max_batch_size=1000, wait_ms=0)\n"
    with pytest.raises(InvalidError, match="max_inputs=11 times max_batch_size=1000 is not possible: 10000"):
        load(f"@app.function()\n{decorators}def f(): pass\n")


@pytest.mark.covers("concurrent", "concurrent(*)", "batched", "batched(*)")
def test_the_server_is_told(load: Callable[..., Any], server: FakeServer) -> None:
    module = load(
        "@app.function()\n@squall.concurrent(max_inputs=20, target_inputs=5)\n"
        "@squall.batched(max_batch_size=8, wait_ms=100)\ndef f(x): return x\n"
        "@app.function(single_use_containers=True)\ndef once(): pass\n"
        "@app.function()\ndef plain(): pass\n"
    )
    with module.app.run():
        (app,) = server.apps.values()
        spec = app.specs["f"]
        assert (spec.concurrency, spec.batching) == (Concurrency(20, 5), Batching(8, 0.1))
        assert spec.capacity == 160
        assert app.specs["once"].single_use
        plain = app.specs["plain"]
        assert (plain.concurrency, plain.batching, plain.single_use) == (Concurrency(), Batching(), False)
        assert plain.capacity == 1

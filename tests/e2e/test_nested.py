"""Parents that wait for their children leave them the CPU; what can never go on says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from squall import exception
from tests.e2e.apps import nested

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.kit import Daemon

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", autouse=True)
def app(here: Daemon) -> Iterator[Daemon]:
    with nested.app.run():
        yield here


def test_more_parents_than_cores(app: Daemon) -> None:
    parents = 20 * (sum(n.cpu_millis for n in app.status().nodes) // 1000)
    assert list(nested.parent.map([1] * parents)) == [2] * parents


@pytest.mark.parametrize(("function", "result"), [("spawning", 6), ("mapping", 15), ("waiting", 15)])
def test_however_they_wait(function: str, result: int) -> None:
    """Each makes one call, or five."""
    assert list(getattr(nested, function).map([5] * 10)) == [result] * 10


def test_recursion() -> None:
    assert nested.fib.remote(6) == 8


def test_recursion_beyond_max_containers() -> None:
    assert nested.deep.remote(1) == 1
    with pytest.raises(exception.ResourceExhaustedError, match=r"deadlock: all 2 containers .*raise max_c"):
        nested.deep.remote(2)
    assert nested.deep.remote(1) == 1

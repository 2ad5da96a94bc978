"""What ends an input or its container, and what a function is given: each told as what it is."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from squall import exception
from tests.e2e.apps import calls
from tests.e2e.kit import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.kit import Daemon

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", autouse=True)
def running(here: Daemon) -> Iterator[None]:
    with calls.app.run():
        yield


def test_root_gets_the_namespaces_driver(here: Daemon, isolation_is_possible: bool) -> None:
    assert here.record.driver == ("namespaces" if isolation_is_possible else "process")
    assert here.status().nodes[0].driver == here.record.driver


def test_a_timeout() -> None:
    with pytest.raises(exception.FunctionTimeoutError, match="timeout of 1 seconds"):
        calls.slow.remote(600)
    assert calls.slow.remote(0) == "in time"


@pytest.mark.parametrize(
    ("how", "told"),
    [("exit", "SystemExit: 3"), ("_exit", "exited with code 3"), ("segfault", "crashed (SIGSEGV)")],
)
def test_a_function_that_ends_its_process(how: str, told: str) -> None:
    with pytest.raises(exception.RemoteError) as caught:
        calls.leave.remote(how)
    assert told in str(caught.value)
    assert calls.leave.remote("not") == "still here"


def test_running_out_of_memory_is_told_as_such(isolated: Daemon) -> None:
    assert calls.hog.remote(20) == 20 << 20
    with pytest.raises(exception.RemoteError, match=r"out of memory.*128 MiB"):
        calls.hog.remote(1000)
    assert calls.hog.remote(10) == 10 << 20


def test_the_environment() -> None:
    assert calls.environment.remote("COLOUR") == "green"
    assert calls.environment.remote("EMPTY") == ""
    assert calls.environment.remote("SQUALL_IS_REMOTE") == "1"
    assert calls.environment.remote("SQUALL_TOKEN") is None
    assert os.environ.get("COLOUR") is None


def test_a_limit_of_cpu_holds(isolated: Daemon) -> None:
    """0.3 cores: measured over more than ten of the kernel's periods."""
    assert calls.spin.remote(1.5) < 0.45


def test_no_more_containers_than_allowed() -> None:
    assert len(set(calls.task.map([0.2] * 12))) <= 2


def test_one_container_works_for_many_calls() -> None:
    first = calls.short_lived.remote()
    assert [calls.short_lived.remote() for _ in range(5)] == [first] * 5


def test_from_zero_and_back(here: Daemon) -> None:
    name = "short_lived"
    until(lambda: not here.containers(name), "no container of it at first")
    first = calls.short_lived.remote()
    assert [c.id for c in here.containers(name)] == [first]
    began = time.monotonic()
    until(lambda: not here.containers(name), "the idle container ends")
    assert time.monotonic() - began > 1
    assert calls.short_lived.remote() != first


def test_many_threads_call_at_once() -> None:
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(calls.double.remote, range(64))) == [2 * x for x in range(64)]

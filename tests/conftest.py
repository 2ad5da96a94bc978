"""For all tests: nobody leaves anything behind on the host."""

from __future__ import annotations

import os
import secrets
import signal
from typing import TYPE_CHECKING

import pytest

from tests.house import leaks

if TYPE_CHECKING:
    from collections.abc import Iterator


if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # As a shell starts what it puts in the background; programs of the tests would not hear Ctrl-C, either.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fails the session when a process, mount, cgroup, link or table of the tests outlives them."""
    token = secrets.token_hex(8)
    os.environ[leaks.MARK] = token
    before = leaks.snapshot()
    yield
    found = leaks.wait_for_leaks(before, (f"{leaks.MARK}={token}", f"{tmp_path_factory.getbasetemp()}/"))
    del os.environ[leaks.MARK]
    if found:
        pytest.fail("The tests left behind on this host:\n  " + "\n  ".join(found), pytrace=False)

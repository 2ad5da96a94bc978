"""The launcher is killed under a running system: who is at work notices nothing."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.e2e.apps import calls
from tests.e2e.kit import until

if TYPE_CHECKING:
    from tests.e2e.kit import Daemon

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_a_generator_goes_on_and_new_containers_start(isolated: Daemon) -> None:
    """A generator is never run again after its first yield: if all of it comes, its container lived on."""
    with calls.app.run():
        yielded = calls.slowly.remote_gen(30, 0.1)
        first = [next(yielded), next(yielded)]
        killed = isolated.child("launcher")
        killed.signal(signal.SIGKILL)
        assert [*first, *yielded] == list(range(30))
        until(lambda: isolated.child("launcher") != killed)
        assert calls.short_lived.remote(), "a container of the next launcher"

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from squall.runtime import capabilities
from squall.runtime.capabilities import CONTAINER_CAPS, mask_of
from tests.house.slowness import SLOWNESS

NET_RAW, NET_ADMIN, SYS_ADMIN, MKNOD = 13, 12, 21, 27


def status_after(code: str) -> dict[str, int]:
    """The capability sets of a child process after it has run `code`, and of what it then executes."""
    script = f"""
import os
from squall.runtime.capabilities import *
{code}
if os.environ.get("EXEC"):
    os.execv("/bin/cat", ["cat", "/proc/self/status"])
print(open("/proc/self/status").read())
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60 * SLOWNESS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = (line.split() for line in done.stdout.splitlines() if line.startswith("Cap"))
    return {name.rstrip(":"): int(mask, 16) for name, mask in lines}


def _own_capabilities() -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1], 16) for line in file if line.startswith("CapEff"))


needs_root = pytest.mark.skipif(
    _own_capabilities() & CONTAINER_CAPS != CONTAINER_CAPS,
    reason="needs root, with capabilities that can be dropped",
)


def test_containers_have_dockers_default_but_forged_packets_and_devices() -> None:
    docker = 0xA80425FB  # what `docker run` shows as CapPrm
    assert docker & ~mask_of(NET_RAW, MKNOD) == CONTAINER_CAPS


def test_nothing_that_reaches_beyond_the_container() -> None:
    assert not CONTAINER_CAPS & mask_of(NET_ADMIN, SYS_ADMIN, NET_RAW, MKNOD)
    assert CONTAINER_CAPS >> capabilities.SETUID & 1


@pytest.mark.root
@needs_root
@pytest.mark.parametrize("executed", ["", "1"])
def test_sets_are_exactly_what_was_asked(monkeypatch: pytest.MonkeyPatch, executed: str) -> None:
    monkeypatch.setenv("EXEC", executed)
    sets = status_after("drop_bounding(CONTAINER_CAPS); set_caps(CONTAINER_CAPS)")
    assert sets["CapBnd"] == CONTAINER_CAPS & sets["CapBnd"]
    assert sets["CapPrm"] == sets["CapEff"] == sets["CapBnd"]
    assert sets["CapInh"] == sets["CapAmb"] == 0


@pytest.mark.root
@needs_root
def test_no_capabilities_at_all() -> None:
    assert set(status_after("drop_bounding(0); set_caps(0)").values()) == {0}


@pytest.mark.root
@needs_root
def test_what_one_has_not_cannot_be_taken() -> None:
    code = """
set_caps(0)
for step in (lambda: set_caps(CONTAINER_CAPS), lambda: drop_bounding(0)):
    try:
        step()
    except PermissionError as error:
        continue
    raise SystemExit("not refused")
"""
    assert status_after(code)["CapEff"] == 0

"""A real GPU in a container. tests/runtime/test_gpus.py has what needs none."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from squall.runtime.gpus import found

if TYPE_CHECKING:
    from tests.e2e.kit import Daemon

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

EXAMPLES = Path(__file__).parents[2] / "examples"

WITHOUT = """
import ctypes, os
import squall

app = squall.App("e2e-without-gpu")


@app.function()
def look() -> tuple[list[str], bool]:
    try:
        usable = ctypes.CDLL("libcuda.so.1").cuInit(0) == 0  # a copy of the host's /usr has it
    except OSError:
        usable = False
    return [name for name in os.listdir("/dev") if name.startswith("nvidia")], usable


@app.local_entrypoint()
def main() -> None:
    print(look.remote())
"""


@pytest.fixture(scope="module")
def gpu(here: Daemon) -> str:
    """The type of this machine's first GPU."""
    gpus = found()
    if not gpus:
        pytest.skip("needs an NVIDIA GPU with its kernel driver")
    assert here.status().nodes[0].gpus[gpus[0].type] >= 1
    return gpus[0].type


def test_a_container_computes_on_a_gpu(here: Daemon, gpu: str) -> None:
    done = here.squall("run", "-q", str(EXAMPLES / "gpu_saxpy.py"), "--gpu", gpu)
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    for line in lines:
        told = re.fullmatch(r"(.+) \(one of 1\): sum 8000000 in \d+ ms", line)
        assert told, line
    listed = subprocess.run(["nvidia-smi", "-L"], check=True, capture_output=True, text=True).stdout
    assert lines[0].partition(" (")[0] in listed


def test_without_asking_there_is_no_gpu(isolated: Daemon, gpu: str, tmp_path: Path) -> None:
    assert gpu
    (tmp_path / "without.py").write_text(WITHOUT)
    done = isolated.squall("run", "-q", "without.py", cwd=tmp_path)
    assert done.stdout == "([], False)\n"


def test_more_gpus_than_there_are_is_an_error(here: Daemon, gpu: str) -> None:
    done = here.squall("run", str(EXAMPLES / "gpu_saxpy.py"), "--gpu", f"{gpu}:8", code=1)
    assert f"gpu={gpu}:8" in done.stderr

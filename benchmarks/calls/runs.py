"""Worker processes of the peers, asked in turns."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from benchmarks.calls import tree

if TYPE_CHECKING:
    from benchmarks.calls.measures import Measure


class Run:
    """A peer that is up. Use as a context: its processes and its folder go at the end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._folder = tempfile.mkdtemp(prefix=f"bench-{name}-")
        os.chmod(self._folder, 0o755)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.calls.worker", name, self._folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"},
        )
        self._answer()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        shutil.rmtree(self._folder, ignore_errors=True)

    def seconds(self, measure: Measure) -> float:
        """Of one operation, in one round."""
        method = measure.ray_method if self.name == "ray" and measure.ray_method else measure.method
        cpus = sorted(os.sched_getaffinity(0))
        tree.pin(self._processes(), set(cpus[:1] if measure.one_cpu else cpus))
        return measure.per_operation(self._ask(method, list(measure.arguments)))

    def cpu_seconds(self, calls: int) -> float:
        """CPU time of one warm call that does nothing, in all processes together."""
        pids = self._processes()
        before = tree.cpu_seconds(pids)
        self._ask("remote", [calls])
        return (tree.cpu_seconds(pids) - before) / calls

    def _processes(self) -> set[int]:
        return tree.processes(self._process.pid, self._folder)

    def _ask(self, method: str, arguments: list[int]) -> list[float]:
        assert self._process.stdin is not None
        print(json.dumps([method, arguments]), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> list[float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"benchmarks: {self.name} has ended: see above")
        answer: Any = json.loads(line)
        return list(answer)

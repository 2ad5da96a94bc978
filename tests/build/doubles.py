"""Stand-ins for the node's side of a build: a sandbox that records, a host that copies nothing, files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from squall.build.aptconfig import AptSettings
from squall.build.base import Files, HostRunner, Sandbox, StepResult
from squall.build.machine import Machine
from squall.build.pipconfig import PipSettings
from squall.build.process import DirectHostRunner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from squall.wire.values import Manifest


@dataclass
class Call:
    layers: tuple[str, ...]
    upper: Path
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    binds: Mapping[str, str]


@dataclass
class RecordingSandbox(Sandbox):
    """Writes one file into the upper for each command, and ends it with `code`."""

    code: int = 0
    calls: list[Call] = field(default_factory=list)
    during: Callable[[Call], None] = lambda _: None

    async def run(
        self,
        layers: tuple[str, ...],
        upper: Path,
        argv: tuple[str, ...],
        *,
        env: Mapping[str, str],
        cwd: str,
        binds: Mapping[str, str],
        log: Callable[[bytes], None],
    ) -> StepResult:
        call = Call(layers, upper, argv, dict(env), cwd, dict(binds))
        self.calls.append(call)
        self.during(call)
        _make(upper, f"file-{len(self.calls)}")
        log(b"working\n")
        return StepResult(self.code, "last words")


@dataclass
class FakeHost(HostRunner):
    """Makes empty bases; really removes directories."""

    fail: tuple[str, ...] = ()
    ran: list[str] = field(default_factory=list)

    async def debian_base(self, target: Path, suite: str, log: Callable[[bytes], None]) -> StepResult:
        log(f"{suite}\n".encode())
        return self._make("debian", target)

    async def host_base(self, target: Path, log: Callable[[bytes], None], *, own_python: bool) -> StepResult:
        log(f"own Python: {own_python}\n".encode())
        return self._make("host", target)

    async def remove(self, tree: Path) -> None:
        await DirectHostRunner().remove(tree)

    def _make(self, kind: str, target: Path) -> StepResult:
        self.ran.append(kind)
        if kind in self.fail:
            return StepResult(1, "no mirror")
        _make(target)
        return StepResult(0, "")


@dataclass
class FolderFiles(Files):
    folder: Path

    async def tree(self, manifest_id: str, manifest: Manifest) -> Path:  # noqa: ARG002 - the interface's
        return self.folder


def _make(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()


def debian(python: str = "3.11", pip: PipSettings | None = None) -> Machine:
    apt = AptSettings("bookworm", (), (), ())
    return Machine(pip or PipSettings(), apt, python, "x86_64")

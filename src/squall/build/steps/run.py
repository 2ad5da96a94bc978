"""`run_commands`: shell commands, one after the other; the first that fails ends the build."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from squall.build.base import StepResult
from squall.build.steps.step import ImageStep

if TYPE_CHECKING:
    from squall.build.steps.step import Arguments, Bench


@dataclass(frozen=True)
class Run(ImageStep):
    commands: tuple[str, ...]

    unisolated: ClassVar[str] = (
        "the process driver runs commands on the machine itself, as the agent's user; to be root of an image "
        "they need the namespaces driver (`squall doctor` says what for)"
    )

    @classmethod
    def parse(cls, args: Arguments) -> Run:
        return cls(args.texts("commands"))

    @property
    def title(self) -> str:
        first, *others = self.commands
        return f"run_commands {first}" + (f" and {len(others)} more" if others else "")

    async def run(self, bench: Bench) -> StepResult:
        result = StepResult(0, "")
        for command in self.commands:
            result = await bench.run(("/bin/sh", "-c", command))
            if result.exit_code != 0:
                break
        return result

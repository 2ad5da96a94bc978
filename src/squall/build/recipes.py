"""What both builders do with a recipe: check it before anything runs, and word progress and failures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from squall.build import steps
from squall.build.base import BuildError, StepResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from squall.build.steps import ImageConfig, ImageStep
    from squall.wire.values import Recipe, Step

#: Titles hold a tenant's text; logs and errors show so much of it.
MAX_TITLE = 120

MAX_STEPS = 200

DEBIAN_SLIM = "debian_slim"


@dataclass(frozen=True)
class Stage:
    """Step `number` (from 1) of `total`: as sent, and as understood."""

    number: int
    total: int
    step: Step
    action: ImageStep

    def within(self, config: ImageConfig) -> ImageConfig:
        """What its commands see of the image's configuration, with the variables of this step alone."""
        own = self.step.args.get("env") if self.step.kind in steps.OWN_ENV else None
        return replace(config, env={**config.env, **own}) if own else config

    @property
    def title(self) -> str:
        line = " ".join(self.action.title.split())
        return line if len(line) <= MAX_TITLE else line[: MAX_TITLE - 3] + "..."

    def check(self, result: StepResult, hint: str = "") -> None:
        """Raises BuildError, with the last lines of the output, unless the step ended well."""
        if result.exit_code != 0:
            where = f"step {self.number} of {self.total} ({self.title})"
            why = f"; {hint}" if hint else ""
            raise BuildError(f"{where} failed with exit code {result.exit_code}{why}", result.tail)


class Log:
    """Sends output together with the number of the step that it belongs to; the base system is step 0."""

    def __init__(self, send: Callable[[bytes, int, int], None], total: int) -> None:
        self._send = send
        self._total = total
        self._number = 0

    def begin(self, stage: Stage, note: str = "") -> None:
        self._number = stage.number
        self.say(f"Step {stage.number} of {self._total}: {stage.title}{note}")

    def say(self, line: str) -> None:
        self.write(line.encode(errors="replace") + b"\n")

    def write(self, data: bytes) -> None:
        self._send(data, self._number, self._total)


def stages(recipe: Recipe) -> list[Stage]:
    """All steps of a recipe, checked. Raises BuildError."""
    if recipe.base != DEBIAN_SLIM:
        raise BuildError(f"unknown base {recipe.base[:100]!r}; this node has {DEBIAN_SLIM}")
    total = len(recipe.steps)
    if total > MAX_STEPS:
        raise BuildError(f"the image has {total} steps; merge some, at most {MAX_STEPS} are possible")
    return [Stage(number, total, step, steps.parse(step)) for number, step in enumerate(recipe.steps, 1)]

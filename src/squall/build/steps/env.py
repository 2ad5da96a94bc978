"""`env`: variables for the steps that follow and for containers. Makes no layer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from squall.build.steps.step import ImageStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from squall.build.steps.step import Arguments, ImageConfig


@dataclass(frozen=True)
class Env(ImageStep):
    variables: Mapping[str, str]

    makes_layer: ClassVar[bool] = False

    @classmethod
    def parse(cls, args: Arguments) -> Env:
        variables = args.mapping("vars")
        wrong = next((name for name in variables if not name or "=" in name), None)
        if wrong is not None:
            raise args.error(f"{wrong[:200]!r} cannot be the name of a variable")
        return cls(variables)

    @property
    def title(self) -> str:
        return f"env {' '.join(self.variables)}"

    def configure(self, config: ImageConfig) -> ImageConfig:
        return replace(config, env={**config.env, **self.variables})

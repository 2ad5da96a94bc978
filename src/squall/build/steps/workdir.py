"""`workdir`: where the steps that follow and containers start. Makes no layer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from squall.build.steps.step import ImageStep

if TYPE_CHECKING:
    from squall.build.steps.step import Arguments, ImageConfig


@dataclass(frozen=True)
class Workdir(ImageStep):
    path: str

    makes_layer: ClassVar[bool] = False

    @classmethod
    def parse(cls, args: Arguments) -> Workdir:
        return cls(args.path("path"))

    @property
    def title(self) -> str:
        return f"workdir {self.path}"

    def configure(self, config: ImageConfig) -> ImageConfig:
        return replace(config, workdir=self.path)

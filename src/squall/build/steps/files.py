"""`add_local_*` with copy=True: the files of a manifest become part of the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from squall.build.steps.step import ImageStep

if TYPE_CHECKING:
    from squall.build.base import StepResult
    from squall.build.steps.step import Arguments, Bench

#: What belongs to the host's agent there belongs to the image's root here.
_SCRIPT = 'mkdir -p -- "$2" && cp -R --preserve=mode,timestamps -- "$1/." "$2"'


@dataclass(frozen=True)
class Files(ImageStep):
    manifest: str
    target: str

    refusal: ClassVar[str] = (
        "add_local_file(copy=True) needs the namespaces driver (run the daemon as root on Linux); "
        "with the process driver, leave copy=True out"
    )

    @classmethod
    def parse(cls, args: Arguments) -> Files:
        return cls(args.required("manifest"), args.path("target"))

    @property
    def title(self) -> str:
        return f"add_local_file {self.target}"

    async def run(self, bench: Bench) -> StepResult:
        source = await bench.show(self.manifest)
        return await bench.run(("/bin/sh", "-c", _SCRIPT, "add_local_file", source, self.target))

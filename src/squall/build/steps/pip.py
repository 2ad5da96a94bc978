"""`pip_install`: Python packages, by uv, from where the machine's own pip finds them."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from squall.build.steps.step import ImageStep

if TYPE_CHECKING:
    from squall.build.base import StepResult
    from squall.build.steps.step import Arguments, Bench


@dataclass(frozen=True)
class Pip(ImageStep):
    packages: tuple[str, ...]
    find_links: str = ""
    index_url: str = ""
    extra_index_url: str = ""
    pre: bool = False
    extra_options: tuple[str, ...] = ()

    @classmethod
    def parse(cls, args: Arguments) -> Pip:
        packages = args.texts("packages")
        wrong = next((p for p in packages if p.lstrip().startswith("-") or "\n" in p), None)
        if wrong is not None:
            raise args.error(f"{wrong[:200]!r} is no package; options belong in extra_options")
        try:
            extra = tuple(shlex.split(args.text("extra_options")))
        except ValueError as error:
            raise args.error(f"extra_options cannot be split into words: {error}") from None
        return cls(
            packages,
            args.text("find_links"),
            args.text("index_url"),
            args.text("extra_index_url"),
            args.flag("pre"),
            extra,
        )

    @property
    def title(self) -> str:
        return f"pip_install {' '.join(self.packages)}"

    async def run(self, bench: Bench) -> StepResult:
        options = (*bench.uv_options, *self._options(bench), *self.extra_options)
        return await bench.run(
            (bench.uv, "pip", "install", "--python", bench.python, *options, "--", *self.packages)
        )

    def _options(self, bench: Bench) -> list[str]:
        """Written as `--name=value`, so that no value can be taken for an option."""
        options = ["--no-index"] if bench.pip.no_index and not self.index_url else []
        if self.find_links:  # on the command line they would replace the machine's own
            options += [f"--find-links={link}" for link in (*bench.pip.find_links, self.find_links)]
        if self.index_url:
            options.append(f"--default-index={self.index_url}")
        if self.extra_index_url:
            options += [f"--index={url}" for url in (self.extra_index_url, *bench.pip.extra_index_urls)]
        return [*options, "--prerelease=allow"] if self.pre else options

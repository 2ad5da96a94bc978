"""`apt_install`: Debian packages, from the mirrors of the machine's own distribution."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from squall.build.steps.step import ImageStep

if TYPE_CHECKING:
    from squall.build.base import StepResult
    from squall.build.steps.step import Arguments, Bench

#: A package, with `:arch`, `=version` or `/release` where wanted.
_PACKAGE = re.compile(r"[a-z0-9][A-Za-z0-9+.:~=/-]*")

#: The package lists and archives are gone again before the layer is taken.
_SCRIPT = """\
apt-get update && apt-get install --yes --no-install-recommends -- "$@"
code=$?
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb
exit $code
"""


@dataclass(frozen=True)
class Apt(ImageStep):
    packages: tuple[str, ...]

    refusal: ClassVar[str] = (
        "apt_install needs the namespaces driver (run the daemon as root on Linux); "
        "with the process driver, install the packages on the machine and leave the step out"
    )

    @classmethod
    def parse(cls, args: Arguments) -> Apt:
        packages = args.texts("packages")
        wrong = next((p for p in packages if not _PACKAGE.fullmatch(p)), None)
        if wrong is not None:
            raise args.error(f"{wrong[:200]!r} is no name of a Debian package")
        return cls(packages)

    @property
    def title(self) -> str:
        return f"apt_install {' '.join(self.packages)}"

    async def run(self, bench: Bench) -> StepResult:
        return await bench.run(("/bin/sh", "-c", _SCRIPT, "apt_install", *self.packages))

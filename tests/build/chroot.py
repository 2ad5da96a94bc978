"""A sandbox for tests that run real builds as root: overlay and chroot in a private mount namespace.

No isolation to rely on: the node's own sandbox has that, and its own tests.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from squall.build import process
from squall.build.base import Sandbox, StepResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SCRIPT = """\
set -e
root=$1 options=$2 cwd=$3 count=$4
shift 4
mount -t overlay overlay -o "$options" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs dev "$root/dev"
for name in null urandom random zero; do
    touch "$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
while [ "$count" -gt 0 ]; do
    mount --bind "$1" "$root$2"
    mount -o remount,bind,ro "$root$2"
    shift 2
    count=$((count - 1))
done
touch "$root/etc/resolv.conf"
mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
mkdir -p "$root$cwd"
exec chroot "$root" /bin/sh -c 'cd "$1" && shift && exec "$@"' sh "$cwd" "$@"
"""


@dataclass
class ChrootSandbox(Sandbox):
    scratch: Path

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
        root, overlay = self._points(upper)
        options = f"lowerdir={':'.join(reversed(layers))},upperdir={upper},workdir={overlay}"
        pairs = [part for pair in binds.items() for part in pair]
        command = (str(root), options, cwd, str(len(binds)), *pairs, *argv)
        unshare = ("unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", _SCRIPT, "chroot")
        return await process.run((*unshare, *command), log, env=env)

    def _points(self, upper: Path) -> tuple[Path, Path]:
        """A mount point and the overlay's work directory."""
        upper.mkdir(exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=self.scratch))
        points = work / "root", work / "overlay"
        for point in points:
            point.mkdir()
        return points

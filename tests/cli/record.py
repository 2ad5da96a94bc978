"""`scripts/record-terminal`: the main job on a terminal, as docs/terminal.svg."""

from __future__ import annotations

import codecs
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.cli import svg
from tests.cli.pseudo import Pseudo
from tests.cli.screen import Screen
from tests.house.source import ROOT

WIDTH, HEIGHT = 92, 22
#: Seconds that the recording is shown for, and pictures in it: the job takes longer, so it is played faster.
SHOWN, PICTURES = 24.0, 110
#: Seconds that the job may take.
PATIENCE = 600.0
#: A sequence of which only the beginning has come.
_TORN = re.compile(r"\x1b(\[[0-9;?]*)?$")
JOB = ["examples/classify_files.py", "--folder", "/usr/lib", "--limit", "2000"]


def main(arguments: list[str]) -> int:
    state = tempfile.mkdtemp(prefix="squall-recording-", dir="/var/tmp")
    environment = {**os.environ, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", "SQUALL_STATE": state}
    environment.pop("NO_COLOR", None)
    squall = str(Path(sys.executable).with_name("squall"))
    job = arguments or JOB
    try:
        with Pseudo(
            [squall, "run", *job], environment=environment, cwd=str(ROOT), size=(WIDTH, HEIGHT)
        ) as program:
            code = program.end(PATIENCE)
            moments = program.moments
    finally:
        subprocess.run([squall, "daemon", "stop"], env=environment, check=False)
        shutil.rmtree(state, ignore_errors=True)
    if code:
        sys.stdout.write(program.output)
        return code
    took = moments[-1][0]
    speed = max(1.0, took / SHOWN)
    shown = pictures(moments, f"$ squall run {' '.join(job)}", speed)
    title = f"squall run in a terminal: {took:.0f} seconds, {speed:.0f} times as fast"
    target = ROOT / "docs" / "terminal.svg"
    target.write_text(svg.animated(shown, WIDTH, HEIGHT, title), "utf-8")
    print(f"{target.relative_to(ROOT)}: {title}; {len(shown)} pictures")
    return 0


def pictures(moments: list[tuple[float, bytes]], prompt: str, speed: float) -> list[svg.Picture]:
    """What the terminal shows at as many moments as there may be pictures, and in the end."""
    step = moments[-1][0] / PICTURES
    screen = Screen(WIDTH)
    screen.feed(f"\x1b[2m{prompt}\x1b[0m\r\n")
    found = [svg.Picture(0.0, screen.styled)]
    decode = codecs.getincrementaldecoder("utf-8")().decode
    rest, due = "", 0.0
    for second, data in moments:
        if second >= due and screen.styled != found[-1].lines:
            found.append(svg.Picture(second / speed, screen.styled))
            due = second + step
        text = rest + decode(data)
        torn = _TORN.search(text)
        rest = torn[0] if torn else ""
        screen.feed(text.removesuffix(rest))
    return [*found, svg.Picture(moments[-1][0] / speed, screen.styled)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

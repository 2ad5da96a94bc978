"""Real builds as root: mmdebstrap from the machine's mirror once, then steps on top of it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from squall.build import machine
from squall.build.base import BuildError, BuiltImage, StepResult
from squall.build.bases import host
from squall.build.bases.host import HostCopy
from squall.build.directories import DirectoryBuilder
from squall.build.process import DirectHostRunner
from squall.wire.values import FileEntry, Manifest, Recipe, Step
from tests.build.chroot import ChrootSandbox
from tests.build.doubles import FolderFiles

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

#: Starts to make the base, until it is killed.
_CHILD = """\
import asyncio, sys
from pathlib import Path
from squall.build.directories import DirectoryBuilder
from squall.build.process import DirectHostRunner
from squall.wire.values import Recipe
builder = DirectoryBuilder(Path(sys.argv[1]), None, None, DirectHostRunner())
asyncio.run(builder.ensure(Recipe("debian_slim"), {}, lambda *_: None))
"""


@dataclass
class Made:
    """What the fixture made, and what it saw on the way."""

    builder: DirectoryBuilder
    state: Path
    base: BuiltImage
    swept: list[str]
    lines: list[bytes]

    def ensure(self, *steps: Step, manifests: dict[str, Manifest] | None = None) -> BuiltImage:
        recipe = Recipe("debian_slim", "", list(steps))
        return asyncio.run(self.builder.ensure(recipe, manifests or {}, self._log))

    def _log(self, data: bytes, _number: int, _total: int) -> None:
        self.lines.append(data)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if shutil.which("mmdebstrap") is None:
        pytest.skip("needs mmdebstrap (apt-get install mmdebstrap)")
    if not asyncio.run(machine.read()).apt.suite:
        pytest.skip("this machine has no Debian sources of its own release")
    state = tmp_path_factory.mktemp("state")
    (state / "scratch").mkdir()
    _start_and_kill(state)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HostCopy, "find", _no_host)
        yield _make(state)
    shutil.rmtree(state)


async def _no_host(_: str) -> None:
    return None


def _make(state: Path) -> Made:
    files = state / "files"
    files.mkdir()
    (files / "hello.txt").write_text("hello")
    builder = DirectoryBuilder(
        state, ChrootSandbox(state / "scratch"), FolderFiles(files), DirectHostRunner()
    )
    made = Made(builder, state, BuiltImage("", ()), asyncio.run(builder.sweep()), [])
    try:
        made.base = made.ensure()
    except BuildError as error:
        pytest.skip(f"the machine's mirror cannot be used: {error}\n{error.tail}")
    return made


def _start_and_kill(state: Path) -> None:
    """Kill an agent, and not what it started, when the base is half made."""
    child = subprocess.Popen([sys.executable, "-c", _CHILD, str(state)])
    deadline = time.monotonic() + 60
    while not list(state.glob("layers/la-*/fs/var/lib")) and time.monotonic() < deadline:
        if child.poll() is not None:
            break
        time.sleep(0.05)
    child.kill()
    child.wait()
    _end_those_that_name(str(state))


def _end_those_that_name(text: str) -> None:
    """mmdebstrap, whose agent is gone, ends when it next writes; do not wait for that."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if text.encode() in command and b"mmdebstrap" in command:
            os.killpg(os.getpgid(int(folder.name)), signal.SIGKILL)


def test_the_base_is_whole_and_belongs_to_root(made: Made) -> None:
    fs = Path(made.base.layers[0])

    strangers = subprocess.run(
        ["find", str(fs), "-maxdepth", "3", "!", "-uid", "0"], capture_output=True, text=True, check=True
    )
    assert strangers.stdout == ""
    assert fs.stat().st_mode & 0o777 == 0o755
    assert os.access(f"{fs}{made.base.python}", os.X_OK)


def test_nothing_of_the_machine_is_in_it(made: Made) -> None:
    fs = Path(made.base.layers[0])

    assert not (fs / "etc/resolv.conf").exists()
    assert not (fs / "etc/hostname").exists()
    assert list((fs / "etc/apt/sources.list.d").iterdir()) == []
    assert not list((fs / "etc/apt").rglob("*mmdebstrap*"))
    assert [p.name for p in (fs / "dev").iterdir()] == []
    assert [p.name for p in (fs / "run").iterdir()] == ["squall-build"]


def test_the_killed_build_was_swept_away(made: Made) -> None:
    assert len(made.swept) == 1
    assert not (made.state / "layers" / made.swept[0]).exists()


def test_the_second_time_is_instantaneous(made: Made) -> None:
    calls = len(made.lines)

    assert made.ensure() == made.base
    assert len(made.lines) == calls


def test_steps_on_top(made: Made) -> None:
    manifest = Manifest([FileEntry("hello.txt", "0" * 64, 5)])
    image = made.ensure(
        Step("env", {"vars": {"WORD": "there"}}),
        Step("workdir", {"path": "/work"}),
        Step("files", {"manifest": "mo-1", "target": "/data/in"}),
        Step("pip", {"packages": ["six"]}),
        Step("apt", {"packages": ["sl"]}),
        Step(
            "run", {"commands": ['echo "$(cat /data/in/hello.txt) $WORD" > out', "python3 -c 'import six'"]}
        ),
        manifests={"mo-1": manifest},
    )

    files, pip, apt, run = (Path(layer) for layer in image.layers[1:])
    assert (files / "data/in/hello.txt").read_text() == "hello"
    assert list(pip.glob("usr/local/lib/python3.*/dist-packages/six.py"))
    assert (apt / "usr/games/sl").exists()
    assert not list((apt / "var/lib/apt/lists").glob("*Packages*"))
    assert (run / "work/out").read_text() == "hello there\n"
    for layer in (files, pip, apt, run):
        assert not (layer / "run/squall-build").exists()


def test_a_step_that_fails_says_so(made: Made) -> None:
    with pytest.raises(BuildError, match=r"step 1 of 1 \(apt_install no-such-package\) failed") as caught:
        made.ensure(Step("apt", {"packages": ["no-such-package"]}))
    assert "Unable to locate package no-such-package" in caught.value.tail


def test_the_copy_of_a_host_is_a_base_too(made: Made) -> None:
    """Inside of the Debian base, which is a small host."""
    upper = made.state / "copied"

    def run(*argv: str) -> StepResult:
        sandbox = ChrootSandbox(made.state / "scratch")
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        command = sandbox.run(made.base.layers, upper, argv, env=env, cwd="/", binds={}, log=lambda _: None)
        return asyncio.run(command)

    copied = run("/bin/sh", "-c", host._SCRIPT, "host", "/copy", "/usr/share/doc/base-files")
    code = "import ssl, sqlite3; print(ssl.create_default_context().cert_store_stats()['x509_ca'] > 0)"
    used = run("chroot", "/copy", made.base.python, "-c", code)

    assert copied == StepResult(0, "")
    assert used == StepResult(0, "True")
    assert (upper / "copy/run/squall-build").is_dir()
    assert not (upper / "copy/etc/shadow").exists()
    assert [p.name for p in (upper / "copy/usr/share/doc").iterdir()] == ["base-files"]
